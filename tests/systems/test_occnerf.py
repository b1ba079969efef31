"""OccNeRF: what a field of scores looks like from cameras, which losses follow, and that they mean what they say."""

from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError
from occkit.geometry import Cameras, ContractedGrid, VoxelGrid
from occkit.losses import PhotometricConfig, photometric_loss
from occkit.samples import collate
from occkit.systems import occnerf
from occkit.systems.occnerf import OccNerfConfig, OccNerfLossConfig, RenderConfig, render_views, sample_depths
from occkit.taxonomy import OCC3D

GRID = VoxelGrid.from_range((-8, -8, -2), (8, 8, 2), 0.5)
SPACE = ContractedGrid.around(GRID)
FREE = OCC3D.free_id
EGO_FROM_OPTICAL = torch.zeros(4, 4)
EGO_FROM_OPTICAL[[0, 1, 2, 3], [2, 0, 1, 3]] = torch.tensor([1.0, -1.0, -1.0, 1.0])


def looking_ahead(count: int = 1) -> Cameras:
    intrinsics = torch.tensor([[40.0, 0.0, 16.0], [0.0, 40.0, 8.0], [0.0, 0.0, 1.0]])
    return Cameras(
        intrinsics=intrinsics.expand(1, count, 3, 3).clone(),
        ego_from_camera=EGO_FROM_OPTICAL.expand(1, count, 4, 4).clone(),
        height=16,
        width=32,
    )


def wall(space, at: float, *, name: str = "manmade", strength: float = 40.0) -> torch.Tensor:
    """Scores of a field that is empty but for a wall of a class, from x = `at` on."""
    scores = torch.zeros(1, OCC3D.num_classes, *space.shape)
    behind = space.centers()[..., 0] >= at
    scores[0, FREE] = torch.where(behind, -strength, strength)
    scores[0, OCC3D.id_of(name)] = torch.where(behind, strength, 0.0)
    return scores


def look(scores, space, *, semantics: bool = True, **config):
    config = RenderConfig(**{"size": (4, 8), "spacing": 0.1, "near": 0.1} | config)
    return render_views(config, scores, space, looking_ahead(), free_id=FREE, semantics=semantics)


@pytest.mark.parametrize("weights", ["saturating", "compositing"])
@pytest.mark.parametrize("occupancy", ["free_score", "odds"])
@pytest.mark.parametrize("space", [GRID, SPACE])
def test_a_wall_is_seen_where_it_stands(space, weights, occupancy):
    views = look(wall(space, 5.0), space, weights=weights, occupancy=occupancy)
    # The field is interpolated between centres: it begins half a voxel before the wall does, z-depth for all pixels.
    assert views.depth.shape == (1, 1, 4, 8)
    assert torch.allclose(views.depth, torch.tensor(5.0), atol=0.3)
    assert torch.allclose(views.opacity, torch.tensor(1.0), atol=1e-3)
    # Compositing ends in the ramp between two centres, where the free score is still high.
    assert (views.features[..., :FREE].argmax(-1) == OCC3D.id_of("manmade")).all()


def test_behind_the_box_a_contracted_field_goes_on_and_a_plain_one_ends():
    far = look(wall(SPACE, 30.0), SPACE)
    assert torch.allclose(far.depth, torch.tensor(30.0), rtol=0.2)
    plain = look(wall(GRID, 30.0), GRID)
    assert torch.allclose(plain.opacity, torch.tensor(0.0), atol=1e-6)
    # The background is the last sample, half the diagonal away.
    assert torch.allclose(plain.depth, sample_depths(RenderConfig(spacing=0.1), GRID)[-1])


def test_without_a_background_an_empty_ray_has_no_weight():
    views = look(wall(GRID, 30.0), GRID, background=False)
    assert torch.allclose(views.weights.sum(-1), torch.tensor(0.0), atol=1e-6)
    assert torch.allclose(views.depth, torch.tensor(0.1))  # cut off at near


@pytest.mark.parametrize("weights", ["saturating", "compositing"])
def test_rendering_is_the_sum_it_says(weights):
    """Against a loop over samples in double precision, at a field of random scores."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, OCC3D.num_classes, *SPACE.shape, generator=generator)
    views = look(scores, SPACE, weights=weights, spacing=0.7, semantic_ratio=1)
    depths = sample_depths(RenderConfig(spacing=0.7), SPACE).double()
    x, opaque = looking_ahead()[0, 0].resize(4, 8), torch.nn.functional.softplus(-scores[0, FREE].double())
    if weights == "saturating":
        opaque = torch.sigmoid(-scores[0, FREE].double())
    pixel = torch.tensor([[2.5, 1.5]])
    passed, depth, shown = 0.0 if weights == "saturating" else 1.0, 0.0, torch.zeros(18, dtype=torch.float64)
    for k, z in enumerate(depths):
        index = SPACE.continuous_index(x.unproject(pixel, z.float()[None]).double())[0]
        if weights == "saturating":
            total = min(1.0, passed + float(trilinear(opaque, index)))
            w, passed = total - passed, total
        else:
            delta = float(depths[k + 1] - z if k + 1 < len(depths) else z - depths[k - 1]) / 0.5
            alpha = 1 - torch.exp(-trilinear(opaque, index) * delta)
            w, passed = passed * float(alpha), passed * float(1 - alpha)
        if k + 1 == len(depths):  # the background takes what is left
            w = float(1 - views.weights[0, 0, 1, 2, :-1].double().sum())
        depth += w * float(z)
        shown += w * torch.stack([trilinear(scores[0, c].double(), index) for c in range(18)])
    assert views.depth[0, 0, 1, 2].item() == pytest.approx(min(depth, 200.0), rel=1e-3)
    assert torch.allclose(views.features[0, 0, 1, 2].double(), shown, atol=1e-3)


def trilinear(volume, index):
    index = torch.minimum((index - 0.5).clamp(min=0), torch.tensor(volume.shape, dtype=torch.float64) - 1)
    low = torch.minimum(index.floor().long(), torch.tensor(volume.shape) - 2)
    f = index - low
    value = 0.0
    for corner in torch.cartesian_prod(*[torch.arange(2)] * 3):
        weight = torch.where(corner == 1, f, 1 - f).prod()
        value = value + weight * volume[tuple(low + corner)]
    return value


def test_classes_read_at_every_fourth_sample_are_close_to_those_of_all():
    scores = wall(SPACE, 5.0)
    fine, coarse = (look(scores, SPACE, semantic_ratio=ratio).features for ratio in (1, 4))
    assert fine.shape == coarse.shape
    assert torch.equal(fine.argmax(-1), coarse.argmax(-1))


def test_rays_of_a_training_step_begin_elsewhere_and_the_same_seed_gives_the_same():
    config = RenderConfig(size=(4, 8), spacing=0.5, near=0.5, jitter=0.4)

    def depths(seed):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        args = (config, wall(GRID, 5.0), GRID, looking_ahead())
        return render_views(*args, free_id=FREE, semantics=False, generator=generator).depth

    assert not torch.equal(depths(0), depths(None))
    assert torch.equal(depths(0), depths(0))


def config(**losses) -> OccNerfConfig:
    base = occnerf.debug().system
    assert isinstance(base, OccNerfConfig)
    return replace(base, auxiliary=(), losses=OccNerfLossConfig(**losses))


@pytest.fixture
def batch(make_sample):
    grid = occnerf.debug().system.grid
    return collate([make_sample(grid=grid, taxonomy=OCC3D, size=(32, 88), num_sources=2, seed=s) for s in (0, 1)])


def losses_of(system: OccNerfConfig, batch):
    torch.manual_seed(0)
    model = system.build()
    return model.loss(model(batch), batch)


def test_each_loss_has_its_weight_and_the_sharpening_ones_come_late(batch):
    found = losses_of(config(sharpen_after=0, labels=0.5), batch)
    assert set(found) == {
        "photometric", "smoothness", "semantics", "entropy", "distortion", "cross_entropy", "lovasz",
    }  # fmt: skip
    assert {"entropy", "distortion"}.isdisjoint(losses_of(config(sharpen_after=1), batch))
    doubled = losses_of(config(sharpen_after=0, labels=1.0, semantics=0.1, photometric=2.0), batch)
    for name in ("semantics", "photometric", "cross_entropy"):
        assert doubled[name].item() == pytest.approx(2 * found[name].item(), rel=1e-5)


def test_the_auto_mask_may_begin_late(batch):
    torch.manual_seed(0)
    model = config(auto_mask_after=1, comparison=PhotometricConfig(noise=0.0)).build()
    found = [model.loss(model(batch), batch)["photometric"].item() for _ in range(3)]
    masked = losses_of(config(comparison=PhotometricConfig(noise=0.0)), batch)["photometric"].item()
    without = losses_of(config(comparison=PhotometricConfig(auto_mask=False)), batch)["photometric"].item()
    assert without > 1.03 * masked, "where a source as it is fits better, it lowers the error"
    assert found == pytest.approx([without, masked, masked], rel=0.01)


def test_the_right_wall_explains_the_other_image_best():
    """A textured wall five metres ahead, seen again from a metre to the side: the loss is least where it stands."""
    generator = torch.Generator().manual_seed(0)
    texture = torch.nn.functional.interpolate(torch.rand(1, 3, 12, 24, generator=generator), (120, 240), mode="bicubic")
    cameras = looking_ahead()
    beside = replace(cameras, ego_from_camera=cameras.ego_from_camera.clone())
    beside.ego_from_camera[..., 1, 3] = 0.5

    def photo(camera):
        points = camera[0, 0].unproject(pixels(), torch.full((16 * 32,), 5.0))
        place = torch.stack([points[:, 1] / 6, points[:, 2] / 3], dim=-1)[None, None]
        return torch.nn.functional.grid_sample(texture, place, align_corners=False).reshape(3, 16, 32)

    def loss(at):
        depth = look(wall(GRID, at), GRID, semantics=False, size=(16, 32)).depth
        images = (photo(cameras)[None].clamp(0, 1), photo(beside)[None, None].clamp(0, 1))
        return occnerf_loss(*images, depth[0], cameras[0], beside)

    values = {at: loss(at) for at in (3.0, 4.0, 5.0, 6.0, 7.0)}
    assert min(values, key=values.get) == 5.0, values


def pixels():
    v, u = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(32) + 0.5, indexing="ij")
    return torch.stack([u, v], dim=-1).reshape(-1, 2)


def occnerf_loss(target, sources, depth, cameras, source_cameras):
    return photometric_loss(PhotometricConfig(auto_mask=False), target, sources, depth, cameras, source_cameras).item()


def test_further_source_images_can_be_rendered_too(batch):
    plain = losses_of(config(), batch)
    more = losses_of(replace(config(), auxiliary=(0, 1)), batch)
    assert more["photometric"].item() != plain["photometric"].item()
    with pytest.raises(ConfigError, match=r"auxiliary.*\(5,\) of 2 source images"):
        losses_of(replace(config(), auxiliary=(5,)), batch)


def test_uncertain_pixels_are_ignored_unless_the_released_code_is_wanted(batch):
    unsure = torch.full_like(batch.image_semantics, OCC3D.ignore_id)
    blind = replace(batch, image_semantics=unsure)
    assert losses_of(config(), blind)["semantics"].item() == 0.0
    assert losses_of(config(uncertain="free"), blind)["semantics"].item() > 0.0


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("sources", "source_steps"),
        ("image_semantics", "occkit label --keep-images"),
        ("occupancy", "occkit label, and set DataConfig.labels"),
    ],
)
def test_what_the_batch_lacks_is_named(batch, missing, message):
    with pytest.raises(ConfigError, match=message):
        losses_of(config(labels=1.0), replace(batch, **{missing: None}))


def test_a_weight_of_zero_asks_for_nothing(batch):
    bare = replace(batch, sources=None, source_cameras=None, image_semantics=None, occupancy=None)
    found = losses_of(config(photometric=0.0, semantics=0.0), bare)
    assert set(found) == {"smoothness"}


def test_inference_renders_nothing_and_depth_can_be_asked_for(batch):
    model = config().build().eval()
    with torch.no_grad():
        prediction = model(batch)
        depth = model.render_depth(prediction, batch)
    assert prediction.rendering is None
    assert depth.shape == (2, 6, 32, 88)
    assert (depth > 0).all()


def test_a_plain_volume_ends_with_the_grid(batch):
    system = replace(config(), alpha=1.0)
    assert system.field_of(batch.grid) == batch.grid
    with torch.no_grad():
        prediction = system.build()(batch)
    assert torch.equal(prediction.logits, prediction.space_logits)


def test_a_grid_without_a_middle_share_is_refused():
    with pytest.raises(ConfigError, match=r"alpha.*no volume"):
        OccNerfConfig(grid=GRID, alpha=0.6).build()


def test_paper_scale_shapes():
    """On the meta device: no memory, no arithmetic; lifting looks at its data and is left out."""
    system = occnerf.r101_occ3d().system
    with torch.device("meta"):
        network = system.build().network.eval()
        maps = network.project(network.neck(network.backbone(torch.empty(6, 3, 336, 672))))
        assert maps.shape == (6, 64, 84, 168)
        space = system.field_of(system.grid)
        assert space.shape == (300, 300, 24)
        assert network.head(torch.empty(1, 64, *space.shape), space.shape).shape == (1, 18, 300, 300, 24)
    # By hand: 39 M for backbone, neck and projection, 138.2 M for the gain, 2.1 M for the head.
    parts = (network.backbone, network.neck, network.project, network.head)
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [27_535_424, 11_209_728, 16_448, 1_925_924]
    assert network.gain.numel() == 138_240_000
    assert len(sample_depths(RenderConfig(), space)) == 424
