import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from occkit.data.datasets import open_dataset
from occkit.data.frames import DataConfig, FrameDataset
from occkit.data.occ3d import write_labels
from occkit.data.predictions import list_predictions, read_prediction, write_prediction
from occkit.errors import DataError
from occkit.files import write_json, write_npz
from occkit.metrics import Evaluator
from occkit.samples import Batch, Prediction
from occkit.training import build_system, evaluate, load_recipe
from occkit.training.evaluate import (
    choose_threshold,
    evaluate_model,
    evaluate_predictions,
    evaluate_prior,
    fit_prior,
    predict_dataset,
    write_predictions,
)
from occkit.training.label_sources import LabelsFolder

PROTOCOLS = ["semantickitti", "monoscene"]


@pytest.fixture
def model(recipes: Path) -> nn.Module:
    torch.manual_seed(0)
    model = build_system(load_recipe(f"{recipes}:tiny").system)
    nn.init.normal_(model.places, std=2.0)  # type: ignore[arg-type]
    return model


@pytest.fixture
def frames(tiny_kitti: Path) -> FrameDataset:
    return open_dataset(tiny_kitti, split="val", config=DataConfig(load_depth=False))


class Dense(nn.Module):
    """One density for voxels that are occupied in truth, another for the rest."""

    def __init__(self, frames: FrameDataset, *, there: float, elsewhere: float) -> None:
        super().__init__()
        self.frames, self.there, self.elsewhere = frames, there, elsewhere
        self.threshold, self.thresholds = 0.5, (0.1, 0.3, 0.5, 0.7)

    def forward(self, batch: Batch) -> Prediction:
        label = self.frames.label(batch.tokens[0])
        assert label is not None
        density = torch.where(label.semantics == batch.taxonomy.free_id, self.elsewhere, self.there)
        logits = torch.zeros(1, batch.taxonomy.num_classes, *density.shape)
        logits[0, 1] = 0.5
        logits[0, batch.taxonomy.free_id] = (density < self.threshold).float()
        return Prediction(logits=logits, grid=batch.grid, taxonomy=batch.taxonomy)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, torch.Tensor]:
        return {}


@pytest.mark.parametrize(("there", "best"), [(0.6, 0.5), (0.4, 0.3), (0.2, 0.1)])
def test_a_threshold_is_chosen_by_iou(frames: FrameDataset, there: float, best: float) -> None:
    model = Dense(frames, there=there, elsewhere=there - 0.15)
    assert choose_threshold(model, frames, "semantickitti") == model.threshold == best
    assert evaluate_model(model, frames, ["semantickitti"]).report()["semantickitti"]["iou"] == 1.0
    nothing = Dense(frames, there=0.0, elsewhere=0.0)
    assert choose_threshold(nothing, frames, "semantickitti") == 0.1, "the first of equals"


def test_predictions_are_ids_of_every_frame_and_the_mode_is_kept(model: nn.Module, frames: FrameDataset) -> None:
    model.train()
    found = dict(predict_dataset(model, frames))
    assert tuple(found) == frames.tokens
    assert all(v.dtype == np.uint8 and v.shape == frames.grid.shape for v in found.values())
    assert model.training
    again = dict(predict_dataset(model, frames, tokens=frames.tokens[3:1:-1]))
    assert list(again) == [frames.tokens[3], frames.tokens[2]]
    assert np.array_equal(again[frames.tokens[2]], found[frames.tokens[2]])


def test_a_dump_scores_like_the_model_that_wrote_it(
    model: nn.Module, frames: FrameDataset, tiny_kitti: Path, tmp_path: Path
) -> None:
    direct = evaluate_model(model, frames, PROTOCOLS).report()
    assert write_predictions(model, frames, tmp_path, progress=False) == 5
    assert list_predictions(tmp_path) == frames.tokens
    assert evaluate_predictions(tmp_path, frames, PROTOCOLS).report() == direct
    tree = LabelsFolder(tiny_kitti / "sequences" / "08")
    assert tree.tokens == frames.tokens
    assert evaluate_predictions(tmp_path, tree, PROTOCOLS).report() == direct
    assert direct["semantickitti"]["frames"] == 5


def test_writing_goes_on_where_it_stopped(model: nn.Module, frames: FrameDataset, tmp_path: Path) -> None:
    write_predictions(model, frames, tmp_path, progress=False)
    (tmp_path / f"{frames.tokens[2]}.npz").unlink()
    kept = (tmp_path / f"{frames.tokens[1]}.npz").stat().st_mtime_ns
    assert write_predictions(model, frames, tmp_path, progress=False) == 1
    assert (tmp_path / f"{frames.tokens[1]}.npz").stat().st_mtime_ns == kept
    nn.init.zeros_(model.places)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="another model"):
        write_predictions(model, frames, tmp_path, progress=False)
    (tmp_path / "predictions.json").unlink()
    with pytest.raises(DataError, match="not this model's"):
        write_predictions(model, frames, tmp_path, progress=False)


def test_missing_and_extra_predictions_are_named(model: nn.Module, frames: FrameDataset, tmp_path: Path) -> None:
    write_predictions(model, frames, tmp_path, progress=False)
    shutil.move(tmp_path / f"{frames.tokens[0]}.npz", tmp_path / "08_999999.npz")
    with pytest.raises(DataError, match=r"1 of 5 .*08_000000; 1 predictions have no label, such as 08_999999"):
        evaluate_predictions(tmp_path, frames, PROTOCOLS)
    report = evaluate_predictions(tmp_path, frames, PROTOCOLS, allow_missing=True).report()
    assert report["semantickitti"]["frames"] == 4
    other = tmp_path / "other"
    write_prediction(other, "nothing", np.zeros(frames.grid.shape, dtype=np.uint8))
    with pytest.raises(DataError, match="no prediction has a label"):
        evaluate_predictions(other, frames, PROTOCOLS, allow_missing=True)


def test_predictions_of_other_programs_are_read(tmp_path: Path) -> None:
    volume = np.arange(8).reshape(2, 2, 2)
    for key in ("pred", "arr_0", "semantics"):
        write_npz(tmp_path / "a.npz", **{key: volume})
        found = read_prediction(tmp_path / "a.npz", shape=(2, 2, 2))
        assert found.dtype == np.uint8
        assert np.array_equal(found, volume)
    for wrong in ({"other": volume}, {"pred": volume + 250}, {"pred": volume - 1}, {"pred": volume[0]}):
        write_npz(tmp_path / "a.npz", **wrong)
        with pytest.raises(DataError, match=r"a\.npz"):
            read_prediction(tmp_path / "a.npz", shape=(2, 2, 2))
    with pytest.raises(ValueError, match="uint8"):
        write_prediction(tmp_path, "b", volume)


def test_the_prior_is_fit_on_training_and_scored_on_validation(tiny_kitti: Path, frames: FrameDataset) -> None:
    train_set = open_dataset(tiny_kitti, split="train", config=DataConfig(load_depth=False))
    prior = fit_prior(train_set)
    by_hand = Evaluator(PROTOCOLS)
    for token in frames.tokens:
        label = frames.label(token)
        assert label is not None
        by_hand.add(token, prior.predict(), label)
    assert evaluate_prior(prior, frames, PROTOCOLS).report() == by_hand.report()
    assert evaluate_prior(prior, frames, PROTOCOLS, tokens=frames.tokens[:2]).report()["monoscene"]["frames"] == 2


def test_shares_with_padding_merge_to_the_whole(
    model: nn.Module, frames: FrameDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Share:
        num_processes, is_main_process = 3, False

        def __init__(self, index: int) -> None:
            self.process_index = index

    whole = evaluate_model(model, frames, PROTOCOLS).report()
    states: list[dict[str, Any]] = []
    monkeypatch.setattr(evaluate, "gather_object", lambda mine: states + mine)
    for rank in range(3):
        monkeypatch.setattr(evaluate, "process_state", lambda rank=rank: Share(rank))
        mine = evaluate.share(frames.tokens)
        assert len(mine) == 2
        together = evaluate_model(model, frames, PROTOCOLS)
        states.append(together.state())
    assert together.report() == whole


def test_frames_are_read_ahead_in_order() -> None:
    read: list[int] = []

    def double(item: int) -> int:
        read.append(item)
        return 2 * item

    def take(items: list[int]) -> list[int]:
        return list(evaluate._ahead(double, items))

    assert [take(list(range(n))) for n in (0, 1, 2, 5)] == [[], [0], [0, 2], [0, 2, 4, 6, 8]]
    iterator: Iterator[int] = evaluate._ahead(double, [1, 2, 3])
    assert next(iterator) == 2
    with pytest.raises(ZeroDivisionError):
        list(evaluate._ahead(lambda item: 1 // item, [1, 0]))


@pytest.fixture
def occ3d_tree(tmp_path: Path) -> Path:
    root = tmp_path / "gts"
    rng = np.random.default_rng(0)
    for token in ("aa", "bb"):
        shape = (25, 25, 2)
        mask = np.ones(shape, dtype=np.uint8)
        semantics = rng.integers(0, 18, shape).astype(np.uint8)
        write_labels(root / "scene-1" / token / "labels.npz", semantics=semantics, mask_lidar=mask, mask_camera=mask)
    return root


def test_a_tree_of_labels_with_origins(occ3d_tree: Path, tmp_path: Path) -> None:
    origins = tmp_path / "origins.json"
    write_json(origins, {"aa": [[0.0, 0.0, 1.8]], "bb": [[0, 0, 1.8], [1, 0, 1.8]]})
    tree = LabelsFolder(occ3d_tree, origins=origins)
    assert tree.tokens == ("aa", "bb")
    assert tree.ray_origins("bb").shape == (2, 3)
    for token in tree.tokens:
        write_prediction(tmp_path / "predictions", token, tree.label(token).semantics.numpy())
    report = evaluate_predictions(tmp_path / "predictions", tree, ["occ3d", "rayiou"]).report()
    assert report["occ3d"]["miou"] == report["rayiou"]["rayiou"] == 1.0
    with pytest.raises(DataError, match="no ray origins for aa"):
        evaluate_predictions(tmp_path / "predictions", LabelsFolder(occ3d_tree), ["rayiou"])


@pytest.mark.parametrize("rows", [[], [[0, 0]], "x", [[0, 0, "z"]], [[0, 0, 1], [0, 0]], None, [0, 0, 1]])
def test_wrong_origins_are_named(occ3d_tree: Path, tmp_path: Path, rows: Any) -> None:
    write_json(tmp_path / "origins.json", {"aa": rows})
    with pytest.raises(DataError, match="aa: expected a list"):
        LabelsFolder(occ3d_tree, origins=tmp_path / "origins.json")


def test_a_tree_without_labels_or_with_a_token_twice_is_refused(occ3d_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        LabelsFolder(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no labels\.npz"):
        LabelsFolder(tmp_path / "empty")
    shutil.copytree(occ3d_tree / "scene-1", occ3d_tree / "scene-2")
    with pytest.raises(DataError, match="twice"):
        LabelsFolder(occ3d_tree)


def test_a_frame_without_a_label_is_named(model: nn.Module, frames: FrameDataset, monkeypatch: Any) -> None:
    monkeypatch.setattr(type(frames), "label", lambda self, token: None)
    with pytest.raises(DataError, match="has no label"):
        evaluate_model(model, frames, PROTOCOLS)
