import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from truth_layers import SIZE, write_layers

from occkit.data import DataConfig, open_dataset
from occkit.errors import ConfigError, DataError
from occkit.foundation import LidarDepthConfig, SimulatedDepthConfig
from occkit.foundation.truth import read_truth
from occkit.geometry import Cameras

FAULTS = ("scene_scale", "image_scale", "field", "noise", "bleed")


def perfect(root, **options):
    return replace(SimulatedDepthConfig.perfect(root), **options).build()


def look(estimator, token="t", names=("front",), size=SIZE):
    cameras = Cameras(
        intrinsics=torch.eye(3).repeat(len(names), 1, 1),
        ego_from_camera=torch.eye(4).repeat(len(names), 1, 1),
        height=size[0],
        width=size[1],
    )
    images = torch.zeros((len(names), 3, *size), dtype=torch.uint8)
    return estimator.estimate(images, cameras=cameras, token=token, names=names)


def error_of(estimator, token="t", camera="front", size=SIZE):
    """Natural logarithm of estimated over true depth, where the truth is 10 m everywhere."""
    return (look(estimator, token, (camera,), size)[0].double() / 10).log().numpy()


def sample_of(root, index=0):
    return open_dataset(root, split="all", config=DataConfig(load_points=True))[index]


def estimate(estimator, sample):
    cameras = sample.cameras[0]
    return estimator.estimate(sample.images[0], cameras=cameras, token=sample.token, names=sample.camera_names)


def true_depth(root, sample):
    size = tuple(sample.images.shape[-2:])
    layers = [read_truth(root, sample.token, name, size=size).depth for name in sample.camera_names]
    return torch.from_numpy(np.stack(layers).astype(np.float32))


def test_without_faults_it_is_the_truth(street, kitti_street):
    for root in (street, kitti_street):
        sample = sample_of(root)
        depth = estimate(perfect(root), sample)
        assert depth.dtype == torch.float32
        assert torch.equal(depth, true_depth(root, sample))
        assert (depth == 0).any()


def test_true_depth_is_z_as_the_lidar_sees_it(street):
    sample = sample_of(street)
    true = true_depth(street, sample)
    lidar = estimate(LidarDepthConfig().build({sample.token: sample.points}), sample)
    both = (lidar > 0) & (true > 0)
    assert both.sum() > 200
    assert ((lidar / true)[both] - 1).abs().median() < 0.02


def test_the_scale_of_a_scene_stays_in_all_its_frames(tmp_path):
    for scene in range(150):
        for token in (f"{scene}a", f"{scene}b"):
            write_layers(tmp_path, token, scene=f"scene-{scene}", size=(2, 2))
    write_layers(tmp_path, "0a", "rear", scene="scene-0", size=(2, 2))
    estimator = perfect(tmp_path, scene_scale=0.1)
    errors = np.array([[error_of(estimator, f"{scene}{t}", size=(2, 2)) for t in "ab"] for scene in range(150)])
    assert np.ptp(errors, axis=(1, 2, 3)).max() < 1e-6
    assert errors.std() == pytest.approx(0.1, rel=0.2)
    assert abs(errors.mean()) < 0.03
    assert abs(error_of(estimator, "0a", "rear", (2, 2)) - errors[0, 0]).min() > 1e-3


@pytest.mark.parametrize(("fault", "within"), [("image_scale", 0.0), ("noise", 0.1)])
def test_scale_and_noise_have_the_stated_spread(tmp_path, fault, within):
    errors = []
    for index in range(150):
        write_layers(tmp_path, str(index), size=(8, 8))
        errors.append(error_of(perfect(tmp_path, **{fault: 0.1}), str(index), size=(8, 8)))
    errors = np.array(errors)
    assert errors.std() == pytest.approx(0.1, rel=0.15)
    assert errors.std(axis=(1, 2)).mean() == pytest.approx(within, rel=0.05, abs=1e-6)
    assert abs(errors.mean()) < 0.03


def test_a_bend_is_straight_between_its_control_points(tmp_path):
    size, points = (31, 51), []
    for index in range(40):
        write_layers(tmp_path, str(index), size=size)
        error = error_of(perfect(tmp_path, field=0.1), str(index), size=size)
        points.append(error[::10, ::10])
        for axis, spacing in ((0, 10), (1, 10)):
            turns = np.moveaxis(np.diff(error, 2, axis=axis), axis, 0)
            assert abs(np.delete(turns, np.arange(spacing - 1, len(turns), spacing), 0)).max() < 1e-6
            assert abs(turns[spacing - 1]).max() > 1e-4
    assert points[0].shape == (4, 6)
    assert np.std(points) == pytest.approx(0.1, rel=0.1)


def test_steps_bleed_and_nothing_else_does(tmp_path):
    depth = np.full(SIZE, 10.0)
    depth[:, 12:] = 40.0
    depth[:, 24:] = 41.5  # too low a step
    depth[:, 36:] = 0.0  # sky
    for index in range(20):
        write_layers(tmp_path, str(index), depth=depth)
    found = np.stack([look(perfect(tmp_path, bleed=0.7, sky=0.0), str(index))[0].numpy() for index in range(20)])
    moved = found != depth
    assert not moved[:, :, np.delete(np.arange(48), [11, 12])].any()
    assert moved[:, :, 11:13].mean() == pytest.approx(0.7, abs=0.05)
    mixed = found[:, :, 11:13][moved[:, :, 11:13]]
    assert 10.0 < mixed.min() < 12.0 < 38.0 < mixed.max() < 40.0
    assert mixed.mean() == pytest.approx(25.0, abs=1.5)
    lower = look(perfect(tmp_path, bleed=1.0, bleed_above=1.0, sky=0.0), "0")[0].numpy()
    assert (lower != depth).all(axis=0).nonzero()[0].tolist() == [11, 12, 23, 24]


def test_outlines_bleed_into_the_sky_and_no_further(tmp_path):
    depth = np.full(SIZE, 10.0)
    depth[:, 24:] = 0.0  # sky
    for index in range(20):
        write_layers(tmp_path, str(index), depth=depth)
    found = np.stack([look(perfect(tmp_path, bleed=0.7, sky=100.0), str(index))[0].numpy() for index in range(20)])
    assert (found[:, :, :23] == 10.0).all()
    assert (found[:, :, 25:] == 0.0).all()
    thing, sky = found[:, :, 23], found[:, :, 24]
    assert (thing != 10.0).mean() == pytest.approx(0.7, abs=0.06)
    assert (sky != 0.0).mean() == pytest.approx(0.7, abs=0.06)
    halo = sky[sky != 0.0]
    assert 10.0 <= halo.min() < 15.0 < 95.0 < halo.max() <= 100.0


def test_of_several_steps_the_largest_bleeds(tmp_path):
    depth = np.full((3, 3), 10.0)
    depth[1, 1], depth[0, 1] = 20.0, 100.0
    write_layers(tmp_path, size=(3, 3), depth=depth)
    found = [look(perfect(tmp_path, bleed=1.0, seed=seed), size=(3, 3))[0, 1, 1].item() for seed in range(100)]
    assert min(found) >= 20.0
    assert max(found) > 90.0


def test_faults_have_chances_of_their_own(street):
    """Away from bleeding they multiply: the errors of single faults add up to that of all together."""
    sample = sample_of(street, 1)
    true = true_depth(street, sample)
    known = true > 0
    config = replace(SimulatedDepthConfig(root=street), bleed=0.0)
    together = (estimate(config.build(), sample) / true)[known].log()
    single = {f: perfect(street, **{f: getattr(config, f)}) for f in FAULTS if f != "bleed"}
    logs = [(estimate(e, sample) / true)[known].log() for e in single.values()]
    assert torch.allclose(together, sum(logs), atol=1e-4)
    assert all(log.std() + log.mean().abs() > 1e-3 for log in logs)


def test_no_two_faults_share_their_chance(tmp_path):
    """The first number each of them draws shows in the first pixel."""
    write_layers(tmp_path)
    first = [error_of(perfect(tmp_path, **{f: 0.1}))[0, 0] for f in FAULTS if f != "bleed"]
    assert np.abs(np.subtract.outer(first, first) + np.eye(4)).min() > 1e-4


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_follows_the_seed(street, fault):
    sample = sample_of(street)
    one, same, other = (estimate(perfect(street, seed=s, **{fault: 0.5}), sample) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_chance_depends_on_seed_frame_and_camera_only(street, tmp_path):
    sample = sample_of(street)
    config = SimulatedDepthConfig(root=street)
    depth = estimate(config.build(), sample)
    order = [3, 1]
    some = config.build().estimate(
        sample.images[0][order],
        cameras=sample.cameras[0][torch.tensor(order)],
        token=sample.token,
        names=[sample.camera_names[i] for i in order],
    )
    assert torch.equal(depth[order], some)
    assert not torch.equal(depth, estimate(replace(config, seed=1).build(), sample))
    # The same truth under another name, of the camera or of the frame, meets other chances.
    size = tuple(sample.images.shape[-2:])
    shutil.copytree(street / "truth", tmp_path / "truth")
    estimator = replace(config, root=tmp_path).build()
    own = next(tmp_path.glob(f"truth/*/{sample.token}/{sample.camera_names[0]}.npz"))
    shutil.copy(own, own.with_name("TWIN.npz"))
    shutil.copytree(own.parent, own.parent.with_name("renamed"))
    assert torch.equal(depth[:1], look(estimator, sample.token, sample.camera_names[:1], size))
    assert not torch.equal(depth[:1], look(estimator, sample.token, ("TWIN",), size))
    assert not torch.equal(depth[:1], look(estimator, "renamed", sample.camera_names[:1], size))


def test_the_strengths_are_far_apart(street):
    sample = sample_of(street)
    true = true_depth(street, sample)
    known = true > 0
    wrong = {}
    for name in ("perfect", "realistic", "poor"):
        config = getattr(SimulatedDepthConfig, name)(street)
        depth = estimate(config.build(), sample)
        assert (depth > 0)[known].all()
        assert torch.equal(depth > 0, known) == (config.bleed == 0)
        wrong[name] = float((depth / true - 1).abs()[known].mean())
    assert wrong["perfect"] == 0.0
    assert 0.03 < wrong["realistic"] < 0.15
    assert wrong["poor"] > 2 * wrong["realistic"]
    assert SimulatedDepthConfig.realistic(street) == SimulatedDepthConfig(root=street)


def test_the_description_says_all_but_the_place(tmp_path):
    one, two = (SimulatedDepthConfig(root=tmp_path / name).build().description for name in "ab")
    assert one == two
    assert one["depth"] == "simulated"
    assert set(FAULTS) < set(one)
    assert one != SimulatedDepthConfig(root=tmp_path, seed=3).build().description


def test_truth_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no procedural world"):
        look(perfect(tmp_path))
    write_layers(tmp_path)
    with pytest.raises(DataError, match="no truth layers of frame 'other'"):
        look(perfect(tmp_path), "other")
    with pytest.raises(DataError, match=r"rear\.npz: no such file"):
        look(perfect(tmp_path), names=("rear",))
    with pytest.raises(DataError, match="neither scaled nor cropped"):
        look(perfect(tmp_path), size=(16, 24))


@pytest.mark.parametrize(
    "options", [{"scene_scale": 1.1}, {"image_scale": -0.1}, {"field": 2.0}, {"bleed": 1.5}, {"bleed_above": 0.0}]
)
def test_impossible_faults_are_refused(tmp_path, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SimulatedDepthConfig(root=tmp_path, **options)
