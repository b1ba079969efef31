"""A teacher's outputs and segments on disk: what quantising loses, what is refused, and that nothing shifts."""

from dataclasses import replace

import layouts
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fuzz import check_reader
from occkit.data import AugmentConfig, DataConfig, open_dataset
from occkit.data.image_maps import read_id_map
from occkit.data.teaching import (
    dequantise,
    describe_teaching,
    quantise,
    read_teaching,
    write_teaching,
)
from occkit.data.transforms import apply_to_image, plan_image
from occkit.errors import DataError
from occkit.files import write_image
from occkit.samples import Teaching

SHAPE = (5, 4, 3)


def make_teaching(seed=0, *, features=False):
    draw = torch.Generator().manual_seed(seed)
    return Teaching(
        logits=10 * torch.randn(18, *SHAPE, generator=draw),
        visible=torch.rand(SHAPE, generator=draw) < 0.5,
        features=torch.randn(6, 2, 2, 3, generator=draw) if features else None,
    )


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([8, 16]), st.integers(0, 999), st.floats(1e-3, 1e4))
def test_a_value_is_off_by_half_a_step_at_most(bits, seed, scale):
    values = scale * torch.randn(3, 40, generator=torch.Generator().manual_seed(seed))
    values[1] = 7.0
    codes, limits = quantise(values, bits)
    assert codes.dtype == {8: np.uint8, 16: np.uint16}[bits]
    step = (values.amax(dim=1) - values.amin(dim=1)) / (2**bits - 1)
    error = (dequantise(codes, limits) - values).abs().amax(dim=1)
    assert (error <= 0.51 * step + 2e-6 * values.abs().amax(dim=1)).all()


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="expected finite numbers"):
        quantise(torch.tensor([[1.0, float("nan")]]), 8)


@pytest.mark.parametrize("bits", [8, 16])
def test_round_trip(tmp_path, bits):
    teaching = make_teaching(features=True)
    write_teaching(tmp_path, "a", teaching, bits=bits)
    back = read_teaching(tmp_path, "a", num_classes=18, shape=SHAPE, features=True)
    assert torch.equal(back.visible, teaching.visible)
    bound = 80 / 2**bits
    assert (back.logits - teaching.logits).abs().max() < bound
    assert (back.features - teaching.features).abs().max() < bound
    assert read_teaching(tmp_path, "a", num_classes=18, shape=SHAPE).features is None


def test_features_that_the_teacher_kept_are_missed(tmp_path):
    write_teaching(tmp_path, "a", make_teaching(), bits=8)
    with pytest.raises(DataError, match="expected an array named features"):
        read_teaching(tmp_path, "a", num_classes=18, shape=SHAPE, features=True)


def test_frames_that_are_missing_or_of_another_world_are_named(tmp_path):
    write_teaching(tmp_path, "a", make_teaching(), bits=8)
    with pytest.raises(DataError, match=r"b\.npz: the teacher has not spoken .* run occkit teach"):
        read_teaching(tmp_path, "b", num_classes=18, shape=SHAPE)
    with pytest.raises(DataError, match=r"logits: expected shape \(20, 5, 4, 3\)"):
        read_teaching(tmp_path, "a", num_classes=20, shape=SHAPE)
    with pytest.raises(DataError, match="visible"):
        read_teaching(tmp_path, "a", num_classes=18, shape=(5, 4, 9))


def test_damaged_files_end_in_a_data_error(tmp_path):
    write_teaching(tmp_path, "a", make_teaching(), bits=8)
    path = tmp_path / "a.npz"
    check_reader(lambda _: read_teaching(tmp_path, "a", num_classes=18, shape=SHAPE), path.read_bytes(), path)


def test_a_folder_belongs_to_one_teacher(tmp_path):
    describe_teaching(tmp_path / "t", {"bits": 8})
    describe_teaching(tmp_path / "t", {"bits": 8})
    with pytest.raises(DataError, match="holds teachings of"):
        describe_teaching(tmp_path / "t", {"bits": 16})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x.npz").touch()
    with pytest.raises(DataError, match="no teachings of this model"):
        describe_teaching(tmp_path / "foreign", {"bits": 8})


@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_segments_go_where_their_image_goes(tmp_path, seed):
    """The id of each block is its colour: after any augmentation the two still agree away from the blocks' borders."""
    ids = np.kron(np.arange(1, 13, dtype=np.uint16).reshape(3, 4), np.ones((20, 20), dtype=np.uint16))
    write_image(tmp_path / "ids.png", ids)
    picture = Image.fromarray(np.repeat((ids * 20).astype(np.uint8)[:, :, None], 3, axis=2))
    rng = None if seed is None else np.random.default_rng(seed)
    augment = None if seed is None else AugmentConfig(scale=(-0.2, 0.3), rotate_degrees=20.0)
    plan = plan_image((60, 80), (30, 64), keep_aspect=True, augment=augment, rng=rng)
    shown = apply_to_image(picture, plan)[0].astype(int)
    found = read_id_map(tmp_path / "ids.png", plan, stored=(60, 80), remedy="").numpy() + 1
    assert found.shape == (30, 64)
    assert found.min() >= 0
    inner = np.stack([np.roll(found, (a, b), (0, 1)) for a in (-2, 0, 2) for b in (-2, 0, 2)])
    calm = (inner == found).all(axis=0)
    calm[:2] = calm[-2:] = calm[:, :2] = calm[:, -2:] = False
    assert calm.sum() > 200
    assert (np.abs(shown - 20 * found)[calm] <= 2).all()


def test_segment_maps_of_other_images_are_refused(tmp_path):
    plan = plan_image((6, 8), (6, 8), keep_aspect=False)
    with pytest.raises(DataError, match="make them"):
        read_id_map(tmp_path / "none.png", plan, stored=(6, 8), remedy="make them")
    write_image(tmp_path / "small.png", np.zeros((3, 4), dtype=np.uint16))
    with pytest.raises(DataError, match=r"expected \(6, 8\) pixels"):
        read_id_map(tmp_path / "small.png", plan, stored=(6, 8), remedy="")


@pytest.fixture
def taught(tmp_path):
    """A nuScenes folder of three frames with a teacher's outputs and segments below it."""
    root = layouts.write_nuscenes(tmp_path / "data", scenes=("scene-0001",), frames=3, val=())
    plain = open_dataset(root, split="train", config=DataConfig(load_points=True))
    for index in range(len(plain)):
        sample = plain[index]
        volume = torch.arange(18 * sample.grid.num_voxels).reshape(18, *sample.grid.shape).float()
        visible = (volume[0] % 3) == 0
        write_teaching(root / "teaching/x", sample.token, Teaching(logits=volume, visible=visible), bits=16)
        for name, image in zip(sample.camera_names, sample.images[0], strict=True):
            ids = np.full(image.shape[1:], 5, dtype=np.uint16)
            ids[0, 0] = 0
            write_image(root / "segments/x" / sample.token / f"{name}.png", ids)
    return root


def test_samples_carry_both_in_training_only(taught):
    config = DataConfig(teaching="teaching/x", segments="segments/x")
    sample = open_dataset(taught, split="train", config=config, training=True)[0]
    assert sample.teaching.logits.shape == (18, *sample.grid.shape)
    assert sample.segments.shape == (len(sample.camera_names), *sample.images.shape[-2:])
    assert sample.segments.unique().tolist() == [-1, 4]
    assert open_dataset(taught, split="train", config=config)[0].teaching is None
    other = replace(config, teaching=str(taught / "teaching/x"), segments=None)
    assert open_dataset(taught, split="train", config=other, training=True)[0].segments is None


def test_a_mirrored_frame_has_a_mirrored_teacher(taught):
    augment = AugmentConfig(scale=(0.0, 0.0), rotate_degrees=0.0, mirror_image=0.0, flip_x=0.0, flip_y=1.0)
    config = DataConfig(teaching="teaching/x", augment=augment)
    dataset = open_dataset(taught, split="train", config=config, training=True)
    plain, mirrored = dataset.sample(0), dataset.sample(0, seed=1)
    assert torch.equal(mirrored.teaching.logits, plain.teaching.logits.flip(2))
    assert torch.equal(mirrored.teaching.visible, plain.teaching.visible.flip(1))
    assert torch.equal(mirrored.occupancy.semantics, plain.occupancy.semantics.flip(1))


def test_withheld_labels_say_nothing(taught):
    dataset = open_dataset(taught, split="train", config=DataConfig(), training=True)
    dataset.withheld = frozenset(dataset.tokens[:1])
    hidden, shown = dataset[0].occupancy, dataset[1].occupancy
    assert (hidden.semantics == dataset.taxonomy.ignore_id).all()
    assert not hidden.mask_camera.any()
    assert (shown.semantics != dataset.taxonomy.ignore_id).any()
    assert dataset.label(dataset.tokens[0]).mask_camera.any()


def test_of_withheld_labels_one_is_read(taught, monkeypatch):
    dataset, read = open_dataset(taught, split="train", config=DataConfig(), training=True), list[str]()
    dataset.withheld = frozenset(dataset.tokens)
    label = dataset.label
    monkeypatch.setattr(dataset, "label", lambda token: read.append(token) or label(token))
    samples = [dataset[i] for i in range(len(dataset))]
    assert all((sample.occupancy.semantics == dataset.taxonomy.ignore_id).all() for sample in samples)
    assert len(read) == 1 < len(dataset)
