"""CIGOcc's small recipes that show what its parts are worth: each changes one thing of `nano`."""

from dataclasses import replace

from occkit.nn.blocks import GroupNormConfig
from occkit.nn.completion import RawVolumeConfig
from occkit.nn.depth import DepthNetConfig
from occkit.nn.proposals import AllVoxelsConfig, DepthProposalsConfig
from occkit.nn.stereo import StereoConfig
from occkit.nn.volume_attention import VolumeAttentionConfig
from occkit.nn.voxel_queries import CrossAttentionConfig, PlainLookConfig
from occkit.systems.cigocc.network import CigOccConfig
from occkit.systems.cigocc.recipes import FIRST_STEPS, NANO_BINS, in_two_stages, nano_of, nano_system
from occkit.systems.cigocc.views import MonoDepthConfig, PriorDepthConfig, StereoDepthConfig
from occkit.training.recipe import Recipe

_GROUPS = GroupNormConfig()
SHAKEN = 1.5
"""Pixels by which misjudged cameras are off."""


def with_levels(*, high: bool, middle: bool, low: bool, masks: float = 0.0) -> CigOccConfig:
    """Return the small network with some of its three levels; what is absent becomes a learned constant.

    Args:
        high: segmentation, as an input.
        middle: the images.
        low: depth; without it a learned prior over depth for each height in the image, and no hits.
        masks: weight of the masks as teachers; 0 has no such head.
    """
    base = nano_system()
    assert base.first is not None
    depth = base.views.depth if low else PriorDepthConfig(bins=NANO_BINS, scale=20.0)
    return replace(
        base,
        views=replace(base.views, present=middle, depth=depth),
        first=replace(base.first, high=replace(base.first.high, present=high)),
        losses=replace(base.losses, masks=masks),
    )


def looking_in(recipe: Recipe, folder: str, *, depth: bool = False, masks: bool = False) -> Recipe:
    """Return a recipe that reads what it reads of depth, or of classes and features, in another folder of the data."""
    data, inputs = recipe.data, recipe.data.inputs
    assert inputs is not None
    if depth:
        inputs = replace(inputs, depth=f"{folder}/depth")
    if masks and inputs.masks is not None:
        inputs = replace(inputs, masks=f"{folder}/masks", features=f"{folder}/features")
    shown = f"{folder}/masks" if masks and data.image_semantics is not None else data.image_semantics
    return replace(recipe, data=replace(data, inputs=inputs, image_semantics=shown))


def nano_g() -> Recipe:
    """Appearance alone (arm 1 of the claim)."""
    return nano_of("nano_g", with_levels(high=False, middle=True, low=False))


def nano_s() -> Recipe:
    """Segmentation alone (arm 2)."""
    return nano_of("nano_s", with_levels(high=True, middle=False, low=False))


def nano_d() -> Recipe:
    """Depth alone (arm 3)."""
    return nano_of("nano_d", with_levels(high=False, middle=False, low=True))


def nano_gs() -> Recipe:
    """Appearance and segmentation (arm 4)."""
    return nano_of("nano_gs", with_levels(high=True, middle=True, low=False))


def nano_gd() -> Recipe:
    """Appearance and depth (arm 5)."""
    return nano_of("nano_gd", with_levels(high=False, middle=True, low=True))


def nano_sd() -> Recipe:
    """Segmentation and depth (arm 6)."""
    return nano_of("nano_sd", with_levels(high=True, middle=False, low=True))


def nano_gsd_plain() -> Recipe:
    """All three, each voxel reading its own pixel: concatenation in place of attention, at equal parameters (arm 7)."""
    system = replace(with_levels(high=True, middle=True, low=True), fusion=PlainLookConfig(hidden=167))
    return nano_of("nano_gsd_plain", system)


def nano_gsd() -> Recipe:
    """All three, without masks as teachers (arm 8)."""
    return nano_of("nano_gsd", with_levels(high=True, middle=True, low=True))


def nano_gsd_shaken() -> Recipe:
    """`nano_gsd` with cameras whose principal points are a pixel and a half off (of 64 x 208): offsets have a use."""
    recipe = nano_gsd()
    return replace(recipe, name="cigocc.nano_gsd_shaken", data=replace(recipe.data, calibration_noise=SHAKEN))


def nano_gsd_plain_shaken() -> Recipe:
    """`nano_gsd_plain` with the same cameras."""
    recipe = nano_gsd_plain()
    return replace(recipe, name="cigocc.nano_gsd_plain_shaken", data=replace(recipe.data, calibration_noise=SHAKEN))


def nano_gsd_control() -> Recipe:
    """`nano` taught by the masks of other frames (arm 10)."""
    return nano_of("nano_gsd_control", nano_system(), image_semantics_of_others=True)


def nano_gd_sam() -> Recipe:
    """Appearance and depth with masks as teachers: no segmenter at inference (arm 11)."""
    return nano_of("nano_gd_sam", with_levels(high=False, middle=True, low=True, masks=1.0))


def nano_gd_sam_weak() -> Recipe:
    """`nano_gd_sam` with a tenth of the masks' weight."""
    return nano_of("nano_gd_sam_weak", with_levels(high=False, middle=True, low=True, masks=0.1))


def nano_gd_sam_strong() -> Recipe:
    """`nano_gd_sam` with two and a half times the masks' weight."""
    return nano_of("nano_gd_sam_strong", with_levels(high=False, middle=True, low=True, masks=2.5))


def nano_first_coarse() -> Recipe:
    """The first stage's scores against labels of larger voxels; `nano` has them interpolated."""
    base = nano_system()
    return nano_of("nano_first_coarse", replace(base, losses=replace(base.losses, first_coarse=True)))


def nano_gd_features() -> Recipe:
    """Appearance and depth, taught the segmentation features instead of the masks."""
    base = with_levels(high=False, middle=True, low=True)
    return nano_of("nano_gd_features", replace(base, losses=replace(base.losses, features=1.0)))


def nano_two_stage() -> Recipe:
    """The first stage learns alone for a third of the steps, and is frozen then; as many steps in all."""
    return in_two_stages(nano_of("nano_two_stage", nano_system()), first=FIRST_STEPS)


def nano_add() -> Recipe:
    """Where depth hits, a learned vector is added; `nano` has a channel for it."""
    base = nano_system()
    assert base.first is not None
    return nano_of("nano_add", replace(base, first=replace(base.first, join="add")))


def nano_join_concat() -> Recipe:
    """Answers stand beside F_raw and are mixed; `nano` adds them."""
    return nano_of("nano_join_concat", replace(nano_system(), completion=RawVolumeConfig(join="concat")))


def nano_join_replace() -> Recipe:
    """Answers take the place of F_raw."""
    return nano_of("nano_join_replace", replace(nano_system(), completion=RawVolumeConfig(join="replace")))


def nano_hits() -> Recipe:
    """The voxels that depth hits ask, and those around them; with `nano` the likeliest by the first stage."""
    return nano_of("nano_hits", replace(nano_system(), proposals=DepthProposalsConfig(grow=1)))


def nano_all_voxels() -> Recipe:
    """Every voxel asks."""
    return nano_of("nano_all_voxels", replace(nano_system(), proposals=AllVoxelsConfig()))


def nano_depth_aware() -> Recipe:
    """Attention in the image and in depth."""
    base = nano_system()
    assert isinstance(base.fusion, CrossAttentionConfig)
    return nano_of("nano_depth_aware", replace(base, fusion=replace(base.fusion, depth_aware=True)))


def nano_fold() -> Recipe:
    """Attention among voxels in a 64 x 64 fold, as VoxFormer and CGFormer have it."""
    base = nano_system()
    assert isinstance(base.mixing, VolumeAttentionConfig)
    return nano_of("nano_fold", replace(base, mixing=replace(base.mixing, fold=(64, 64))))


def nano_frustum() -> Recipe:
    """With the frustum proportion loss."""
    base = nano_system()
    return nano_of("nano_frustum", replace(base, losses=replace(base.losses, frustum=1.0)))


def _measure() -> DepthNetConfig:
    return DepthNetConfig(bins=NANO_BINS, context_channels=32, hidden=48, depth_blocks=1, norm=_GROUPS)


def nano_mono() -> Recipe:
    """Depth from the image itself, taught by the LiDAR."""
    base = nano_system()
    system = replace(
        base,
        views=replace(base.views, depth=MonoDepthConfig(net=_measure())),
        losses=replace(base.losses, depth=1.0),
    )
    return nano_of("nano_mono", system)


def nano_stereo() -> Recipe:
    """Depth from both cameras, taught by the LiDAR: a network with a cost volume."""
    base = nano_system()
    views = replace(
        base.views,
        backbone=replace(base.views.backbone, out_stages=(1, 2, 3)),
        neck_from=1,
        depth=StereoDepthConfig(net=_measure(), stereo=StereoConfig(channels=16, norm=_GROUPS)),
    )
    system = replace(base, views=views, losses=replace(base.losses, depth=1.0))
    return nano_of("nano_stereo", system, cameras=("image_2", "image_3"))
