from dataclasses import replace

import pytest
import torch

from occkit.data.datasets import open_dataset
from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.losses import VoxelLossConfig
from occkit.nn.depth import DepthNetConfig
from occkit.nn.temporal import ConcatTemporalConfig
from occkit.samples import collate
from occkit.systems import lift
from occkit.taxonomy import KITTI360, OCC3D, SEMANTICKITTI, TAXONOMIES

SMALL_GRID = VoxelGrid(origin=(-16.0, -16.0, -1.0), voxel_size=(1.6, 1.6, 0.8), shape=(20, 20, 8))


def small(name, **system):
    """A nano recipe's kind of network, shrunk for a test."""
    config = getattr(lift, name)().system
    tiny = lift.debug().system
    depth = replace(config.depth, hidden=8, bins=tiny.depth.bins)
    return replace(config, depth=depth, **{"image_steps": 0} | system)


def settled(model, frames):
    """The network in evaluation mode, its batch statistics near those of the frames."""
    with torch.no_grad():
        for _ in range(30):
            model(frames)
    return model.eval()


@pytest.fixture
def batch(make_sample):
    def make(*seeds, grid=SMALL_GRID, taxonomy=OCC3D, **options):
        settings = {"size": (32, 88), "num_cameras": 3} | options
        return collate([make_sample(grid=grid, taxonomy=taxonomy, seed=s, **settings) for s in seeds])

    return make


@pytest.mark.parametrize("name", ["nano", "nano_no_mask", "nano_stereo", "nano_volume"])
def test_every_nano_variant_trains_all_its_parameters(name, batch):
    model = small(name, grid=SMALL_GRID).build()
    frames = batch(0, num_frames=1 + model.config.num_past)
    prediction = model(frames)
    assert prediction.logits.shape == (1, 18, *SMALL_GRID.shape)
    torch.stack(list(model.loss(prediction, frames).values())).sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["nano", "nano_stereo", "nano_volume"])
def test_a_batch_of_two_is_two_of_one_in_every_variant(name, batch):
    model = small(name, grid=SMALL_GRID).build().eval()
    frames = 1 + model.config.num_past
    with torch.no_grad():
        together = model(batch(0, 1, num_frames=frames)).logits
        apart = torch.cat([model(batch(s, num_frames=frames)).logits for s in (0, 1)])
    assert torch.allclose(together, apart, atol=1e-4, rtol=1e-4)


def test_the_image_network_learns_alone_first(batch):
    model = small("nano", image_steps=2).build()
    frames = batch(0)
    for expected in (
        {"depth", "image_classes"},
        {"depth", "image_classes"},
        {"cross_entropy", "lovasz", "depth", "image_classes"},
    ):
        model.zero_grad()
        values = model.loss(model(frames), frames)
        assert set(values) == expected
        torch.stack(list(values.values())).sum().backward()
        assert (model.head.classify[0].weight.grad is not None) is ("lovasz" in expected)
        assert model.depth.context.weight.grad.any()
    assert model.trained_steps.item() == 3
    again = small("nano", image_steps=2).build()
    with torch.no_grad():
        assert not again(frames).logits.any()
        assert again.eval()(frames).logits.any()
        again.load_state_dict(model.state_dict())
        assert again.train()(frames).logits.any()


def test_what_an_image_cell_shows_is_lifted_as_probabilities(batch):
    model = small("nano").build().eval()
    with torch.no_grad():
        _, views = model.encode(batch(0))
    shown = views.context[:, :, : OCC3D.num_classes]
    assert torch.allclose(shown.sum(dim=2), torch.ones(()), atol=1e-5)
    assert torch.equal(shown, views.class_logits.softmax(dim=2))


def test_past_volumes_are_fused(batch):
    """Without stereo, a past image can only come in as a volume of its own."""
    model = settled(small("nano", num_past=1, temporal=ConcatTemporalConfig()).build(), batch(0, num_frames=2))
    frames = batch(0, num_frames=2)
    blank = replace(frames, images=torch.cat([frames.images[:, :1], torch.zeros_like(frames.images[:, 1:])], dim=1))
    with torch.no_grad():
        seen, unseen = model(frames), model(blank)
    assert torch.equal(seen.depth_logits, unseen.depth_logits)
    assert not torch.allclose(seen.logits, unseen.logits, atol=1e-3)


def test_kitti_has_no_camera_mask(batch):
    model = small("nano_kitti").build()
    frames = batch(0, taxonomy=SEMANTICKITTI, num_cameras=1)
    frames = replace(frames, occupancy=replace(frames.occupancy, mask_camera=None, mask_lidar=None))
    assert model(frames).logits.shape[1] == 20
    assert all(v.isfinite() for v in model.loss(model(frames), frames).values())
    strict = replace(model.config, losses=replace(model.config.losses, voxels=VoxelLossConfig())).build()
    with pytest.raises(ConfigError, match="no camera mask"):
        strict.loss(strict(frames), frames)


def test_other_rigs_and_grids_than_the_trained_ones(batch):
    """One network, whatever the number of cameras, the image size and the extent of the volume."""
    model = small("nano").build().eval()
    finer = VoxelGrid.from_shape(SMALL_GRID.origin, SMALL_GRID.upper, (40, 36, 8))
    with torch.no_grad():
        for options in ({"num_cameras": 1}, {"num_cameras": 8, "size": (48, 64)}, {"grid": finer}):
            frames = batch(0, **options)
            prediction = model(frames)
            assert prediction.logits.shape == (1, 18, *frames.grid.shape)
            assert prediction.logits.isfinite().all()


def test_geometry_comes_from_the_cameras(batch):
    """Turning the rig and the images' order alike turns nothing; turning only the poses changes the prediction."""
    frames = batch(0)
    model = settled(small("nano_volume").build(), frames)
    order = [2, 0, 1]
    same = replace(frames, images=frames.images[:, :, order], cameras=frames.cameras.map(lambda t: t[:, :, order]))
    other = replace(frames, cameras=same.cameras)
    with torch.no_grad():
        expected = model(frames).logits
        assert torch.allclose(model(same).logits, expected, atol=1e-4)
        assert not torch.allclose(model(other).logits, expected, atol=1e-2)


@pytest.mark.parametrize("masked", [True, False])
def test_the_camera_mask_decides_which_voxels_teach(masked, batch):
    config = small("nano_volume")
    model = replace(
        config,
        losses=lift.LiftLossConfig(voxels=VoxelLossConfig(mask_camera_in_training=masked), depth=0.0),
    ).build()
    frames = batch(0)
    prediction = model(frames)
    logits = prediction.logits.detach().requires_grad_()
    torch.stack(list(model.loss(replace(prediction, logits=logits), frames).values())).sum().backward()
    unseen = logits.grad.abs().sum(dim=1)[~frames.occupancy.mask_camera]
    assert bool(unseen.any()) is not masked


def test_past_frames_and_stereo_matter_and_must_be_there(batch):
    torch.manual_seed(0)
    frames = batch(0, num_frames=2)
    model = settled(small("nano_stereo").build(), frames)
    blank = replace(frames, images=torch.cat([frames.images[:, :1], torch.zeros_like(frames.images[:, 1:])], dim=1))
    with torch.no_grad():
        seen, unseen = model(frames), model(blank)
    # A present that does not look at the past gives the same to the last bit.
    assert not torch.allclose(seen.logits, unseen.logits, rtol=0, atol=1e-5)
    assert not torch.allclose(seen.depth_logits, unseen.depth_logits, rtol=0, atol=1e-5)
    with pytest.raises(ConfigError, match="needs 1 past frames, the batch has 0"):
        model(batch(0))


def test_errors_name_what_is_missing(batch):
    model = small("nano").build()
    frames = batch(0)
    prediction = model(frames)
    with pytest.raises(ConfigError, match=r"frame0 .* has no label"):
        model.loss(prediction, replace(frames, occupancy=None))
    with pytest.raises(ConfigError, match=r"DataConfig\.load_depth"):
        model.loss(prediction, replace(frames, depth=None))
    with pytest.raises(ConfigError, match="made for the classes of occ3d, the data has kitti360"):
        model(batch(0, taxonomy=KITTI360))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"taxonomy": "cats"}, "is none of"),
        ({"num_past": 1}, "go together"),
        ({"losses": lift.LiftLossConfig(voxels=VoxelLossConfig(class_weights=(1.0, 2.0)))}, "2 weights"),
        ({"losses": lift.LiftLossConfig(image_classes=1.0)}, "set image_classes to True"),
        ({"image_steps": 5, "losses": lift.LiftLossConfig(depth=0.0)}, "to learn from"),
        ({"image_classes": True, "depth": DepthNetConfig(context_channels=4)}, "takes 18 of the context channels"),
    ],
)
def test_impossible_configs_are_refused(change, problem):
    with pytest.raises(ConfigError, match=problem):
        lift.LiftConfig(**change)


def test_lift_stride_must_divide_the_grid(batch):
    model = small("nano_volume", lift_stride=(3, 1, 1)).build()
    with pytest.raises(ValueError, match=r"cannot be divided by \(3, 1, 1\)"):
        model(batch(0))


PAPER_SCALE = {
    # name: (parameters of backbone, neck, head; features lifted; depth logits)
    "r50_occ3d": ((23_508_032, 1_377_024, 19_821_088), (1, 64, 200, 200, 1), (1, 6, 88, 16, 44)),
    "r50_occ3d_stereo": ((23_508_032, 1_377_024, 4_160_882), (1, 64, 200, 200, 16), (1, 6, 88, 16, 44)),
    "r50_kitti": ((23_508_032, 8_848_384, 9_556_628), (1, 66, 128, 128, 16), (1, 1, 112, 46, 152)),
}


@pytest.mark.parametrize("name", PAPER_SCALE)
def test_paper_scale_shapes_and_parameters(name, make_sample):
    """On the meta device: no memory, no arithmetic, but every shape."""
    recipe = getattr(lift, name)()
    with torch.device("meta"):
        model = recipe.system.build().eval()
    counts, volume, depth = PAPER_SCALE[name]
    parts = (model.backbone, model.neck, model.head)
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == counts
    frames = collate(
        [
            make_sample(
                grid=recipe.system.grid,
                taxonomy=TAXONOMIES[recipe.system.taxonomy],
                size=recipe.data.image_size,
                num_frames=1 + recipe.data.num_past,
                num_cameras=depth[1],
            )
        ]
    ).to("meta")
    with torch.no_grad():
        prediction = model(frames)
    assert prediction.logits.shape == (1, frames.taxonomy.num_classes, *recipe.system.grid.shape)
    assert tuple(model.encode(frames)[0].shape) == volume
    assert tuple(prediction.depth_logits.shape) == depth


def test_stereo_student_is_within_one_percent_of_the_published_size():
    """BEVDet-Occ, ResNet-50, two frames, head A: 34.97 M; ours lacks the deformable convolution and the ASPP."""
    with torch.device("meta"):
        model = lift.r50_occ3d_stereo().system.build()
    count = sum(p.numel() for p in model.parameters())
    assert count == 34_709_962
    assert abs(count / 34.97e6 - 1) < 0.01


def test_nano_is_small():
    assert sum(p.numel() for p in lift.nano().system.build().parameters()) < 2_000_000


def test_reduced_precision_is_finite_and_close(batch):
    model = small("nano_stereo").build()
    frames = batch(0, num_frames=2)
    exact = model(frames).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        prediction = model(frames)
        values = model.loss(prediction, frames)
    assert all(v.isfinite() for v in values.values())
    torch.stack(list(values.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert (prediction.logits.float() - exact).abs().mean() < 0.1 * exact.abs().mean()


def test_a_network_for_the_world_runs_on_the_real_frame(real_frame):
    """Other cameras, other image size, calibration with motion: nothing is bound to the rig of the training data."""
    recipe = lift.nano_volume()
    dataset = open_dataset(real_frame, split="all", config=recipe.data)
    frame = replace(collate([dataset[0]]), grid=recipe.system.grid)
    model = recipe.system.build().eval()
    with torch.no_grad():
        prediction = model(frame)
    assert prediction.logits.shape == (1, 18, *recipe.system.grid.shape)
    assert prediction.logits.isfinite().all()
    assert frame.depth is not None
    assert model._depth_loss(prediction, frame).isfinite()
