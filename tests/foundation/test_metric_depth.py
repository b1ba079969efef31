"""Depth of networks and of LiDAR."""

import importlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from occkit.errors import ConfigError, DataError
from occkit.foundation import (
    CanonicalDepthConfig,
    LidarDepthConfig,
    TransformersDepthConfig,
    canonical_depth,
)
from occkit.foundation.depth import clean_depth
from occkit.foundation.lidar_depth import fill_depth
from occkit.geometry import Cameras
from tiny_models import save_depth_anything, save_glpn, scramble

LOOKING_FORWARD = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
NUSCENES = (900, 1600)
METRIC3D = {"canonical_focal": 1000.0, "canonical_size": (616, 1064), "max_depth": 300.0}
SMALL = {"canonical_focal": 100.0, "canonical_size": (44, 76), "max_depth": 300.0}


def cameras(*focal, size=(40, 56)):
    matrices = [torch.tensor([[f, 0, size[1] / 2], [0, 2 * f, size[0] / 2], [0, 0, 1]]) for f in focal]
    poses = LOOKING_FORWARD.repeat(len(focal), 1, 1)
    return Cameras(intrinsics=torch.stack(matrices), ego_from_camera=poses, height=size[0], width=size[1])


def random_images(count=2, size=(40, 56)):
    return torch.randint(0, 256, (count, 3, *size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def estimate(estimator, images, focal=(100.0, 60.0), token="t"):
    size = (images.shape[-2], images.shape[-1])
    names = ("front", "rear", "left")[: len(images)]
    return estimator.estimate(images, cameras=cameras(*focal, size=size), token=token, names=names)


# --- A canonical camera ------------------------------------------------------------------------------------------


def constant(metres):
    return lambda pixels: torch.full((len(pixels), *pixels.shape[-2:]), metres)


def test_the_canonical_factor_is_that_of_each_camera():
    """The figures of nuScenes: five cameras of 1266 pixels, a rear one of 809."""
    images = torch.zeros((2, 3, *NUSCENES), dtype=torch.uint8)
    depth = canonical_depth(constant(10.0), images, torch.tensor([1266.0, 809.0]), **METRIC3D)
    assert depth.shape == (2, *NUSCENES)
    assert depth[0].unique().tolist() == pytest.approx([10 * 0.8419], abs=1e-3)
    assert depth[1].unique().tolist() == pytest.approx([10 * 0.665 * 0.809], abs=1e-3)


def test_images_are_scaled_padded_evenly_and_normalised():
    seen = []

    def network(pixels):
        seen.append(pixels)
        return torch.ones(len(pixels), *pixels.shape[-2:])

    images = torch.zeros((1, 3, *NUSCENES), dtype=torch.uint8)
    canonical_depth(network, images, torch.tensor([1000.0]), **METRIC3D)
    (pixels,) = seen
    assert pixels.shape == (1, 3, 616, 1064)
    # 900 rows become 598; the 18 others lie above and below, half each, of the mean colour.
    black = torch.tensor([-123.675 / 58.395, -116.28 / 57.12, -103.53 / 57.375])
    assert torch.allclose(pixels[0, :, 9:-9], black[:, None, None].expand(-1, 598, 1064), atol=1e-5)
    assert not pixels[0, :, :9].any()
    assert not pixels[0, :, -9:].any()


@pytest.mark.parametrize("size", [(40, 56), (56, 40), (100, 90)])
def test_each_pixel_gets_its_own_depth_back(size):
    """A network that reads the depth off the red channel; whatever it says of the padding must not show."""
    ramp = torch.linspace(40.0, 200.0, size[1]).expand(size) + torch.linspace(0.0, 50.0, size[0])[:, None]
    images = ramp.to(torch.uint8).expand(1, 3, *size).clone()

    def network(pixels):
        red = pixels[:, :1] * 58.395 + 123.675
        return torch.where((pixels == 0).all(1, keepdim=True), 1e4, red)

    scale = min(44 / size[0], 76 / size[1])
    depth = canonical_depth(network, images, torch.tensor([100.0 / scale]), **SMALL)
    inner = (slice(3, -3), slice(3, -3))
    assert (depth[0] - images[0, 0]).abs()[inner].max() < 4.0


def test_twice_the_pixels_leave_metric_depth_as_it_is():
    """The camera of the larger image has twice the focal length in pixels."""
    images = random_images(1, (20, 30)).float()
    larger = functional.interpolate(images, scale_factor=8, mode="bilinear").to(torch.uint8)
    images = functional.interpolate(images, scale_factor=4, mode="bilinear").to(torch.uint8)

    def network(pixels):
        return 20.0 + 3.0 * pixels.mean(1)

    once = canonical_depth(network, images, torch.tensor([150.0]), **SMALL)
    twice = canonical_depth(network, larger, torch.tensor([300.0]), **SMALL)
    middle = functional.interpolate(twice[:, None], once.shape[-2:], mode="area")[:, 0]
    assert (middle / once - 1).abs().max() < 0.02


def test_depth_stays_in_range_and_what_is_no_number_is_unknown():
    answer = torch.tensor([[-1.0, 50.0], [400.0, float("nan")]]).repeat_interleave(22, 0).repeat_interleave(38, 1)
    images = torch.zeros((1, 3, 44, 76), dtype=torch.uint8)
    depth = canonical_depth(lambda _: answer[None], images, torch.tensor([100.0]), **SMALL)[0]
    assert depth[0, 0] == 0.0
    assert depth[0, -1] == 50.0
    assert depth[-1, 0] == 300.0
    assert depth[-1, -1] == 0.0
    assert clean_depth(torch.tensor([[[math.inf, 5.0, -math.inf]]]), 300.0).tolist() == [[[0.0, 5.0, 0.0]]]


def test_a_network_of_ones_own_is_an_estimator():
    asked = []

    def network(pixels):
        asked.append(len(pixels))
        return pixels.mean(1, keepdim=True)[..., ::2, ::2] + 10.0

    images = random_images(3)
    settings = CanonicalDepthConfig(name="mine 1.0", canonical_focal=100.0, canonical_size=(44, 76), batch_size=2)
    depth = estimate(settings.build(network), images, (100.0, 50.0, 50.0))
    assert asked == [2, 1]
    assert depth.shape == (3, 40, 56)
    assert torch.allclose(depth, estimate(replace(settings, batch_size=3).build(network), images, (100.0, 50.0, 50.0)))
    other = estimate(settings.build(network), images, (100.0, 100.0, 50.0))
    assert torch.allclose(other[1], 2 * depth[1])
    assert settings.build(network).description == {
        "depth": "canonical", "name": "mine 1.0", "canonical_focal": 100.0, "canonical_size": (44, 76),
        "max_depth": 300.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    "options", [{"canonical_focal": 0.0}, {"max_depth": -1.0}, {"canonical_size": (0, 9)}, {"batch_size": 0}]
)
def test_impossible_canonical_cameras_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        CanonicalDepthConfig(name="mine", **options)


# --- Networks of transformers ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth_anything")
    save_depth_anything(folder)
    return folder


@pytest.fixture(scope="module")
def zoe_folder(tmp_path_factory):
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone = library.BeitConfig(
        image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16,
        out_features=["stage1", "stage2", "stage3", "stage4"], reshape_hidden_states=False,
    )  # fmt: skip
    config = library.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, bottleneck_features=8,
        num_relative_features=4, bin_embedding_dim=4, num_attractors=[2, 2, 2, 1], patch_transformer_hidden_size=8,
        patch_transformer_intermediate_size=8, patch_transformer_num_attention_heads=1,
        bin_configurations=[{"n_bins": 4, "min_depth": 0.001, "max_depth": 80.0, "name": "kitti"}],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("zoedepth")
    scramble(library.ZoeDepthForDepthEstimation(config)).save_pretrained(folder)
    size = {"height": 96, "width": 96}
    library.ZoeDepthImageProcessor(size=size, keep_aspect_ratio=False, ensure_multiple_of=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def glpn_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glpn")
    save_glpn(folder)
    return folder


def open_network(folder, **options):
    return TransformersDepthConfig(weights=str(folder), **options).build()


@pytest.mark.parametrize("network", ["depth_folder", "zoe_folder", "glpn_folder"])
def test_strips_and_tiny_images_have_depth(network, request):
    estimator = open_network(request.getfixturevalue(network))
    for size in ((3, 90), (5, 2)):
        depth = estimate(estimator, random_images(2, size))
        assert depth.shape == (2, *size)
        assert bool(depth.isfinite().all())


@pytest.mark.parametrize("network", ["depth_folder", "zoe_folder", "glpn_folder"])
def test_a_metric_network_from_a_folder_is_asked(network, request):
    estimator, images = open_network(request.getfixturevalue(network)), random_images()
    depth = estimate(estimator, images)
    assert depth.shape == (2, 40, 56)
    assert depth.dtype == torch.float32
    assert depth.min() >= 0
    assert depth.std() > 0.01 * depth.mean()
    # It is metric as it is: the focal length is not its business.
    assert torch.equal(depth, estimate(estimator, images, (50.0, 50.0)))
    together = open_network(request.getfixturevalue(network), batch_size=2)
    assert torch.allclose(depth, estimate(together, images), atol=1e-2)
    assert together.description == estimator.description
    assert json.dumps(estimator.description)
    assert estimate(open_network(request.getfixturevalue(network), max_depth=0.25), images).max() == 0.25


def test_depth_is_finished_as_its_own_library_does(depth_folder):
    library = importlib.import_module("transformers")
    images = random_images(1)
    pipeline = library.pipeline("depth-estimation", model=str(depth_folder), device="cpu")
    picture = importlib.import_module("PIL.Image").fromarray(images[0].permute(1, 2, 0).numpy())
    theirs = pipeline(picture)["predicted_depth"]
    assert torch.allclose(estimate(open_network(depth_folder), images, (100.0,))[0], theirs.clamp(min=0), rtol=1e-4)


@pytest.mark.parametrize("network", ["depth_folder", "zoe_folder"])
def test_each_pixel_of_a_metric_network_gets_its_own_depth_back(network, request):
    """A network that answers with the brightness it is shown: padding and axes must come off again."""
    estimator = open_network(request.getfixturevalue(network))
    own = estimator.model.config
    processor = estimator._processor
    mean, std = (torch.tensor(v)[:, None, None] for v in (processor.image_mean, processor.image_std))

    def brightness(pixel_values):
        return SimpleNamespace(predicted_depth=(pixel_values * std + mean).mean(1) * 255)

    brightness.config = own
    estimator.model = brightness
    size = (60, 90)
    ramp = torch.linspace(20.0, 180.0, size[1]).expand(size) + torch.linspace(0.0, 60.0, size[0])[:, None]
    images = ramp.to(torch.uint8).expand(1, 3, *size).clone()
    depth = estimate(estimator, images, (100.0,))[0]
    assert (depth - images[0, 0]).abs()[4:-4, 4:-4].max() < 6.0


def test_a_network_for_a_canonical_camera_follows_the_focal_length(depth_folder):
    canonical = {"canonical_focal": 100.0, "canonical_size": (28, 42)}
    estimator, images = open_network(depth_folder, **canonical), random_images()
    depth, nearer = estimate(estimator, images), estimate(estimator, images, (50.0, 60.0))
    assert depth.min() > 0
    assert torch.allclose(nearer[0], depth[0] / 2, rtol=1e-5)
    assert torch.equal(nearer[1], depth[1])
    asked = estimator.model
    ours = canonical_depth(
        lambda pixels: asked(pixel_values=pixels).predicted_depth,
        images, torch.tensor([100.0, 60.0]), max_depth=300.0, **canonical,
    )  # fmt: skip
    assert torch.allclose(depth, ours, rtol=1e-4)
    assert estimator.description["canonical_focal"] == 100.0


def test_relative_depth_is_not_taken_for_metres(tmp_path):
    save_depth_anything(tmp_path, depth_estimation_type="relative", max_depth=1)
    with pytest.raises(ConfigError, match="what is nearer than what"):
        open_network(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "dpt"}')
    with pytest.raises(ConfigError, match=r"expected a config\.json of type zoedepth or .*got dpt"):
        open_network(tmp_path)


def test_folders_without_a_whole_network_are_named(tmp_path, depth_folder):
    with pytest.raises(ConfigError, match=r"nowhere' are no folder; save a model there"):
        open_network(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no folder"):
        open_network("depth-anything/Depth-Anything-V2-Metric-Outdoor-Small-hf")
    with pytest.raises(ConfigError, match="got none"):
        open_network(tmp_path)
    (tmp_path / "config.json").write_bytes((depth_folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_network(tmp_path)
    weights = (depth_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_network(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    with pytest.raises(ConfigError, match=r"the processor of .* cannot be loaded: .*save_pretrained"):
        open_network(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "depth_anything", "neck_hidden_sizes": "many"}')
    with pytest.raises(ConfigError, match="cannot be loaded"):
        open_network(tmp_path)


def test_networks_with_holes_are_refused(tmp_path, depth_folder):
    files = importlib.import_module("safetensors.torch")
    state = files.load_file(depth_folder / "model.safetensors")
    state.pop("head.conv1.weight")
    files.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_bytes((depth_folder / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"TransformersDepth.*lack 1 tensors, first head\.conv1"):
        open_network(tmp_path)


def test_missing_transformers_names_the_extra(monkeypatch, depth_folder):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ConfigError, match=r"TransformersDepth.*occkit\[hf\]"):
        open_network(depth_folder)


@pytest.mark.parametrize(
    "options",
    [{"max_depth": 0.0}, {"batch_size": 0}, {"canonical_focal": 1000.0}, {"canonical_size": (616, 1064)}],
)
def test_impossible_network_settings_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        TransformersDepthConfig(weights="folder", **options)
    with pytest.raises(ConfigError, match="canonical_size"):
        TransformersDepthConfig(weights="folder", canonical_focal=1.0, canonical_size=(0, 1))


# --- LiDAR -------------------------------------------------------------------------------------------------------


def wall(distance=10.0):
    """Points of a plane ahead, one in the middle of every fourth pixel of `cameras(28.0)`."""
    v, u = torch.meshgrid(torch.arange(0.5, 40, 2), torch.arange(0.5, 56, 2), indexing="ij")
    ray = torch.stack([torch.ones_like(u), (28 - u) / 28, (20 - v) / 56], dim=-1)
    return torch.cat([distance * ray.reshape(-1, 3), torch.ones(u.numel(), 1)], dim=1)


def test_a_plane_at_ten_metres_has_z_of_ten_everywhere():
    """The distance along the ray grows to 14 m at the borders of this image."""
    estimator = LidarDepthConfig().build({"t": wall()})
    depth = estimate(estimator, random_images(1), (28.0,))
    assert depth.shape == (1, 40, 56)
    assert wall()[:, :3].norm(dim=1).max() > 13.9
    assert depth[:, ::2, ::2].unique().tolist() == pytest.approx([10.0])
    assert not depth[:, 1::2].any()


def test_points_may_come_from_a_function_and_gaps_be_filled():
    def read(token):
        return wall(float(token))

    sparse, dense = (LidarDepthConfig(fill_radius=r).build(read) for r in (0.0, 1.0))
    assert estimate(sparse, random_images(1), (28.0,), token="20").max() == pytest.approx(20.0)
    depth = estimate(dense, random_images(1), (28.0,), token="20")
    assert sparse.description != dense.description
    # One pixel away along an axis, and not across the corner.
    assert (depth[:, ::2] > 0).all()
    assert not depth[:, 1::2, 1::2].any()


def test_filling_takes_the_nearest_within_its_radius():
    depth = torch.zeros(2, 5, 9)
    depth[0, 2, 1], depth[0, 2, 7] = 5.0, 30.0
    assert torch.equal(fill_depth(depth, 0.0), depth)
    filled = fill_depth(depth, 2.0)
    assert filled[0, 2].tolist() == [5.0, 5.0, 5.0, 5.0, 0.0, 30.0, 30.0, 30.0, 30.0]
    assert filled[0, 0].tolist() == [0.0, 5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 30.0, 0.0]
    assert not filled[1].any()
    assert depth[0, 2, 2] == 0.0


def test_frames_without_points_are_named():
    for points in ({}, lambda token: None):
        with pytest.raises(DataError, match="frame t: has no LiDAR points"):
            estimate(LidarDepthConfig().build(points), random_images(1), (28.0,))
    with pytest.raises(ValueError, match=r"points of t: expected \[p, 3 or more\], got \(4, 2\)"):
        estimate(LidarDepthConfig().build({"t": torch.zeros(4, 2)}), random_images(1), (28.0,))
    with pytest.raises(ConfigError, match="fill_radius"):
        LidarDepthConfig(fill_radius=-1.0)
    assert not estimate(LidarDepthConfig().build({"t": torch.zeros(0, 4)}), random_images(1), (28.0,)).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:1], r"cameras: expected \(2,\) of 40 x 56 pixels, got \(1,\) of 40 x 56"),
        (lambda c: replace(c, height=41), "got .* of 41 x 56"),
        (lambda c: c.map(lambda t: t[None]), r"got \(1, 2\)"),
        (lambda c: replace(c, intrinsics=-c.intrinsics), "positive focal lengths"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(change, message):
    estimator = CanonicalDepthConfig(name="mine").build(constant(1.0))
    with pytest.raises(ValueError, match=message):
        estimator.estimate(random_images(), cameras=change(cameras(100.0, 60.0)), token="t", names=("front", "rear"))
    with pytest.raises(ValueError, match="a name of its own"):
        estimator.estimate(random_images(), cameras=cameras(100.0, 60.0), token="t", names=("front", "front"))
