"""The stand-in for dense features on the world: truth without faults, and each fault by itself."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from truth_layers import SIZE, write_layers

from occkit.data import DataConfig, open_dataset
from occkit.errors import ConfigError, DataError
from occkit.files import write_json
from occkit.foundation import SimulatedFeaturesConfig, SimulatedTextConfig
from occkit.foundation.truth import read_truth, world_words
from occkit.world.words import WORDS

FAULTS = {"gap": 0.5, "instance": 0.5, "view": 0.5, "confuse": 0.3, "window": 12}
NAMES = [word.name for word in WORDS]
ROAD, CAR, VAN, TRUCK, SIDEWALK = (NAMES.index(n) for n in ("road", "car", "van", "truck", "sidewalk"))


def perfect(root, **options):
    return replace(SimulatedFeaturesConfig.perfect(root), **options).build()


def look(extractor, token="t", cameras=("front",), size=SIZE):
    return extractor.extract(torch.zeros((len(cameras), 3, *size), dtype=torch.uint8), token=token, cameras=cameras)


def write_world(root, names=NAMES):
    write_json(root / "truth" / "words.json", [{"id": i, "name": name} for i, name in enumerate(names)])


def vector(word):
    return SimulatedTextConfig().build().encode([word])[0]


def frame(root):
    sample = open_dataset(root, split="all", config=DataConfig(load_depth=False))[0]
    return sample.images[0], sample.token, sample.camera_names


@pytest.mark.parametrize("world", ["street", "kitti_street"])
def test_without_faults_a_cell_of_one_word_is_its_text_vector(world, request):
    root = request.getfixturevalue(world)
    images, token, cameras = frame(root)
    extractor = perfect(root)
    maps = extractor.extract(images, token=token, cameras=cameras)
    rows, columns = images.shape[-2] // 4, images.shape[-1] // 4
    assert maps.shape == (len(cameras), extractor.width, rows, columns)
    assert torch.allclose(maps.norm(dim=1), torch.ones(len(cameras), rows, columns), atol=1e-5)
    assert extractor.words[0] == "sky"
    text = SimulatedTextConfig().build().encode(extractor.words)
    words = np.stack([read_truth(root, token, c, size=tuple(images.shape[-2:])).words for c in cameras])
    cells = torch.from_numpy(words.astype(np.int64)).reshape(len(cameras), rows, 4, columns, 4)
    low, high = cells.amin((2, 4)), cells.amax((2, 4))
    pure = low == high
    assert 0.3 < pure.float().mean() < 1
    assert torch.allclose(maps.permute(0, 2, 3, 1)[pure], text[low[pure]], atol=1e-5)
    assert (low[pure] == 0).any(), "the sky is a word, too"


def test_a_cell_is_the_mean_of_what_it_shows(tmp_path):
    write_world(tmp_path)
    words = np.full(SIZE, ROAD)
    words[:, 1::4] = CAR
    write_layers(tmp_path, words=words)
    mean = 0.75 * vector("road") + 0.25 * vector("car")
    found = look(perfect(tmp_path))[0]
    assert torch.allclose(found[:, 3, 5], mean / mean.norm(), atol=1e-5)


def test_a_wide_window_bleeds_over_borders(tmp_path):
    write_world(tmp_path)
    words = np.full(SIZE, ROAD)
    words[:, 24:] = CAR
    write_layers(tmp_path, words=words)
    sharp, soft = (look(perfect(tmp_path, window=window))[0] for window in (4, 8))
    assert torch.allclose(sharp[:, 2, 5], vector("road"), atol=1e-5)
    mean = 0.75 * vector("road") + 0.25 * vector("car")
    assert torch.allclose(soft[:, 2, 5], mean / mean.norm(), atol=1e-5)
    assert torch.allclose(soft[:, 0, 0], vector("road"), atol=1e-5), "nothing comes from beyond the image"


def test_the_gap_is_one_vector_for_everything(tmp_path):
    write_world(tmp_path)
    words = np.full(SIZE, ROAD)
    words[:, 24:] = CAR
    write_layers(tmp_path, words=words)
    extractor = perfect(tmp_path, gap=0.5)
    found, gap = look(extractor)[0], torch.from_numpy(extractor._unit("gap")).float()
    assert gap.norm() == pytest.approx(1.0)
    for column, word in ((0, "road"), (11, "car")):
        expected = vector(word) + 0.5 * gap
        assert torch.allclose(found[:, 0, column], expected / expected.norm(), atol=1e-5)


def things(root, instances, token="t", camera="front", scene="scene-1"):
    write_layers(root, token, camera, scene=scene, words=CAR)
    path = root / "truth" / scene / token / f"{camera}.npz"
    with np.load(path) as archive:
        layers = dict(archive)
    layers["instances"] = np.broadcast_to(np.asarray(instances, np.uint16), SIZE)
    np.savez(path, **layers)


def test_a_thing_keeps_its_vector_throughout_its_scene(tmp_path):
    write_world(tmp_path)
    instances = np.ones(SIZE)
    instances[:, 24:] = 2
    for token, camera in (("t", "front"), ("t", "back"), ("u", "front")):
        things(tmp_path, instances, token, camera)
    things(tmp_path, instances, "v", scene="scene-2")
    extractor = perfect(tmp_path, instance=0.15)
    first = look(extractor)[0]
    one, two = first[:, 0, 0], first[:, 0, -1]
    assert 0.97 < one @ vector("car") < 0.995
    assert one @ two < 0.995
    for token, camera in (("t", "back"), ("u", "front")):
        assert torch.allclose(look(extractor, token, (camera,))[0], first)
    assert not torch.allclose(look(extractor, "v")[0], first, atol=0.02)
    write_layers(tmp_path, "w", words=CAR)
    assert torch.allclose(look(extractor, "w")[0, :, 0, 0], vector("car"), atol=1e-5), "stuff is no thing"


def test_a_view_changes_things_and_stuff_in_one_image(tmp_path):
    write_world(tmp_path)
    for token, camera in (("t", "front"), ("t", "back"), ("u", "front")):
        things(tmp_path, 1, token, camera)
    extractor = perfect(tmp_path, view=0.1)
    found = [
        look(extractor, token, (camera,))[0, :, 0, 0]
        for token, camera in (("t", "front"), ("t", "back"), ("u", "front"))
    ]
    for one in found:
        assert 0.99 < one @ vector("car") < 0.9985
    assert max(float(a @ b) for a, b in ((found[0], found[1]), (found[0], found[2]), (found[1], found[2]))) < 0.998
    whole = look(extractor)[0]
    assert torch.allclose(whole, whole[:, :1, :1].expand_as(whole)), "the same all over the image"
    write_layers(tmp_path, "w", words=ROAD)
    assert 0.99 < look(extractor, "w")[0, :, 0, 0] @ vector("road") < 0.9985


def test_cells_are_taken_for_a_sibling(tmp_path):
    write_world(tmp_path)
    extractor = perfect(tmp_path, confuse=0.2)
    text = SimulatedTextConfig().build().encode(extractor.words)
    shares, taken = [], set()
    words = np.full(SIZE, CAR)
    words[:8] = 0
    for token in map(str, range(60)):
        write_layers(tmp_path, token, words=words)
        found = look(extractor, token)[0]
        best = torch.einsum("chw,kc->hwk", found, text).argmax(-1)
        assert (best[:2] == 0).all(), "the sky has no siblings here"
        wrong = best[2:] != CAR
        shares.append(wrong.float().mean())
        others = best[2:][wrong].unique().tolist()
        assert len(others) == 1, "one word throughout an image"
        taken |= {NAMES[other] for other in others}
    assert torch.stack(shares).mean() == pytest.approx(0.2, abs=0.02)
    assert len(taken) > 4
    assert not taken & {"car", "van", "taxi", "police car", "pedestrian", "road"}


def test_images_that_are_no_whole_number_of_cells_are_stretched(tmp_path):
    write_world(tmp_path)
    words = np.full((30, 47), ROAD)
    words[:, 24:] = CAR
    write_layers(tmp_path, words=words, size=(30, 47))
    extractor = perfect(tmp_path)
    found = look(extractor, size=(30, 47))[0]
    assert found.shape[1:] == extractor.map_size((30, 47)) == (8, 12)
    assert torch.allclose(found[:, :, 0].T, vector("road").expand(8, -1), atol=1e-5)
    assert torch.allclose(found[:, :, -1].T, vector("car").expand(8, -1), atol=1e-5)


def test_strengths_are_ordered(street):
    images, token, cameras = frame(street)
    true = perfect(street).extract(images, token=token, cameras=cameras)
    agreement = [
        (getattr(SimulatedFeaturesConfig, name)(street).build().extract(images, token=token, cameras=cameras) * true)
        .sum(1)
        .mean()
        for name in ("perfect", "realistic", "poor")
    ]
    assert agreement[0] == pytest.approx(1.0, abs=1e-5)
    assert 0.98 > agreement[1] > agreement[2] > 0.5
    assert SimulatedFeaturesConfig.realistic(street) == SimulatedFeaturesConfig(root=street)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_changes_the_map_and_follows_the_seed(street, fault):
    images, token, cameras = frame(street)

    def extract(**options):
        return perfect(street, **options).extract(images, token=token, cameras=cameras)

    spoiled = extract(**{fault: FAULTS[fault]})
    assert not torch.allclose(spoiled, extract(), atol=1e-3)
    assert torch.equal(spoiled, extract(**{fault: FAULTS[fault]}))
    assert torch.equal(spoiled, extract(**{fault: FAULTS[fault], "seed": 1})) == (fault == "window")


def test_chance_depends_on_seed_frame_and_camera_only(street, tmp_path):
    images, token, cameras = frame(street)
    extractor = SimulatedFeaturesConfig(root=street).build()
    found = extractor.extract(images, token=token, cameras=cameras)
    order = [3, 1]
    some = extractor.extract(images[order], token=token, cameras=[cameras[i] for i in order])
    assert torch.equal(found[order], some)
    shutil.copytree(street / "truth", tmp_path / "truth")
    moved = SimulatedFeaturesConfig(root=tmp_path).build()
    assert torch.equal(moved.extract(images, token=token, cameras=cameras), found)
    assert moved.description == extractor.description


def test_what_is_missing_or_damaged_is_named(street, tmp_path):
    with pytest.raises(DataError, match=r"words\.json"):
        perfect(tmp_path)
    write_json(tmp_path / "truth" / "words.json", [{"id": 0}])
    with pytest.raises(DataError, match="does not name the world's words"):
        perfect(tmp_path)
    write_world(tmp_path, ["nothing", "road"])
    write_layers(tmp_path, words=CAR)
    with pytest.raises(DataError, match=rf"does not name word {CAR}"):
        look(perfect(tmp_path))
    with pytest.raises(DataError, match="no truth layers of frame 'x'"):
        look(perfect(tmp_path), "x")
    assert world_words(street) == tuple(NAMES)


def test_settings_are_checked(tmp_path):
    for wrong in ({"gap": -0.1}, {"instance": 3}, {"view": float("nan")}, {"confuse": 2}, {"stride": 0}, {"window": 5}):
        with pytest.raises(ConfigError, match="SimulatedFeatures"):
            SimulatedFeaturesConfig(root=tmp_path, **wrong)
