import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from truth_layers import SIZE, write_layers, write_words

from occkit.data import DataConfig, open_dataset
from occkit.errors import ConfigError, DataError
from occkit.foundation import SimulatedLabellerConfig
from occkit.foundation.simulated_grounding import CONFUSED_WITH, SMALL
from occkit.foundation.truth import read_truth, world_taxonomy
from occkit.taxonomy import NYUV2, OCC3D, SEMANTICKITTI

FAULTS = ("grow", "kerb", "confuse", "lose")
ROAD, SIDEWALK, MANMADE, CAR, TRUCK, PEDESTRIAN, BARRIER, FREE = (
    OCC3D.id_of(name)
    for name in ("driveable_surface", "sidewalk", "manmade", "car", "truck", "pedestrian", "barrier", "free")
)


def perfect(root, **options):
    return replace(SimulatedLabellerConfig.perfect(root), **options).build()


def look(labeller, token="t", cameras=("front",), size=SIZE):
    return labeller.label(torch.zeros((len(cameras), 3, *size), dtype=torch.uint8), token=token, cameras=cameras)


def frame(root):
    sample = open_dataset(root, split="all", config=DataConfig(load_depth=False))[0]
    return sample.images[0], sample.token, sample.camera_names


def label(labeller, root):
    images, token, cameras = frame(root)
    return labeller.label(images, token=token, cameras=cameras)


def true_layers(root, name):
    images, token, cameras = frame(root)
    layers = [getattr(read_truth(root, token, c, size=tuple(images.shape[-2:])), name) for c in cameras]
    return torch.from_numpy(np.stack(layers).astype(np.int64))


def repeat(root, semantics, count, **options):
    """Label the same truth under many names."""
    write_words(root)
    for index in range(count):
        write_layers(root, str(index), semantics=semantics)
    labeller = perfect(root, **options)
    return np.stack([look(labeller, str(index))[0].numpy() for index in range(count)])


def test_without_faults_it_is_the_truth_and_the_sky_is_free(street):
    labeller = perfect(street)
    found, true, words = label(labeller, street), true_layers(street, "semantics"), true_layers(street, "words")
    assert labeller.taxonomy is OCC3D
    assert found.dtype == torch.uint8
    assert (words == 0).any()
    assert torch.equal(found.long(), torch.where(words == 0, FREE, true))
    assert not (found == OCC3D.ignore_id).any()


def test_kitti_worlds_have_their_own_ids_and_unnamed_things_are_uncertain(kitti_street):
    labeller = perfect(kitti_street)
    found, words = label(labeller, kitti_street), true_layers(kitti_street, "words")
    assert labeller.taxonomy is SEMANTICKITTI
    assert torch.equal(found == SEMANTICKITTI.free_id, words == 0)
    true = true_layers(kitti_street, "semantics")
    assert torch.equal(found == SEMANTICKITTI.ignore_id, (true == 255) & (words > 0))
    named = found < SEMANTICKITTI.num_classes
    assert torch.equal(found[named & (words > 0)].long(), true[named & (words > 0)])
    assert (found == SEMANTICKITTI.id_of("road")).any()


def test_all_taxonomies_say_what_every_class_is_taken_for():
    for taxonomy in (OCC3D, SEMANTICKITTI, NYUV2):
        pairs = CONFUSED_WITH[taxonomy.name]
        assert set(pairs) == {taxonomy.classes[i] for i in taxonomy.semantic_ids}
        assert set(pairs.values()) <= set(pairs)
        assert all(name != other for name, other in pairs.items())
        assert len(SMALL & set(taxonomy.classes)) >= 3
    assert {name for taxonomy in (OCC3D, SEMANTICKITTI, NYUV2) for name in taxonomy.classes} >= SMALL


def test_blocks_are_confused_as_a_whole(tmp_path):
    semantics = np.full(SIZE, CAR)
    semantics[:, 22:] = ROAD
    found = repeat(tmp_path, semantics, 40, confuse=0.3)
    wrong = found != semantics
    assert wrong.mean() == pytest.approx(0.3, abs=0.03)
    blocks = wrong.reshape(40, 8, 4, 12, 4)
    assert (blocks.all((2, 4)) == blocks.any((2, 4))).all()
    assert set(found[:, :, :22][wrong[:, :, :22]].tolist()) == {TRUCK}
    assert set(found[:, :, 22:][wrong[:, :, 22:]].tolist()) == {SIDEWALK}
    wide = (repeat(tmp_path, semantics, 10, confuse=0.3, block=16) != semantics).reshape(10, 2, 16, 3, 16)
    assert (wide.all((2, 4)) == wide.any((2, 4))).all()
    assert 0 < wide.mean() < 1


def test_neither_sky_nor_the_unknown_is_confused(tmp_path):
    write_words(tmp_path)
    words, semantics = np.ones(SIZE), np.full(SIZE, CAR)
    words[:8], semantics[:8] = 0, 255
    semantics[8:16] = 255
    write_layers(tmp_path, words=words, semantics=semantics)
    found = look(perfect(tmp_path, confuse=1.0))[0]
    assert (found[:8] == FREE).all()
    assert (found[8:16] == OCC3D.ignore_id).all()
    assert (found[16:] == TRUCK).all()


def test_small_classes_are_lost_in_whole_images_and_large_ones_never(tmp_path):
    semantics = np.full(SIZE, MANMADE)
    semantics[4:10, 4:8] = semantics[20:26, 30:34] = PEDESTRIAN
    semantics[28:, :20] = BARRIER
    found = repeat(tmp_path, semantics, 300, lose=0.3)
    assert (found[:, semantics == MANMADE] == MANMADE).all()
    lost = {}
    for name, index in (("pedestrian", PEDESTRIAN), ("barrier", BARRIER)):
        uncertain = found[:, semantics == index] == OCC3D.ignore_id
        assert (uncertain.all(1) == uncertain.any(1)).all()
        lost[name] = uncertain.all(1)
        assert lost[name].mean() == pytest.approx(0.3, abs=0.08)
    assert 0.02 < (lost["pedestrian"] & lost["barrier"]).mean() < 0.18


def test_small_classes_grow_by_a_pixel(tmp_path):
    semantics = np.full(SIZE, CAR)
    semantics[10:20, 10:12] = PEDESTRIAN
    found = repeat(tmp_path, semantics, 200, grow=0.3)
    grown = (found == PEDESTRIAN).sum((1, 2))
    assert set(grown.tolist()) == {20, 20 + 2 * (10 + 2)}
    assert (grown > 20).mean() == pytest.approx(0.3, abs=0.1)
    assert (found[:, 0] == CAR).all()


def test_what_grows_is_not_what_is_lost(tmp_path):
    semantics = np.full(SIZE, CAR)
    semantics[10:20, 10:12] = PEDESTRIAN
    found = repeat(tmp_path, semantics, 100, grow=0.5, lose=0.5)
    kept = (found == PEDESTRIAN).any((1, 2))
    assert kept.mean() == pytest.approx(0.5, abs=0.15)
    assert (found[kept, 9, 10] == PEDESTRIAN).mean() == pytest.approx(0.5, abs=0.25)


def test_a_labeller_that_is_not_asked_for_the_sky_gives_its_rim_to_things(tmp_path):
    semantics = np.full(SIZE, 255, np.uint8)
    semantics[20:] = MANMADE
    write_words(tmp_path)
    write_layers(tmp_path, semantics=semantics, words=(semantics != 255).astype(np.uint8))
    asked, unasked = (look(perfect(tmp_path, sky=sky))[0].numpy() for sky in (True, False))
    assert (asked[:20] == FREE).all()
    assert (unasked[19] == MANMADE).all()
    assert (unasked[:19] == OCC3D.ignore_id).all()
    assert np.array_equal(unasked[20:], asked[20:])


def test_kerbs_become_barriers_where_asked(tmp_path):
    semantics = np.full(SIZE, ROAD)
    semantics[:, 24:] = SIDEWALK
    semantics[20:, 40:] = MANMADE
    found = repeat(tmp_path, semantics, 40, kerb=0.2)
    barrier = found == BARRIER
    assert barrier[:, :, 23:25].mean() == pytest.approx(0.2, abs=0.03)
    assert barrier[:, :, 23].mean() == pytest.approx(0.2, abs=0.04)
    assert not barrier[:, :, np.delete(np.arange(48), [23, 24])].any()
    assert not (repeat(tmp_path, semantics, 1) == BARRIER).any()


def test_in_kitti_a_kerb_becomes_a_fence(tmp_path):
    write_words(tmp_path, "semantickitti")
    semantics = np.full(SIZE, SEMANTICKITTI.id_of("road"))
    semantics[:, 24:] = SEMANTICKITTI.id_of("sidewalk")
    write_layers(tmp_path, semantics=semantics)
    found = look(perfect(tmp_path, kerb=1.0))[0]
    assert (found[:, 23:25] == SEMANTICKITTI.id_of("fence")).all()
    assert not (found[:, :23] == SEMANTICKITTI.id_of("fence")).any()


@pytest.mark.parametrize("world", ["street", "kitti_street"])
def test_each_fault_changes_the_map_by_itself(world, request):
    root = request.getfixturevalue(world)
    true = label(perfect(root), root)
    for fault in FAULTS:
        assert not torch.equal(true, label(perfect(root, **{fault: 1.0}), root)), fault


def test_faults_have_chances_of_their_own(street):
    """Where blocks are confused does not move when other faults are switched on."""
    alone = label(perfect(street, confuse=0.08), street) != label(perfect(street), street)
    config = replace(SimulatedLabellerConfig(root=street), kerb=0.08)
    together, others = label(config.build(), street), label(replace(config, confuse=0.0).build(), street)
    both_named = (together != OCC3D.ignore_id) & (others != OCC3D.ignore_id)
    settled = both_named & (others == label(perfect(street), street))
    assert torch.equal((together != others)[settled], alone[settled])
    assert settled.float().mean() > 0.8


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_follows_the_seed(street, fault):
    one, same, other = (label(perfect(street, seed=s, **{fault: 0.5}), street) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_chance_depends_on_seed_frame_and_camera_only(street, tmp_path):
    images, token, cameras = frame(street)
    config = SimulatedLabellerConfig(root=street)
    found = label(config.build(), street)
    order = [3, 1]
    some = config.build().label(images[order], token=token, cameras=[cameras[i] for i in order])
    assert torch.equal(found[order], some)
    assert not torch.equal(found, label(replace(config, seed=1).build(), street))
    # The same truth under another name, of the camera or of the frame, meets other chances.
    shutil.copytree(street / "truth", tmp_path / "truth")
    labeller, size = replace(config, root=tmp_path).build(), tuple(images.shape[-2:])
    own = next(tmp_path.glob(f"truth/*/{token}/{cameras[0]}.npz"))
    shutil.copy(own, own.with_name("TWIN.npz"))
    shutil.copytree(own.parent, own.parent.with_name("renamed"))
    assert torch.equal(found[:1], look(labeller, token, cameras[:1], size))
    assert not torch.equal(found[:1], look(labeller, token, ("TWIN",), size))
    assert not torch.equal(found[:1], look(labeller, "renamed", cameras[:1], size))


@pytest.mark.parametrize("world", ["street", "kitti_street"])
def test_the_strengths_are_far_apart(world, request):
    root = request.getfixturevalue(world)
    true = label(perfect(root), root)
    named = (true != OCC3D.ignore_id) & (true_layers(root, "words") > 0)
    right = {}
    for name in ("perfect", "realistic", "poor"):
        found = label(getattr(SimulatedLabellerConfig, name)(root).build(), root)
        right[name] = float((found == true)[named].float().mean())
    assert right["perfect"] == 1.0
    assert 0.85 < right["realistic"] < 0.97
    assert right["poor"] < 0.8
    assert SimulatedLabellerConfig.realistic(root) == SimulatedLabellerConfig(root=root)


def test_the_description_says_all_but_the_place(tmp_path):
    for name in "ab":
        write_words(tmp_path / name)
    one, two = (SimulatedLabellerConfig(root=tmp_path / name).build().description for name in "ab")
    assert one == two
    assert (one["labeller"], one["taxonomy"]) == ("simulated", "occ3d")
    assert {*FAULTS, "block", "seed"} < set(one)


def test_worlds_that_do_not_say_their_taxonomy_are_named(tmp_path):
    with pytest.raises(DataError, match=r"words\.json: no such file.*write the world again"):
        world_taxonomy(tmp_path)
    write_words(tmp_path)
    assert world_taxonomy(tmp_path) is OCC3D
    for text in ("{", "[]", "{}", "[1]", '[{"id": 0}]'):
        (tmp_path / "truth" / "words.json").write_text(text)
        with pytest.raises(DataError, match=r"words\.json: .*write the world again"):
            SimulatedLabellerConfig(root=tmp_path).build()


def test_truth_that_is_not_there_is_named(tmp_path):
    write_words(tmp_path)
    write_layers(tmp_path)
    with pytest.raises(DataError, match="no truth layers of frame 'other'"):
        look(perfect(tmp_path), "other")
    with pytest.raises(DataError, match="neither scaled nor cropped"):
        look(perfect(tmp_path), size=(16, 24))
    with pytest.raises(ValueError, match="a name of its own"):
        perfect(tmp_path).label(torch.zeros((2, 3, *SIZE), dtype=torch.uint8), token="t", cameras=("front",))


@pytest.mark.parametrize("options", [{"grow": 1.1}, {"kerb": -0.1}, {"confuse": 2.0}, {"lose": 1.5}, {"block": 0}])
def test_impossible_faults_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SimulatedLabellerConfig(root=tmp_path, **options)
