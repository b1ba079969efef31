"""Voxel protocols: each against its plain script, known literals, and the doors."""

import json

import numpy as np
import plain_scripts as plain
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import MulticlassConfusionMatrix

from occkit.geometry import OCC3D_GRID, VoxelGrid
from occkit.metrics import PROTOCOLS, Evaluator, VoxelProtocol
from occkit.metrics.voxel_iou import count_voxels, mean
from occkit.samples import Occupancy
from occkit.taxonomy import KITTI360, NYUV2, OCC3D, SEMANTICKITTI, SURROUNDOCC

OCC3D_SCRIPTS = {
    "occ3d": plain.occ3d,
    "occ3d-full": lambda frames: plain.occ3d(frames, mask="none"),
    "occ3d-sparseocc": plain.occ3d_sparseocc,
    "occ3d-fbocc": plain.occ3d,
    "langocc": plain.occ3d,
    "gausstr": plain.occ3d,
    "occnerf15": plain.occnerf15,
    "occnerf13": plain.occnerf13,
    "gaussianflowocc": plain.gaussianflowocc,
    "selfocc": lambda frames: plain.selfocc(frames, border=2, from_z=3),
}
# On this grid SelfOcc's 2.4 m of border are two voxels, and 4.8 m above the floor is where layer 3 begins.
SELFOCC_VOXELS = (1.2, 1.2, 1.6)


def same(found, expected):
    """Compare scores to rounding; a score that does not exist must be missing on both sides."""
    found, expected = ([float("nan") if score is None else score for score in side] for side in (found, expected))
    return found == pytest.approx(expected, rel=1e-12, nan_ok=True)


def run(names, frames, taxonomy, *, voxel_size=(0.4, 0.4, 0.4), mask=None, masks=True):
    evaluator = Evaluator(names, mask=mask)
    for i, frame in enumerate(frames):
        label = frame.occupancy(taxonomy, voxel_size=voxel_size, masks=masks)
        evaluator.add(f"frame{i}", frame.prediction, label)
    return evaluator.report()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_occ3d_protocols_equal_their_scripts(seed):
    frames = plain.make_frames(seed, num_classes=18, free=17, outside_labels=(255, 23, 18))
    report = run(list(OCC3D_SCRIPTS), frames, OCC3D, voxel_size=SELFOCC_VOXELS)
    for name, script in OCC3D_SCRIPTS.items():
        assert same((report[name]["miou"], report[name]["iou"]), script(frames)), name
    dynamic = plain.occ3d(frames, classes=(2, 3, 4, 5, 6, 7, 9, 10))[0]
    assert same([report["occ3d-fbocc"]["miou_dynamic"]], [dynamic])
    assert same([report["occnerf15"]["miou_17"]], plain.occ3d(frames, mask="camera&lidar")[:1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_surroundocc_protocols_equal_their_scripts(seed):
    frames = plain.make_frames(seed, num_classes=17, free=0)
    report = run(["surroundocc", "openoccupancy", "gaussianformer"], frames, SURROUNDOCC, masks=False)
    for name in ("surroundocc", "openoccupancy"):
        assert same((report[name]["miou"], report[name]["iou"]), plain.surroundocc(frames))
    gaussianformer = report["gaussianformer"]
    assert same((gaussianformer["miou"], gaussianformer["iou"]), plain.gaussianformer(frames))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize(
    ("name", "taxonomy"), [("monoscene", SEMANTICKITTI), ("monoscene", NYUV2), ("sscbench-kitti360", KITTI360)]
)
def test_ssc_metrics_equal_their_script(name, taxonomy, seed):
    frames = plain.make_frames(seed, num_classes=taxonomy.num_classes, free=0)
    scores = run([name], frames, taxonomy, masks=False)[name]
    found = [scores[key] for key in ("miou", "iou", "precision", "recall")]
    assert same(found, plain.ssc_metrics(frames, taxonomy.num_classes))


@pytest.mark.parametrize("mask", ["camera", "lidar", "camera&lidar", "none"])
def test_mask_can_be_replaced(mask):
    frames = plain.make_frames(3, num_classes=18, free=17, num_frames=3)
    report = run(["occ3d"], frames, OCC3D, mask=mask)["occ3d"]
    assert report["protocol"]["mask"] == mask
    assert same((report["miou"], report["iou"]), plain.occ3d(frames, mask=mask))


def test_confusion_matrix_agrees_with_torchmetrics():
    frame = plain.make_frames(5, num_classes=18, free=17, outside_labels=(255,))[0]
    oracle = MulticlassConfusionMatrix(num_classes=18, ignore_index=255)
    expected = oracle(torch.from_numpy(frame.prediction).long(), torch.from_numpy(frame.label).long())
    counts = count_voxels("frame", frame.prediction, frame.occupancy(OCC3D))
    assert counts.sum(axis=(0, 1)).tolist() == expected.tolist()


def test_absent_classes_separate_the_two_most_cited_scripts():
    """Ten cars, all found, and one stray bus: 50 with the challenge script, 100 with the other."""
    label = np.full((4, 3, 1), 17, np.uint8)
    label.reshape(-1)[:10] = 4
    prediction = label.copy()
    prediction[3, 2, 0] = 3
    everywhere = np.ones(label.shape, bool)
    report = run(["occ3d", "occ3d-sparseocc"], [plain.Frame(label, prediction, everywhere, everywhere)], OCC3D)
    assert report["occ3d"]["miou"] == 0.5
    assert report["occ3d-sparseocc"]["miou"] == 1.0
    assert report["occ3d"]["per_class"]["bus"] == 0.0
    assert report["occ3d-sparseocc"]["per_class"]["bus"] is None
    assert report["occ3d"]["per_class"]["truck"] is None


def test_nothing_to_score_is_null_not_a_number():
    label = np.full((2, 2, 2), 4, np.uint8)
    nowhere = np.zeros(label.shape, bool)
    report = run(["occ3d"], [plain.Frame(label, label, nowhere, nowhere)], OCC3D)
    assert report["occ3d"]["miou"] is None
    assert report["occ3d"]["iou"] is None


# Published rows (percent), each with its mean over 15 classes: the mean must follow from the row.
PUBLISHED = {
    "SimpleOcc": (7.99, ".67 1.18 3.21 7.63 1.02 .26 1.80 .26 1.07 2.81 40.44 18.30 17.01 13.42 10.84"),
    "OccNeRF": (10.81, ".83 .82 5.13 12.49 3.50 .23 3.10 1.84 .52 3.90 52.62 20.81 24.75 18.45 13.19"),
    "SelfOcc": (10.54, ".15 .66 5.46 12.54 .00 .80 2.10 .00 .00 8.25 55.49 26.30 26.54 14.22 5.60"),
    "GaussianOcc": (11.26, "1.79 5.82 14.58 13.55 1.30 2.82 7.95 9.76 .56 9.61 44.59 20.10 17.58 8.61 10.29"),
    "DistillNeRF": (10.12, "1.35 2.08 10.21 10.09 2.56 1.98 5.54 4.62 1.43 7.90 43.02 16.86 15.02 14.06 15.06"),
    "GaussTR": (13.26, "2.09 5.22 14.07 20.43 5.70 7.08 5.12 3.93 .92 13.36 39.44 15.68 22.89 21.17 21.87"),
    "GaussianFlowOcc": (17.08, "7.23 9.33 17.55 17.94 4.50 9.32 8.51 10.66 2.00 11.80 63.89 31.11 35.12 14.64 12.59"),
}
SEVENTEEN = {"OccNeRF": 9.53, "SelfOcc": 9.30, "GaussianOcc": 9.94, "GaussTR": 11.70, "GaussianFlowOcc": 15.07}


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_rows_average_to_their_published_means(method):
    published, row = PUBLISHED[method]
    classes = PROTOCOLS["occnerf15"].classes(OCC3D)
    scores = dict(zip(classes, map(float, row.split()), strict=True))
    assert mean(scores.values()) == pytest.approx(published, abs=0.0101)
    if method in SEVENTEEN:
        with_zeros = scores | {"others": 0.0, "other_flat": 0.0}
        seventeen = mean(with_zeros[name] for name in PROTOCOLS["occ3d"].classes(OCC3D))
        assert seventeen == pytest.approx(SEVENTEEN[method], abs=0.0101)
        assert mean(scores.values()) / seventeen == pytest.approx(17 / 15)


def test_class_sets_have_the_published_sizes():
    sizes = {name: len(p.classes(OCC3D)) for name, p in PROTOCOLS.items() if "occ3d" in p.taxonomies}
    assert sizes == {
        "occ3d": 17,
        "occ3d-full": 17,
        "occ3d-sparseocc": 17,
        "occ3d-fbocc": 17,
        "rayiou": 17,
        "selfocc": 16,
        "occnerf15": 15,
        "occnerf13": 13,
        "gaussianflowocc": 15,
        "langocc": 17,
        "gausstr": 17,
    }
    assert len(PROTOCOLS["semantickitti"].classes(SEMANTICKITTI)) == 19
    assert len(PROTOCOLS["sscbench-kitti360"].classes(KITTI360)) == 18
    assert len(PROTOCOLS["monoscene"].classes(NYUV2)) == 11


@pytest.mark.parametrize(("factor", "border", "from_z"), [(1, 6, 12), (2, 3, 6)])
def test_selfocc_clears_its_voxels_on_the_official_grid_and_the_same_metres_on_a_coarser_one(factor, border, from_z):
    protocol = PROTOCOLS["selfocc"]
    assert isinstance(protocol, VoxelProtocol)
    assert protocol.trim is not None
    grid = OCC3D_GRID.coarsen(factor)
    kept = np.zeros(grid.shape, bool)
    kept[border:-border, border:-border, :from_z] = True
    assert np.array_equal(protocol.trim.region(grid), ~kept)


def test_every_rule_of_a_protocol_is_in_its_report():
    frames = plain.make_frames(1, num_classes=18, free=17)
    names = [n for n, p in PROTOCOLS.items() if "occ3d" in p.taxonomies and isinstance(p, VoxelProtocol)]
    for entry in run(names, frames, OCC3D).values():
        assert {"mask", "classes", "absent_class", "absent_when", "eps", "decimals", "source"} <= set(entry["protocol"])
        assert set(entry) >= {"miou", "iou", "per_class", "counts", "frames"}
        assert list(entry["per_class"]) == [OCC3D.classes[i] for i in OCC3D.semantic_ids]
        for name, value in entry["per_class"].items():
            assert value is None or name in entry["protocol"]["classes"]
    json.dumps(run(names, frames, OCC3D), allow_nan=False)


class TestDoors:
    grid = VoxelGrid(origin=(0, 0, 0), voxel_size=(0.4, 0.4, 0.4), shape=(2, 2, 2))

    def label(self, taxonomy=OCC3D, **masks):
        semantics = torch.full((2, 2, 2), taxonomy.free_id, dtype=torch.uint8)
        return Occupancy(semantics=semantics, grid=self.grid, taxonomy=taxonomy, **masks)

    def free(self, shape=(2, 2, 2), dtype=np.uint8):
        return np.full(shape, 17, dtype)

    @pytest.mark.parametrize("names", [["occ3d"], ["selfocc"]])
    @pytest.mark.parametrize("wrong", [18, 255])
    def test_a_prediction_that_is_no_class_is_refused_even_where_it_is_not_evaluated(self, names, wrong):
        prediction = self.free()
        prediction[0, 0, 0] = wrong
        unseen = torch.zeros(2, 2, 2, dtype=torch.bool)
        with pytest.raises(ValueError, match=f"prediction of odd: id {wrong}"):
            Evaluator(names).add("odd", prediction, self.label(mask_camera=unseen))

    def test_a_wrong_shape_is_refused_by_token(self):
        with pytest.raises(ValueError, match=r"prediction of flat: expected \(2, 2, 2\).*got \(2, 2\)"):
            Evaluator(["occ3d"], mask="none").add("flat", self.free((2, 2)), self.label())

    def test_a_wrong_dtype_is_refused_by_token(self):
        with pytest.raises(TypeError, match="prediction of wide: expected uint8"):
            Evaluator(["occ3d"], mask="none").add("wide", self.free(dtype=np.int64), self.label())

    def test_a_missing_mask_is_refused_with_the_remedy(self):
        with pytest.raises(ValueError, match=r"no camera mask.*--mask none"):
            Evaluator(["occ3d"]).add("bare", self.free(), self.label())

    def test_a_foreign_label_set_is_refused_with_the_protocols_there_are(self):
        with pytest.raises(ValueError, match=r"got semantickitti.*semantickitti, monoscene"):
            Evaluator(["occ3d"], mask="none").add("foreign", self.free(), self.label(SEMANTICKITTI))

    def test_mixed_label_sets_are_refused(self):
        evaluator = Evaluator(["monoscene"])
        evaluator.add("a", np.zeros((2, 2, 2), np.uint8), self.label(SEMANTICKITTI))
        with pytest.raises(ValueError, match="is nyuv2, those before were semantickitti"):
            evaluator.add("b", np.zeros((2, 2, 2), np.uint8), self.label(NYUV2))

    @pytest.mark.parametrize(
        ("names", "mask", "words"),
        [
            (["miou"], None, "'miou' is unknown; there are occ3d"),
            ([], None, "one or more"),
            (["occ3d", "occ3d"], None, "different"),
            (["occ3d"], "radar", "expected one of camera"),
            (["occ3d-fbocc"], "none", "camera mask only"),
            (["rayiou"], "none", "knows no mask"),
        ],
    )
    def test_a_wrong_choice_is_refused(self, names, mask, words):
        with pytest.raises(ValueError, match=words):
            Evaluator(names, mask=mask)

    def test_an_empty_evaluation_has_no_report(self):
        with pytest.raises(ValueError, match="no frame"):
            Evaluator(["occ3d"]).report()
