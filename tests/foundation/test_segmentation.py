import importlib
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from occkit.data import DataConfig, open_dataset
from occkit.errors import ConfigError, DataError
from occkit.foundation import (
    CachedSegmenter,
    SamSegmenterConfig,
    SimulatedSegmenterConfig,
    read_segments,
    write_segments,
)
from occkit.foundation.segmentation import merge, suppress
from occkit.foundation.simulated_segmentation import _displace
from occkit.foundation.truth import read_truth
from occkit.world import PRESETS, generate

SIZE = (48, 64)
FAULTS = ("split", "merge", "ragged", "missing")


def open_sam(folder, **options):
    defaults = {"points_per_side": 4, "min_predicted_iou": 0.0, "min_stability": 0.0}
    return SamSegmenterConfig(weights=str(folder), **(defaults | options)).build()


def random_images(count=2, size=(40, 56)):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_sam_prepares_images_and_points_as_its_own_processor(sam_folder):
    library = importlib.import_module("transformers")
    edge = {"height": 64, "width": 64}
    processor = library.SamProcessor(library.SamImageProcessor(size={"longest_edge": 64}, pad_size=edge))
    sam, image = open_sam(sam_folder), random_images(1)[0]
    pixels, resized = sam._prepare(image)
    points = [[(u + 0.5) / 4 * 56, (v + 0.5) / 4 * 40] for v in range(4) for u in range(4)]
    theirs = processor(image.permute(1, 2, 0).numpy(), input_points=[points], return_tensors="pt")
    assert resized == tuple(theirs.reshaped_input_sizes[0].tolist()) == (46, 64)
    # They round to whole grey levels after the resize; one level is 1 / 57 of a standard deviation.
    assert (pixels - theirs.pixel_values).abs().max() < 0.03
    assert torch.allclose(sam._points(resized), theirs.input_points.reshape(-1, 2).float(), atol=1e-4)


def test_sam_enlarges_masks_as_its_own_processor(sam_folder):
    library = importlib.import_module("transformers")
    sam = open_sam(sam_folder)
    logits = torch.randn(1, 5, 32, 32, generator=torch.Generator().manual_seed(2))
    edge = {"height": 64, "width": 64}
    processor = library.SamImageProcessor(size={"longest_edge": 64}, pad_size=edge)
    theirs = processor.post_process_masks([logits], [[40, 56]], [[46, 64]])[0][0]
    assert torch.equal(torch.stack([sam._enlarge(one, (46, 64), (40, 56)) for one in logits[0]]), theirs)


def test_a_sam_from_a_folder_segments(sam_folder):
    images = random_images()
    sam = open_sam(sam_folder)
    maps = sam.segment(images, token="t", cameras=("a", "b"))
    assert maps.shape == (2, 40, 56)
    assert maps.dtype == torch.int64
    assert maps.max() > 1
    for one in maps:
        assert set(one.unique().tolist()) - {0} == set(range(1, int(one.max()) + 1))
    again = open_sam(sam_folder, points_per_batch=3)
    assert torch.equal(maps, again.segment(images, token="t", cameras=("a", "b")))
    assert again.description == sam.description
    strict = open_sam(sam_folder, min_pixels=40 * 56 + 1)
    assert not strict.segment(images, token="t", cameras=("a", "b")).any()


def test_a_strip_is_segmented(sam_folder):
    images = random_images(1, (1, 200))
    assert open_sam(sam_folder).segment(images, token="t", cameras=("a",)).shape == (1, 1, 200)


class FloodModel:
    """Answers a point with the region of its colour, the whole image, and a mask that it does not trust."""

    config = SimpleNamespace(vision_config=SimpleNamespace(image_size=64))

    def get_image_embeddings(self, pixels):
        return pixels

    def __call__(self, *, image_embeddings, input_points, input_labels, multimask_output):
        assert bool((input_labels == 1).all())
        small = image_embeddings[0, 0, 2::4, 2::4]
        masks, scores = [], []
        for u, v in input_points[0, :, 0].floor().long().tolist():
            alike = (small - image_embeddings[0, 0, v, u]).abs() < 0.05
            whole = torch.ones_like(alike)
            masks += [10.0 * (mask.float() - 0.5) for mask in (alike, whole, ~alike)]
            scores += [0.95, 0.9, 0.2]
        shape = (1, input_points.shape[1], 3)
        return SimpleNamespace(
            pred_masks=torch.stack(masks).reshape(*shape, 16, 16), iou_scores=torch.tensor(scores).reshape(shape)
        )


def test_sam_finds_the_regions_of_a_picture(sam_folder):
    """Non-square, so that mixing up axes, padding or the points' frame shows; the image is half the model's size."""
    truth = torch.ones(16, 32, dtype=torch.long)
    truth[:, 16:] = 2
    truth[4:12, 4:12] = 3
    image = (truth * 60).to(torch.uint8).expand(3, -1, -1)
    sam = open_sam(sam_folder, points_per_side=8, min_predicted_iou=0.88, min_stability=0.8)
    sam.model = FloodModel()
    found = sam.segment(image[None], token="t", cameras=("a",))[0]
    # The mask of the whole image lies below all others: nothing of it shows, and it takes no id.
    assert torch.equal(found, torch.tensor([0, 2, 1, 3])[truth])


def test_unstable_and_untrusted_masks_are_dropped(sam_folder):
    sam = open_sam(sam_folder, min_stability=0.9, min_predicted_iou=0.88)
    logits = torch.full((1, 1, 3, 16, 16), -5.0)
    logits[0, 0, 0, :8] = 5.0  # 128 pixels either way
    logits[0, 0, 1, :8] = 0.5  # nothing is left when the threshold rises by one
    logits[0, 0, 2, 8:] = 5.0  # stable, but the model does not trust it
    scores = torch.tensor([[[0.9, 0.9, 0.8]]])
    sam.model = lambda **_: SimpleNamespace(pred_masks=logits, iou_scores=scores)
    kept, _ = sam._decode(torch.zeros(1), torch.zeros(1, 2), (64, 64))
    assert torch.equal(kept, logits[0, 0, :1])


def test_of_alike_masks_the_most_trusted_stays():
    masks = torch.zeros(3, 4, 10, dtype=torch.bool)
    masks[0, :, :10], masks[1, :, :9], masks[2, :, :5] = True, True, True
    assert suppress(masks, torch.tensor([0.9, 0.95, 0.8]), 0.7).tolist() == [1, 2]
    assert suppress(masks, torch.tensor([0.9, 0.95, 0.8]), 0.5).tolist() == [1]
    assert suppress(masks[:0], torch.zeros(0), 0.5).tolist() == []


def test_a_pixel_belongs_to_the_smallest_mask_over_it():
    masks = torch.zeros(3, 3, 4, dtype=torch.bool)
    masks[0, 0, 0] = True
    masks[1, :, :3] = True
    masks[2, 0, :2] = True
    assert merge(masks, 1).tolist() == [[3, 2, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    # Two masks show one pixel each, too few: they leave holes, and ids close up.
    assert merge(masks, 2).tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    assert merge(masks[:0], 1).tolist() == [[0] * 4] * 3


def test_missing_transformers_names_the_extra(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ConfigError, match=r"occkit\[hf\]"):
        SamSegmenterConfig(weights="facebook/sam-vit-base").build()


def test_wrong_weights_are_named(tmp_path, sam_folder):
    with pytest.raises(ConfigError, match="of type sam, got none"):
        open_sam(tmp_path)
    with pytest.raises(ConfigError, match=r"SamSegmenter.*cannot be loaded"):
        open_sam(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "resnet"}')
    with pytest.raises(ConfigError, match="of type sam, got resnet"):
        open_sam(tmp_path)
    (tmp_path / "config.json").write_bytes((sam_folder / "config.json").read_bytes())
    weights = (sam_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_sam(tmp_path)


def test_weights_with_holes_are_refused(tmp_path, sam_folder):
    files = importlib.import_module("safetensors.torch")
    state = files.load_file(sam_folder / "model.safetensors")
    state.pop("vision_encoder.neck.conv1.weight")
    files.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((sam_folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"lack 1 tensors, first vision_encoder\.neck\.conv1"):
        open_sam(tmp_path)


@pytest.mark.parametrize(
    "options", [{"points_per_side": 0}, {"min_predicted_iou": 1.5}, {"max_overlap": -0.1}, {"min_pixels": 0}]
)
def test_impossible_sam_settings_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SamSegmenterConfig(weights="x", **options)


# --- The simulated segmenter -------------------------------------------------------------------------------------


def write_truth(root, token, camera="front", *, instances=None, words=None, depth=None, scene="scene-1"):
    folder = root / "truth" / scene / token
    folder.mkdir(parents=True, exist_ok=True)
    layers = {
        "depth": (np.full(SIZE, 10) if depth is None else depth).astype(np.float16),
        "semantics": np.zeros(SIZE, np.uint8),
        "instances": (np.zeros(SIZE) if instances is None else instances).astype(np.uint16),
        "words": (np.ones(SIZE) if words is None else words).astype(np.uint8),
    }
    np.savez_compressed(folder / f"{camera}.npz", **layers)
    return folder / f"{camera}.npz"


def grey(value=100):
    return torch.full((1, 3, *SIZE), value, dtype=torch.uint8)


def perfect(root, **options):
    return replace(SimulatedSegmenterConfig.perfect(root), **options).build()


def look(segmenter, token="t", images=None):
    return segmenter.segment(grey() if images is None else images, token=token, cameras=("front",))[0]


def test_true_segments_are_things_and_connected_stuff(tmp_path):
    words, instances = np.ones(SIZE), np.zeros(SIZE)
    words[:, 30:34] = 2  # a wall divides the road
    instances[10:20, 20:44] = 7  # a bus before both roads and the wall
    words[10:20, 20:44] = 9
    instances[10:20, 31:33] = 0  # a pole divides the bus, which stays one thing
    words[10:20, 31:33] = 4
    write_truth(tmp_path, "t", words=words, instances=instances)
    found = look(perfect(tmp_path))
    assert found.unique().tolist() == [1, 2, 3, 4, 5, 6]
    left, right, wall_above, wall_below = found[0, 0], found[0, 60], found[0, 31], found[40, 31]
    assert len({int(i) for i in (left, right, wall_above, wall_below, found[15, 25], found[15, 32])}) == 6
    assert found[15, 25] == found[15, 40]
    assert (found == left).sum() == (torch.from_numpy(words) == 1)[:, :30].sum()


def test_large_segments_split_into_at_most_so_many_parts(tmp_path):
    instances = np.zeros(SIZE)
    instances[:4, :4] = 5
    for index in range(20):
        write_truth(tmp_path, str(index), instances=instances)
    segmenter = perfect(tmp_path, split=1.0, split_above=0.1, max_parts=3)
    counts = []
    for index in range(20):
        found = look(segmenter, str(index))
        assert len(found[:4, :4].unique()) == 1  # too small to split
        counts.append(int(found.max()) - 1)
    assert set(counts) == {2, 3}
    half = perfect(tmp_path, split=0.5, split_above=0.1)
    fallen = sum(int(look(half, str(index)).max()) > 2 for index in range(20))
    assert 4 <= fallen <= 16


def test_alike_neighbours_merge_and_unlike_ones_do_not(tmp_path):
    """Three strips: the first two alike, the third of another colour or farther away."""
    words = np.ones(SIZE)
    words[:, 20:40], words[:, 40:] = 2, 3
    depth = np.full(SIZE, 10.0)
    depth[:, 40:] = 40.0
    painted = grey()
    painted[..., 40:] = 220
    write_truth(tmp_path, "far", words=words, depth=depth)
    write_truth(tmp_path, "near", words=words)
    segmenter = perfect(tmp_path, merge=1.0)
    for token, images in (("far", grey()), ("near", painted)):
        found = look(segmenter, token, images)
        assert found[0, 0] == found[0, 30] != found[0, 50]
    assert int(look(segmenter, "near").max()) == 1
    sky = np.full(SIZE, 150.0)
    sky[:, 40:] = 0.0
    write_truth(tmp_path, "sky", words=words, depth=sky)
    found = look(segmenter, "sky")
    assert found[0, 0] == found[0, 30] != found[0, 50]


def test_borders_fray_within_their_bound(tmp_path):
    words = np.ones(SIZE)
    words[:, 32:] = 2
    write_truth(tmp_path, "t", words=words)
    straight = look(perfect(tmp_path))
    wrong = {}
    for ragged in (0.5, 1.0, 2.0):
        found = look(perfect(tmp_path, ragged=ragged))
        wrong[ragged] = int((found != straight).sum())
        bound = int(3 * ragged) + 1
        assert torch.equal(found[:, : 32 - bound], straight[:, : 32 - bound])
        assert torch.equal(found[:, 32 + bound :], straight[:, 32 + bound :])
    assert 0 < wrong[0.5] < wrong[1.0] < wrong[2.0]
    # The mean displacement of a normal field is 0.8 of its root mean square; each row has one border.
    assert 0.3 * 48 < wrong[1.0] < 1.5 * 48


def test_small_segments_are_lost_and_large_ones_stay(tmp_path):
    instances = np.zeros(SIZE)
    for index in range(100):
        instances[4 * (index // 10), 6 * (index % 10)] = index + 1
    instances[42:48] = 200
    write_truth(tmp_path, "t", instances=instances)
    found = look(perfect(tmp_path, missing=0.6, missing_below=1 / 64))
    lost = int((found == 0).sum())
    assert 40 <= lost <= 75  # 100 of one pixel, 0.59 of them
    assert (found[42:] > 0).all()
    assert set(found.unique().tolist()) == set(range(int(found.max()) + 1))
    assert not (look(perfect(tmp_path)) == 0).any()


def test_displacements_have_the_stated_size(tmp_path):
    config = SimulatedSegmenterConfig(root=tmp_path, ragged=2.0)
    for axis in (0, 1):
        place = np.indices((300, 300))[axis]
        moved = (_displace(place, config, np.random.default_rng(0)) - place)[10:-10, 10:-10]
        assert abs(moved).max() == 6
        assert moved.std() == pytest.approx(2.0, rel=0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("worlds") / "one"
    generate(replace(PRESETS["nano"], frames=2), root, num_scenes=1, seed=5)
    return root


def frame(world, index=0):
    sample = open_dataset(world, split="all", config=DataConfig(load_depth=False))[index]
    return sample.images[0], sample.token, sample.camera_names


def purity(found, true):
    """Share of the pixels with a segment that carry the most frequent true id of their segment."""
    pairs, counts = torch.stack([found, true])[:, found > 0].unique(dim=1, return_counts=True)
    best = {}
    for segment, count in zip(pairs[0].tolist(), counts.tolist(), strict=True):
        best[segment] = max(best.get(segment, 0), count)
    return sum(best.values()) / int((found > 0).sum())


def test_on_a_world_the_defaults_are_good_but_not_perfect(world):
    images, token, cameras = frame(world)
    true = perfect(world).segment(images, token=token, cameras=cameras)
    assert (true > 0).all()
    semantics = [
        torch.from_numpy(read_truth(world, token, c, size=images.shape[-2:]).semantics.copy()) for c in cameras
    ]
    assert all(purity(t, s.long()) == 1.0 for t, s in zip(true, semantics, strict=True))
    found = SimulatedSegmenterConfig(root=world).build().segment(images, token=token, cameras=cameras)
    score = sum(purity(f, t) for f, t in zip(found, true, strict=True)) / len(cameras)
    assert 0.8 < score < 0.99
    assert 0.001 < (found == 0).float().mean() < 0.05


def test_chance_depends_on_seed_token_and_camera_only(world):
    images, token, cameras = frame(world)
    config = SimulatedSegmenterConfig(root=world)
    found = config.build().segment(images, token=token, cameras=cameras)
    order = [3, 1]
    some = config.build().segment(images[order], token=token, cameras=[cameras[i] for i in order])
    assert torch.equal(found[order], some)
    other = replace(config, seed=1).build().segment(images, token=token, cameras=cameras)
    assert not torch.equal(found, other)
    # The same truth under another name, of the camera or of the frame, meets other chances.
    own = next((world / "truth").glob(f"*/{token}/{cameras[0]}.npz"))
    own.with_name("TWIN.npz").write_bytes(own.read_bytes())
    assert not torch.equal(found[:1], config.build().segment(images[:1], token=token, cameras=("TWIN",)))
    renamed = world / "truth" / "copies" / "renamed"
    renamed.mkdir(parents=True)
    for camera in cameras:
        source = next((world / "truth").glob(f"*/{token}/{camera}.npz"))
        (renamed / f"{camera}.npz").write_bytes(source.read_bytes())
    assert not torch.equal(found, config.build().segment(images, token="renamed", cameras=cameras))


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_changes_the_map_by_itself(world, fault):
    images, token, cameras = frame(world, 1)
    default = getattr(SimulatedSegmenterConfig(root=world), fault)
    true = perfect(world).segment(images, token=token, cameras=cameras)
    spoilt = perfect(world, **{fault: default}).segment(images, token=token, cameras=cameras)
    assert not torch.equal(true, spoilt)


def test_kitti_tokens_name_sequence_and_frame(tmp_path):
    generate(replace(PRESETS["kitti-nano"], frames=1), tmp_path, format="semantickitti", num_scenes=2, seed=5)
    maps = []
    for index in range(2):
        images, token, cameras = frame(tmp_path, index)
        assert token.endswith("_000000")
        maps.append(perfect(tmp_path).segment(images, token=token, cameras=cameras))
        truth = read_truth(tmp_path, token, cameras[0], size=images.shape[-2:])
        assert purity(maps[-1][0], torch.from_numpy(truth.words.astype(np.int64))) == 1.0
    assert not torch.equal(*maps)


def test_truth_that_is_not_there_or_damaged_is_named(tmp_path):
    with pytest.raises(DataError, match="no procedural world"):
        look(perfect(tmp_path))
    path = write_truth(tmp_path, "t")
    with pytest.raises(DataError, match="no truth layers of frame 'other'"):
        look(perfect(tmp_path), "other")
    with pytest.raises(DataError, match=r"rear\.npz: no such file"):
        perfect(tmp_path).segment(grey(), token="t", cameras=("rear",))
    with pytest.raises(DataError, match=r"expected float16 \(24, 32\) like the images.*neither scaled nor cropped"):
        look(perfect(tmp_path), images=grey()[..., ::2, ::2])
    whole = path.read_bytes()
    for length in (0, 20, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"front\.npz: .*write the world again"):
            look(perfect(tmp_path))


@pytest.mark.parametrize(
    "options",
    [{"split": 1.1}, {"merge": -0.1}, {"ragged": 9.0}, {"missing": 2.0}, {"max_parts": 1}, {"merge_depth": 0.0}],
)
def test_impossible_faults_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SimulatedSegmenterConfig(root=tmp_path, **options)


@pytest.mark.parametrize(
    ("images", "token", "cameras"),
    [
        (torch.zeros(1, 3, *SIZE), "t", ("front",)),
        (torch.zeros(3, *SIZE, dtype=torch.uint8), "t", ("front",)),
        (grey(), "t", ("front", "rear")),
        (grey().repeat(2, 1, 1, 1), "t", ("front", "front")),
        (grey(), "../t", ("front",)),
        (grey(), "t", ("..",)),
    ],
)
def test_requests_that_do_not_fit_are_refused(tmp_path, images, token, cameras):
    write_truth(tmp_path, "t")
    with pytest.raises(ValueError, match=r"images|cameras"):
        perfect(tmp_path).segment(images, token=token, cameras=cameras)


# --- Maps on disk ------------------------------------------------------------------------------------------------


class Counting:
    """Notes which cameras it was asked for; the map of a camera is filled with the length of its name."""

    description = {"segmenter": "counting", "levels": (1, 2)}  # noqa: RUF012

    def __init__(self):
        self.asked = []

    def segment(self, images, *, token, cameras):
        self.asked.append(tuple(cameras))
        return torch.stack([torch.full(SIZE, len(c)) for c in cameras])


def test_a_map_is_made_once(tmp_path):
    inner, images = Counting(), grey().repeat(2, 1, 1, 1)
    first = CachedSegmenter(inner, tmp_path / "maps")
    assert first.segment(images[:1], token="t", cameras=("a",)).unique().tolist() == [1]
    found = first.segment(images, token="t", cameras=("bb", "a"))
    assert found.amax((1, 2)).tolist() == found.amin((1, 2)).tolist() == [2, 1]
    assert inner.asked == [("a",), ("bb",)]
    # Another process, later, and one that has no segmenter at all.
    for segmenter in (Counting(), None):
        again = CachedSegmenter(segmenter, tmp_path / "maps")
        assert torch.equal(again.segment(images, token="t", cameras=("bb", "a")), found)
        assert again.description == {"segmenter": "counting", "levels": [1, 2]}
        assert segmenter is None or not segmenter.asked


def test_maps_of_other_settings_are_refused(tmp_path):
    CachedSegmenter(perfect(tmp_path), tmp_path / "maps")
    CachedSegmenter(perfect(tmp_path / "moved"), tmp_path / "maps")
    with pytest.raises(ConfigError, match="holds maps of"):
        CachedSegmenter(perfect(tmp_path, merge=0.1), tmp_path / "maps")


def test_a_folder_without_segmenter_must_say_what_it_is(tmp_path):
    with pytest.raises(DataError, match="make the maps with a segmenter first"):
        CachedSegmenter(None, tmp_path)
    for text in ("{", "[]", "\udcff"):
        (tmp_path / "segmenter.json").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(DataError, match=r"segmenter\.json.* delete the folder"):
            CachedSegmenter(None, tmp_path)
    (tmp_path / "segmenter.json").write_text(json.dumps({}))
    with pytest.raises(DataError, match=r"front\.png: no such file.*let a segmenter make it"):
        look(CachedSegmenter(None, tmp_path))


def test_files_hold_all_ids_of_16_bits(tmp_path):
    ids = torch.arange(2**16).reshape(256, 256)
    write_segments(tmp_path / "a" / "b.png", ids)
    assert torch.equal(read_segments(tmp_path / "a" / "b.png", size=(256, 256)), ids)
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.png"]
    with Image.open(tmp_path / "a" / "b.png") as image:
        assert image.format == "PNG"
    for wrong in (ids + 1, ids - 1, ids.float(), ids[None]):
        with pytest.raises(ValueError, match="segments: expected"):
            write_segments(tmp_path / "c.png", wrong)
    assert not (tmp_path / "c.png").exists()


def test_a_killed_writer_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "b.png"
    write_segments(path, torch.ones(SIZE, dtype=torch.long))

    def die(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(path), "replace", die)
    with pytest.raises(DataError, match=r"b\.png: cannot be written \(No space left"):
        write_segments(path, torch.full(SIZE, 2))
    assert read_segments(path, size=SIZE).unique().tolist() == [1]
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_maps_are_named(tmp_path):
    path = tmp_path / "b.png"
    write_segments(path, torch.randint(0, 9, SIZE))
    whole = path.read_bytes()
    with pytest.raises(DataError, match="expected segments of 24 x 32 pixels, got 48 x 64"):
        read_segments(path, size=(24, 32))
    for length in (0, 10, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"b\.png: .*delete it"):
            read_segments(path, size=SIZE)
    path.write_bytes(whole[:60] + bytes([whole[60] ^ 255]) + whole[61:])
    with pytest.raises(DataError, match=r"b\.png: .*delete it"):
        read_segments(path, size=SIZE)
    Image.new("L", SIZE[::-1]).save(path)
    with pytest.raises(DataError, match="16-bit"):
        read_segments(path, size=SIZE)
