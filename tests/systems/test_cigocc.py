"""CIGOcc: its hosts and options, what each part reads and teaches, published sizes, both trainings on real layouts."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from occkit.errors import ConfigError
from occkit.losses import VoxelLossConfig, classes_of_cells, coarse_labels, cross_entropy
from occkit.nn.blocks import resize_to
from occkit.nn.depth import DepthBins
from occkit.nn.proposals import DepthProposalsConfig
from occkit.samples import ImageInputs, collate
from occkit.systems import cigocc
from occkit.systems.cigocc.views import given_depth, spread_depth
from occkit.taxonomy import OCC3D, SEMANTICKITTI
from occkit.training.recipe import recipes_in
from occkit.training.system import conditional_parameters, losses, predict

NANO = sorted(name for name in recipes_in(cigocc) if name.startswith("nano") and name != "nano_images")
ARMS = ("nano_g", "nano_s", "nano_d", "nano_gs", "nano_gd", "nano_sd", "nano_gsd", "nano_gsd_plain")


@pytest.fixture
def frames(make_sample):
    def make(*seeds, grid=None, size=(32, 64), num_cameras=1, taxonomy=SEMANTICKITTI):
        grid = grid or cigocc.nano().system.grid.coarsen((2, 2, 1))
        return collate(
            [make_sample(grid=grid, taxonomy=taxonomy, size=size, num_cameras=num_cameras, seed=s) for s in seeds]
        )

    return make


def built(system, seed=0):
    torch.manual_seed(seed)
    return system.build()


def small(recipe):
    """A nano recipe's network on a quarter of its voxels; tables and folds follow the grid."""
    system = recipe.system
    grid = system.grid.coarsen((2, 2, 1))
    fold = getattr(system.mixing, "fold", None)
    mixing = replace(system.mixing, fold=(16, 64)) if fold else system.mixing
    return replace(system, grid=grid, mixing=mixing)


def total(model, batch):
    torch.manual_seed(5)
    return losses(model, predict(model, batch), batch)


@pytest.mark.parametrize("name", NANO)
def test_every_small_recipe_trains_what_it_says(name, frames):
    recipe = getattr(cigocc, name)()
    system = small(recipe)
    model = built(replace(system, two_stage=None)).train()
    batch = frames(0, num_cameras=2 if recipe.data.cameras else 1)
    prediction = predict(model, batch)
    assert prediction.logits.shape == (1, 20, *system.grid.shape)
    named = losses(model, prediction, batch)
    assert all(value.isfinite() for value in named.values())
    torch.stack(list(named.values())).sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    if model.first is not None:
        assert any(p.grad.any() for p in model.first.net.parameters()), "a gradient, and not one of zeros"
    inputs = recipe.data.inputs
    given = batch.inputs
    needed = ImageInputs(
        depth=given.depth if inputs is not None and inputs.depth else None,
        masks=given.masks if inputs is not None and inputs.masks else None,
        features=given.features if inputs is not None and inputs.features else None,
    )
    with torch.no_grad():
        predict(model, replace(batch, inputs=needed))  # what the recipe loads is enough


def test_arms_have_the_same_parameters():
    """But for the learned constants in place of what is absent, and the prior over depth: a thousandth."""
    counts = {name: sum(p.numel() for p in getattr(cigocc, name)().system.build().parameters()) for name in ARMS}
    assert max(counts.values()) - min(counts.values()) < 0.001 * counts["nano_gsd"]
    with_masks = sum(p.numel() for p in cigocc.nano().system.build().parameters())
    assert 0 < with_masks - counts["nano_gsd"] < 0.01 * counts["nano_gsd"]


def test_arms_start_from_the_same_weights():
    whole = built(cigocc.nano_gsd().system).state_dict()
    for name in ARMS:
        other = built(getattr(cigocc, name)().system).state_dict()
        shared = [n for n in whole if n in other and not n.startswith("fusion.")]
        assert len(shared) > 0.7 * len(whole)
        assert [n for n in shared if not torch.equal(whole[n], other[n])] == [], name


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[str(function)] += 1
        return function(*args, **(kwargs or {}))


def test_masks_change_nothing_but_a_head_that_inference_leaves_out(frames):
    plain, taught = built(small(cigocc.nano_gsd())), built(small(cigocc.nano()))
    batch = frames(0)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, taught.state_dict()[name])
    plain.eval(), taught.eval()
    with torch.no_grad():
        assert torch.equal(predict(plain, batch).logits, predict(taught, batch).logits)
        assert predict(taught, batch).image_logits is None
        with Operations() as of_plain:
            predict(plain, batch)
        with Operations() as of_taught:
            predict(taught, batch)
    assert of_plain.names == of_taught.names, "inference is the same, operation for operation"
    taught.train()
    assert set(total(taught, batch)) - set(total(plain.train(), batch)) == {"masks"}


def test_masks_count_from_the_first_step(frames):
    """Untrained scores must be about as good as knowing that a cell is of one class: far below K log 2."""
    model = built(small(cigocc.nano())).train()
    batch = frames(0)
    value = total(model, batch)["masks"].item()
    assert 1.5 < value < 6.5
    assert model.mask_head[-1].bias.detach().sigmoid().tolist() == pytest.approx([0.05] * 20)


def test_pixels_come_in_beside_the_image_network(frames):
    batch = frames(0, size=(30, 64))  # the last row of cells reaches beyond the image
    model = built(small(cigocc.nano_gd())).eval()
    with torch.no_grad():
        model.views.project.weight.zero_()
        seen, black = (model.views(b).context for b in (batch, replace(batch, images=torch.zeros_like(batch.images))))
        assert seen.shape[-2:] == (4, 8)
        assert (seen - black).abs().amax(dim=2).min() > 0, "every cell"
        model.views.patches = None
        plain, black = (model.views(b).context for b in (batch, replace(batch, images=torch.zeros_like(batch.images))))
        assert torch.equal(plain, black)


def change(model, batch, other):
    """How much the scores change between two batches; the proposals are those of depth in either."""
    model.eval()
    with torch.no_grad():
        return (predict(model, batch).logits - predict(model, other).logits).abs().max().item()


def test_each_level_is_read_where_it_is_present_and_nowhere_else(frames):
    batch = frames(0)
    inputs = batch.inputs
    others = {
        "g": replace(batch, images=255 - batch.images),
        "s": replace(batch, inputs=replace(inputs, masks=19 - inputs.masks.clamp(max=19), features=-inputs.features)),
        "d": replace(batch, inputs=replace(inputs, depth=inputs.depth * 0.7)),
    }
    for name in ("g", "s", "d", "gs", "gd", "sd", "gsd"):
        model = built(small(getattr(cigocc, f"nano_{name}")()))
        for level, other in others.items():
            assert (change(model, batch, other) > 1e-5) is (level in name), (name, level)


def test_what_is_missing_is_named(frames):
    batch = frames(0)
    model = built(small(cigocc.nano())).train()
    for field, option in (("depth", "--depth"), ("masks", "--masks"), ("features", "--features")):
        with pytest.raises(ConfigError, match=rf"frame0 .*has no .*occkit look {option}"):
            predict(model, replace(batch, inputs=replace(batch.inputs, **{field: None})))
    with pytest.raises(ConfigError, match=r"has no depth map"):
        predict(model, replace(batch, inputs=None))
    prediction = predict(model, batch)
    with pytest.raises(ConfigError, match=r"frame0 .*has no label to learn from"):
        losses(model, prediction, replace(batch, occupancy=None))
    with pytest.raises(ConfigError, match=r"no classes of its pixels to learn from; .*DataConfig\.image_semantics"):
        losses(model, prediction, replace(batch, image_semantics=None))
    with pytest.raises(ConfigError, match=r"the data has 5; set HighConfig\.features"):
        predict(model, replace(batch, inputs=replace(batch.inputs, features=batch.inputs.features[:, :, :5])))
    with pytest.raises(ConfigError, match="made for the classes of semantickitti, the data has occ3d"):
        predict(model, frames(0, taxonomy=OCC3D))
    with pytest.raises(ConfigError, match=r'stereo needs two cameras.*\("image_2", "image_3"\)'):
        predict(built(small(cigocc.nano_stereo())), batch)
    mono = built(small(cigocc.nano_mono())).train()
    with pytest.raises(ConfigError, match=r"set DataConfig\.load_depth"):
        losses(mono, predict(mono, batch), replace(batch, depth=None))
    features = built(small(cigocc.nano_gd_features())).train()
    answer = predict(features, batch)
    with pytest.raises(ConfigError, match="no segmentation features to learn from"):
        losses(features, answer, replace(batch, inputs=replace(batch.inputs, features=None)))
    table = built(replace(small(cigocc.nano_voxformer()), two_stage=None)).eval()
    with pytest.raises(ConfigError, match="queries were learned for 1,024 voxels, the data has 4,096"):
        predict(table, frames(0, grid=cigocc.nano().system.grid, size=(32, 64)))


def test_impossible_configs_are_refused():
    base = cigocc.nano().system
    for changes, problem in (
        ({"taxonomy": "cats"}, "is none of"),
        ({"first": None}, "without a first stage losses.first"),
        ({"losses": replace(base.losses, first=None)}, "needs losses.first"),
        (
            {"views": replace(base.views, depth=cigocc.PriorDepthConfig()), "proposals": DepthProposalsConfig()},
            "a prior hits no voxels",
        ),
    ):
        with pytest.raises(ConfigError, match=problem):
            replace(base, **changes)
    with pytest.raises(ConfigError, match="neither features nor masks"):
        cigocc.HighConfig()
    with pytest.raises(ConfigError, match="without images there is no depth"):
        cigocc.ViewsConfig(present=False, depth=cigocc.MonoDepthConfig())
    with pytest.raises(ConfigError, match="steps must be at least 1"):
        cigocc.TwoStageConfig(steps=0)


def test_the_first_stage_learns_alone_and_is_frozen_then(frames):
    system = small(cigocc.nano_two_stage())
    model = built(replace(system, two_stage=cigocc.TwoStageConfig(steps=1))).train()
    batch = frames(0)
    named = total(model, batch)
    assert set(named) == {"first_cross_entropy"}
    torch.stack(list(named.values())).sum().backward()
    assert model.first.score.weight.grad.any()
    assert all(p.grad is None for p in model.head.parameters())
    model.zero_grad()
    named = total(model, batch)
    assert "first_cross_entropy" not in named
    torch.stack(list(named.values())).sum().backward()
    assert all(p.grad is None for p in model.first.parameters())
    assert model.head.score.weight.grad.any()
    listed = conditional_parameters(model)
    assert all(name.startswith(listed) for name, _ in model.named_parameters())


def test_until_the_second_stage_has_learnt_the_first_one_s_scores_are_the_prediction(frames):
    model = built(replace(small(cigocc.nano()), two_stage=cigocc.TwoStageConfig(steps=1))).eval()
    batch = frames(0)
    prediction = predict(model, batch)
    assert torch.equal(prediction.logits, resize_to(prediction.first_logits, batch.grid.shape))
    model.trained_steps += 1
    prediction = predict(model, batch)
    assert not torch.equal(prediction.logits, resize_to(prediction.first_logits, batch.grid.shape))


def test_who_rests_in_which_stage():
    """The first stage learns with the depth that it lifts along, where that is learned."""
    given, prior = (
        replace(getattr(cigocc, name)().system, two_stage=cigocc.TwoStageConfig(steps=1))
        for name in ("nano", "nano_gs")
    )
    resting = {"queries.", "fusion.", "completion.", "mixing.", "head.", "mask_head."}
    assert set(built(given).resting_parameters) == resting | {"views."}
    assert set(built(prior).resting_parameters) == resting - {"mask_head."}
    model = built(given)
    model.trained_steps += 1
    assert model.resting_parameters == ("first.",)
    assert built(cigocc.nano().system).resting_parameters == ()


def test_depth_is_taught_in_the_first_stage_too(frames):
    model = built(replace(small(cigocc.nano_mono()), two_stage=cigocc.TwoStageConfig(steps=1))).train()
    assert set(total(model, frames(0))) == {"first_cross_entropy", "depth"}


def test_the_hosts_train_as_published():
    """The specification: VoxFormer 24 and 20 epochs of 3,834 frames at 2e-4, CGFormer 25,000 steps of four at 3e-4."""
    voxformer, cgformer = cigocc.voxformer_r50_kitti(), cigocc.cgformer_effb7_kitti()
    assert voxformer.system.two_stage.steps == pytest.approx(24 * 3834, abs=4)
    assert voxformer.steps * voxformer.accumulate == pytest.approx(44 * 3834, abs=4)
    rates = [voxformer.optim.lr_at(step, voxformer.steps) for step in (500, 23_003, 23_004)]
    assert rates == pytest.approx([2e-4, 2e-7, 2e-4], rel=1e-3)
    assert (voxformer.optim.clip_norm, cgformer.optim.clip_norm) == (35.0, None)
    assert (cgformer.steps, cgformer.accumulate, cgformer.optim.lr) == (25_000, 4, 3e-4)
    assert voxformer.optim.lr_factors == cgformer.optim.lr_factors == ()
    images = cigocc.cgformer_effb7_kitti_images()
    assert (images.steps, images.batch_size * images.accumulate, images.data.load_depth) == (50_000, 16, True)
    with torch.device("meta"):
        before, after = images.system.build(), cgformer.system.build()
    assert sum(p.numel() for p in before.views.parameters()) == sum(p.numel() for p in after.views.parameters())


BINS = DepthBins(start=2.0, stop=6.0, step=1.0)


def test_a_cell_s_depth_is_the_share_of_its_pixels():
    metres = torch.tensor([[2.5, 2.9, 4.5, 0.0], [5.5, 0.0, 9.0, 0.0]])[None, None]
    shares = spread_depth(metres, BINS, (1, 2))[0, 0, :, 0]
    assert torch.allclose(shares[:, 0], torch.tensor([2 / 3, 0.0, 0.0, 1 / 3]))
    assert shares[:, 1].tolist() == [0.0, 0.0, 1.0, 0.0], "what is unknown or beyond the bins does not count"
    nearest = spread_depth(metres, BINS, (1, 2), nearest=True)[0, 0, :, 0]
    assert nearest.T.tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    nearer = spread_depth(metres, BINS, (1, 2), nearest=True, bins_nearer=1)[0, 0, :, 0]
    assert nearer.T.tolist() == [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]


def test_depth_lifts_the_high_level_to_where_it_lies(frames):
    """With all pixels at 10 m, only voxels about 10 m ahead are lifted into, and only they ask."""
    batch = frames(0)
    flat = replace(batch, inputs=replace(batch.inputs, depth=torch.full_like(batch.inputs.depth, 10.2)))
    model = built(replace(small(cigocc.nano()), proposals=DepthProposalsConfig())).eval()
    grid = flat.grid.coarsen((2, 2, 2))
    shows = model.views(flat)
    seen = {}
    model.first.net.register_forward_pre_hook(lambda _, inputs: seen.update(volume=inputs[0]))
    model.fusion.register_forward_pre_hook(lambda _, inputs: seen.update(asked=inputs[1]))
    predict(model, flat)
    filled = seen["volume"][0, :-1].abs().sum(dim=0) > 0
    centres = grid.centers()
    assert filled.any()
    # The camera stands 1 m ahead of the origin; voxels are 3.2 m long.
    assert (centres[filled][:, 0] - 11.2).abs().max() < 1.7
    assert torch.equal(seen["volume"][0, -1] > 0, filled), "the bit is where depth hits"
    assert (seen["asked"][:, 0] - 11.2).abs().max() < 1.7
    assert torch.equal(given_depth(flat), shows.metres)


def test_first_losses_weigh_the_first_scores_alone(frames):
    base = small(cigocc.nano())
    twice = replace(base, losses=replace(base.losses, first=replace(base.losses.first, cross_entropy=2.0)))
    batch = frames(0)
    one, two = total(built(base).train(), batch), total(built(twice).train(), batch)
    assert two["first_cross_entropy"].item() == pytest.approx(2 * one["first_cross_entropy"].item(), rel=1e-5)
    assert two["cross_entropy"].item() == pytest.approx(one["cross_entropy"].item(), rel=1e-5)
    assert isinstance(base.losses.voxels, VoxelLossConfig)


def test_a_dose_changes_what_is_read_and_nothing_else():
    for name, base, folders in (
        ("nano_gsd_clear_masks", "nano_gsd", {"masks": "look_perfect/masks", "features": "look_perfect/features"}),
        ("nano_gsd_poor_depth", "nano_gsd", {"depth": "look_poor/depth"}),
        ("nano_gd_sam_poor", "nano_gd_sam", {}),
    ):
        dosed, plain = getattr(cigocc, name)(), getattr(cigocc, base)()
        data = replace(plain.data, inputs=replace(plain.data.inputs, **folders))
        if not folders:
            data = replace(data, image_semantics="look_poor/masks")
        assert dosed == replace(plain, name=f"cigocc.{name}", data=data)
    claim = cigocc.doses()
    written = {word for command in (*claim.world.commands, *claim.commands) for word in command}
    assert {"{root}/look", "{root}/look_perfect", "{root}/look_poor", "perfect", "poor"} <= written


def test_what_the_losses_of_a_recipe_learn_from_is_loaded():
    for recipe in (make() for make in recipes_in(cigocc).values()):
        if not isinstance(recipe.system, cigocc.CigOccConfig):
            continue
        wanted, data = recipe.system.losses, recipe.data
        assert (wanted.masks > 0) == (data.image_semantics is not None), recipe.name
        assert data.load_depth or not wanted.depth, recipe.name
        assert (data.inputs is not None and data.inputs.features is not None) or not wanted.features, recipe.name


@pytest.mark.parametrize("name", ["claim", "effects", "doses", "learned_images", "typical_colours", "random_colours"])
def test_what_the_arms_of_a_claim_read_its_commands_have_written(name):
    claim = getattr(cigocc, name)()
    commands = (*claim.world.commands, *claim.commands)
    written = {command[command.index("--out") + 1].removeprefix("{root}/"): command for command in commands}
    for arm, make in claim.arms.items():
        data = make().data
        read = (data.inputs.depth, data.inputs.masks, data.inputs.features) if data.inputs else ()
        for path in filter(None, (*read, data.image_semantics)):
            folder, kind = path.split("/")
            assert f"--{kind}" in written[folder], (arm, path)
            cameras = data.cameras or ("image_2",)
            assert cameras == ("image_2",) or written[folder][-len(cameras) :] == cameras, arm


def test_the_images_branch_learns_alone_what_a_network_starts_from(frames):
    recipe = cigocc.nano_images()
    model, batch = built(replace(recipe.system, grid=small(cigocc.nano()).grid)).train(), frames(0, 1)
    prediction = predict(model, batch)
    assert prediction.logits.shape == (2, 20, *batch.grid.shape)
    assert not prediction.logits.any(), "it has nothing to say about voxels"
    assert prediction.image_logits.shape == (2, 1, 20, 4, 8)
    named = losses(model, prediction, batch)
    assert set(named) == {"classes"}
    named["classes"].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    # Its branch is that of the networks which start from it, tensor for tensor.
    whole = built(cigocc.nano_gd().system).state_dict()
    branch = {name: value for name, value in model.state_dict().items() if name.startswith("views.")}
    assert {name: value.shape for name, value in branch.items()} == {
        name: value.shape for name, value in whole.items() if name.startswith("views.")
    }
    assert recipe.data.load_depth
    assert recipe.data.inputs.depth


def test_the_images_branch_scores_cells_against_the_voxels_that_are_hit(frames):
    """The cross-entropy of a cell whose class is certain is none; that of a wrong one is large."""
    model, batch = built(cigocc.nano_images().system).train(), frames(0)
    shown = classes_of_cells(batch.depth, batch.cameras[:, 0], batch.occupancy, (4, 8))
    seen = shown != SEMANTICKITTI.ignore_id
    assert seen.any()
    right = 20.0 * torch.nn.functional.one_hot(shown.where(seen, 0).long(), 20).movedim(-1, 2)
    prediction = predict(model, batch)
    found = losses(model, replace(prediction, image_logits=right.float()), batch)
    assert found["classes"].item() < 1e-3
    found = losses(model, replace(prediction, image_logits=right.float().roll(1, dims=2)), batch)
    assert found["classes"].item() > 10


def test_the_images_branch_learns_depth_where_a_network_scores_it(frames):
    mono, batch = cigocc.nano_mono().system, frames(0)
    alone = replace(cigocc.nano_images().system, views=mono.views, depth=2.0)
    model = built(alone).train()
    prediction = predict(model, batch)
    named = losses(model, prediction, batch)
    assert set(named) == {"classes", "depth"}
    assert model.depth_bins == mono.views.depth.bins
    once = losses(built(replace(alone, depth=1.0)).train(), prediction, batch)
    assert named["depth"].item() == pytest.approx(2 * once["depth"].item())
    only = built(replace(alone, classes=0.0)).train()
    assert set(losses(only, predict(only, batch), batch)) == {"depth"}


def test_what_the_images_branch_cannot_learn_is_named(frames):
    system, batch = cigocc.nano_images().system, frames(0)
    model = built(system).train()
    prediction = predict(model, batch)
    with pytest.raises(ConfigError, match=r"LiDAR depth, frame frame0 .*has none; set DataConfig\.load_depth"):
        losses(model, prediction, replace(batch, depth=None))
    with pytest.raises(ConfigError, match=r"frame0 .*has no label to learn from"):
        losses(model, prediction, replace(batch, occupancy=None))
    with pytest.raises(ConfigError, match="made for the classes of semantickitti, the data has occ3d"):
        predict(model, frames(0, taxonomy=OCC3D))
    with pytest.raises(ConfigError, match=r"set views\.present to True"):
        replace(system, views=replace(system.views, present=False))
    with pytest.raises(ConfigError, match="classes and depth are both 0"):
        replace(system, classes=0.0)
    with pytest.raises(ConfigError, match="taxonomy 'kitty' is none of"):
        replace(system, taxonomy="kitty")
    with pytest.raises(ConfigError, match="only a network's depth can learn"):
        replace(system, depth=1.0)


def test_kitti_360_has_its_own_classes():
    recipe = cigocc.r50_kitti360()
    with torch.device("meta"):
        model = recipe.system.build()
    weights = recipe.system.losses.voxels.class_weights
    assert model.first.score.out_features == model.mask_head[-1].out_channels == len(weights) == 19
    assert recipe.system.losses.first.class_weights == weights


def test_coarse_labels_teach_the_first_stage(frames):
    base, batch = small(cigocc.nano_first_coarse()), frames(0)
    model = built(base).train()
    prediction = predict(model, batch)
    target = coarse_labels(
        batch.occupancy.semantics,
        batch.occupancy.grid.coarsen(2).shape,
        num_classes=SEMANTICKITTI.num_classes,
        free_id=SEMANTICKITTI.free_id,
    )
    weights = torch.tensor(base.losses.first.class_weights)
    expected = cross_entropy(prediction.first_logits, target, weights=weights)
    assert torch.allclose(losses(model, prediction, batch)["first_cross_entropy"], expected)
    masked = replace(base.losses.first, mask_camera_in_training=True)
    with pytest.raises(ConfigError, match="coarse labels have no camera mask"):
        replace(base, losses=replace(base.losses, first=masked))


PUBLISHED = {
    # name: (views, first, queries, fusion, mixing, encoder, head) in parameters
    "r50_kitti": (24_130_880, 5_112_000, 0, 373_000, 265_000, 0, 222_740),
    "voxformer_r50_kitti": (8_839_000, 681_877, 33_554_432, 373_000, 265_000, 0, 2_836),
    "cgformer_effb7_kitti": (85_298_523, 0, 0, 397_000, 265_000, 34_871_550, 222_740),
    "cgformer_effb7_kitti_released": (85_298_523, 0, 33_554_432, 397_000, 249_000, 34_871_550, 222_740),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_on_the_meta_device(name, make_sample):
    """The specification: EfficientNet-B7 63.79 M, neck 6.70, table 33.55, cross 0.40, head 0.22, Swin-T 27.71."""
    pytest.importorskip("transformers")
    recipe = getattr(cigocc, name)()
    with torch.device("meta"):
        model = recipe.system.build().eval()

    def size(part):
        return 0 if part is None else sum(p.numel() for p in part.parameters())

    names = ("views", "first", "queries", "fusion", "mixing", "encoder", "head")
    for part, expected in zip(names, PUBLISHED[name], strict=True):
        assert size(getattr(model, part)) == pytest.approx(expected, abs=1000), part
    if "cgformer" in name:
        assert size(model.views.backbone) / 1e6 == pytest.approx(63.79, abs=0.005)
        assert size(model.views.neck) / 1e6 == pytest.approx(6.70, abs=0.005)
        assert size(model.encoder.plane.body) / 1e6 == pytest.approx(27.71, abs=0.005)
        # 14.60 there, with a deformable convolution.
        assert size(model.views.measure) / 1e6 == pytest.approx(7.58, abs=0.01)
        assert size(model.views.fuse) / 1e6 == pytest.approx(7.22, abs=0.01)
    height, width = recipe.data.image_size
    # A small sample stands in: 384 x 1280 x 112 bins of numbers are not made.
    tiny = make_sample(grid=cigocc.nano().system.grid, taxonomy=SEMANTICKITTI, size=(32, 64), num_cameras=1)
    tiny = collate([tiny]).to("meta")
    batch = replace(
        tiny,
        images=torch.zeros(1, 1, 1, 3, height, width, dtype=torch.uint8, device="meta"),
        cameras=replace(tiny.cameras, height=height, width=width),
        grid=recipe.system.grid,
        inputs=ImageInputs(
            depth=torch.zeros(1, 1, height, width, device="meta"),
            masks=torch.zeros(1, 1, height, width, dtype=torch.uint8, device="meta"),
            features=torch.zeros(1, 1, 256, height // 8, width // 8, device="meta"),
        ),
        **dict.fromkeys(("occupancy", "points", "depth", "teaching", "segments", "image_semantics")),
    )
    with torch.no_grad():
        prediction = predict(model, batch)
        shows = model.views(batch)
    assert prediction.logits.shape == (1, 20, 256, 256, 32)
    stride = 16 if "voxformer" in name else 8
    assert shows.context.shape == (1, 1, 128, height // stride, width // stride)
    assert shows.depth.shape == (1, 1, 112, height // stride, width // stride)
    if prediction.first_logits is not None:
        assert prediction.first_logits.shape == (1, 20, 128, 128, 16)
