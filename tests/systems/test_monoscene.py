"""MonoScene: lines of sight, the seam for other methods, published sizes, and a training on rooms."""

from dataclasses import replace

import pytest
import torch

from occkit.cli import main
from occkit.data.nyuv2 import NYUV2_GRID
from occkit.errors import ConfigError
from occkit.geometry import Cameras, VoxelGrid
from occkit.losses import VoxelLossConfig
from occkit.nn.backbones import normalise_images
from occkit.samples import collate
from occkit.systems import monoscene
from occkit.systems.monoscene import MonoScene, MonoSceneConfig
from occkit.taxonomy import NYUV2, TAXONOMIES
from occkit.training.system import losses, predict


@pytest.fixture
def config() -> MonoSceneConfig:
    return monoscene.debug().system


@pytest.fixture
def batch(make_sample):
    return collate([make_sample(grid=NYUV2_GRID, taxonomy=NYUV2, size=(30, 40), num_cameras=1)])


def test_a_voxel_reads_the_sum_of_the_scales_at_its_pixel(config):
    """Maps that hold their own pixel coordinates: the volume holds the projections of the voxel centres, summed."""
    grid = VoxelGrid.from_range((1.0, -0.5, -0.5), (3.0, 0.5, 0.5), 0.5)
    model = MonoScene(replace(config, grid=grid, lift_stride=(1, 1, 1), volume=replace(config.volume, prior=None)))

    class Coordinates(torch.nn.Module):
        def forward(self, images):
            maps = []
            for stride in (1, 2):
                h, w = images.shape[2] // stride, images.shape[3] // stride
                v, u = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
                maps.append((torch.stack([u, v]) * stride)[None].expand(len(images), -1, -1, -1))
            return maps

    model.image = Coordinates()
    optical = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    matrix = torch.tensor([[20.0, 0, 20], [0, 20, 16], [0, 0, 1]])
    camera = Cameras(intrinsics=matrix[None, None], ego_from_camera=optical[None, None], height=32, width=40)
    volume = model.lift(torch.zeros(1, 1, 3, 32, 40), camera, grid)[0]
    centre = grid.centers()[2, 1, 0]
    u, v = 20 - 20 * centre[1] / centre[0], 16 - 20 * centre[2] / centre[0]
    assert torch.allclose(volume[:, 2, 1, 0], 2 * torch.tensor([u, v]), atol=1e-4)


def test_unseen_voxels_are_empty_and_gradients_reach_the_image(config, batch):
    model = config.build()
    images = normalise_images(batch.images[:, 0]).requires_grad_()
    volume = model.lift(images, batch.cameras[:, 0], batch.grid)
    assert volume.shape == (1, model.volume_channels, 15, 15, 9)
    assert (volume.abs().sum(1) == 0).any()
    volume.square().sum().backward()
    assert images.grad.abs().sum() > 0


def test_another_method_may_enrich_the_volume(config, batch):
    """The seam: what is added to the voxel features changes the scores, and nothing else has to be touched."""

    class Enriched(MonoScene):
        def enrich(self, volume, batch):
            return volume + torch.linspace(-3, 3, volume.shape[1])[None, :, None, None, None]

    torch.manual_seed(0)
    plain = config.build().eval()
    torch.manual_seed(0)
    other = Enriched(config).eval()
    assert not torch.equal(predict(plain, batch).logits, predict(other, batch).logits)
    volume = plain.lift(normalise_images(batch.images[:, 0]), batch.cameras[:, 0], batch.grid)
    logits, relations = plain.complete(volume, batch.grid.shape)
    prediction = predict(plain, batch)
    assert torch.equal(prediction.logits, logits)
    assert torch.equal(prediction.relation_scores, relations)


def test_every_loss_is_there_unless_switched_off(config, batch):
    model = config.build()
    names = {"cross_entropy", "semantic_affinity", "geometric_affinity", "frustum", "relations"}
    assert set(losses(model, predict(model, batch), batch)) == names
    quiet = replace(config, losses=replace(config.losses, frustum=0.0, relations=0.0))
    assert set(losses(quiet.build(), predict(model, batch), batch)) == names - {"frustum", "relations"}
    plain = monoscene.nano_room_plain().system
    assert plain.volume.prior is None
    assert plain.losses.voxels.semantic_affinity == plain.losses.frustum == 0


def test_what_does_not_fit_is_refused(config, batch):
    with pytest.raises(ConfigError, match="none of"):
        replace(config, taxonomy="martian")
    with pytest.raises(ConfigError, match="class weights"):
        replace(config, losses=replace(config.losses, voxels=VoxelLossConfig(class_weights=(1.0, 2.0))))
    with pytest.raises(ConfigError, match="4 relations"):
        replace(config, volume=replace(config.volume, prior=replace(config.volume.prior, relations=2)))
    model = config.build()
    with pytest.raises(ConfigError, match="the data has semantickitti"):
        model(replace(batch, taxonomy=TAXONOMIES["semantickitti"]))
    with pytest.raises(ConfigError, match="no label"):
        model.loss(predict(model, batch), replace(batch, occupancy=None))


@pytest.mark.parametrize("name", ["nano", "nano_room", "nano_street"])
def test_small_recipes_belong_to_their_worlds(name):
    from occkit.world import PRESETS

    recipe = getattr(monoscene, name)()
    grid = {"nano": PRESETS["kitti-nano"].grid, "nano_room": NYUV2_GRID, "nano_street": PRESETS["nano"].grid}[name]
    assert recipe.system.grid == grid
    recipe.system.build()


@pytest.mark.parametrize(
    ("name", "scores", "bottom"),
    [("b7_nyu", (1, 12, 60, 60, 36), (15, 15, 9)), ("b7_kitti", (1, 20, 256, 256, 32), (32, 32, 4))],
)
def test_published_sizes_on_the_meta_device(name, scores, bottom, make_sample):
    """The specification: 200 channels at 60 x 36 x 60 indoors; 64, 128, 256 from 128 x 128 x 16 outdoors."""
    pytest.importorskip("transformers")
    recipe = getattr(monoscene, name)()
    with torch.device("meta"):
        model = recipe.system.build().eval()
    backbone = sum(p.numel() for p in model.image.backbone.parameters())
    assert backbone / 1e6 == pytest.approx(63.79, abs=0.005)
    height, width = recipe.data.image_size
    tiny = make_sample(grid=NYUV2_GRID, taxonomy=NYUV2, size=(30, 40), num_cameras=1)
    batch = replace(
        collate([tiny]).to("meta"),
        images=torch.zeros(1, 1, 1, 3, height, width, dtype=torch.uint8, device="meta"),
        cameras=replace(collate([tiny]).to("meta").cameras, height=height, width=width),
        grid=recipe.system.grid,
        taxonomy=TAXONOMIES[recipe.system.taxonomy],
        **dict.fromkeys(("occupancy", "points", "depth", "teaching", "segments", "image_semantics", "inputs")),
    )
    with torch.no_grad():
        prediction = predict(model, batch)
        maps = model.image(torch.zeros(1, 3, height, width, device="meta"))
    assert prediction.logits.shape == scores
    width_of = {"b7_nyu": 200, "b7_kitti": 64}[name]
    assert [tuple(m.shape[1:]) for m in maps] == [(width_of, -(-height // s), -(-width // s)) for s in (1, 2, 4, 8)]
    voxels = bottom[0] * bottom[1] * bottom[2]
    megas = -(-bottom[0] // 2) * -(-bottom[1] // 2) * -(-bottom[2] // 2)
    assert prediction.relation_scores.shape == (1, 4, voxels, megas)


def test_commands_on_a_small_world_of_rooms(tmp_path, capsys):
    """World, doctor, training, evaluation and prediction, as a user types them."""
    root, run = tmp_path / "rooms", tmp_path / "run"
    assert main(["world", "--format", "nyuv2", "--out", str(root), "--scenes", "3", "--image-scale", "0.5",
                 "--room", "bedroom", "--light", "day", "--workers", "1"]) == 0  # fmt: skip
    assert main(["doctor", str(root)]) == 0
    assert main(["train", "monoscene.debug", "--data", str(root), "--out", str(run), "--steps", "2"]) == 0
    assert main(["evaluate", str(run), "--data", str(root), "--protocol", "monoscene", "--json",
                 str(tmp_path / "e.json")]) == 0  # fmt: skip
    out = tmp_path / "predictions"
    assert main(["predict", str(run), "--data", str(root), "--out", str(out)]) == 0
    assert main(["evaluate", "--predictions", str(out), "--labels", str(root / "NYUtest"), "--protocol",
                 "monoscene"]) == 0  # fmt: skip
    assert main(["world", "--format", "nyuv2", "--out", str(tmp_path / "x"), "--street", "left"]) == 1
    assert "no such knob" in capsys.readouterr().err
