"""`langocc.nano` with one thing changed: loss, rays, density, channels."""

from dataclasses import replace
from math import exp, log

from occkit.losses.language import FeatureLossKind
from occkit.nn.subspace import ArccosSubspaceConfig, SubspaceConfig, SvdSubspaceConfig
from occkit.systems.langocc.guide import ImageGuideConfig
from occkit.systems.langocc.rays import RayRulesConfig
from occkit.systems.langocc.recipes import NANO_RULES, STREET, language_rays, nano, nano_system
from occkit.training.recipe import Recipe


def _with_subspace(name: str, subspace: SubspaceConfig) -> Recipe:
    system = replace(nano_system(), text=replace(STREET, subspace=subspace))
    return replace(nano(), name=f"langocc.{name}", system=system)


def nano_reduced() -> Recipe:
    """`nano` in the 24 channels that its 24 prompts span."""
    return _with_subspace("nano_reduced", SvdSubspaceConfig(dim=24))


def nano_reduced_4() -> Recipe:
    """`nano` in 4 channels."""
    return _with_subspace("nano_reduced_4", SvdSubspaceConfig(dim=4))


def nano_reduced_8() -> Recipe:
    """`nano` in 8 channels."""
    return _with_subspace("nano_reduced_8", SvdSubspaceConfig(dim=8))


def nano_reduced_16() -> Recipe:
    """`nano` in 16 channels."""
    return _with_subspace("nano_reduced_16", SvdSubspaceConfig(dim=16))


def nano_reduced_32() -> Recipe:
    """`nano` in 32 channels, 8 more than the prompts span."""
    return _with_subspace("nano_reduced_32", SvdSubspaceConfig(dim=32))


def nano_arccos() -> Recipe:
    """`nano_reduced` in the paper's subspace, found by gradient descent."""
    return _with_subspace("nano_arccos", ArccosSubspaceConfig(dim=24))


def _with_loss(name: str, kind: FeatureLossKind) -> Recipe:
    return replace(
        nano(),
        name=f"langocc.{name}",
        system=replace(nano_system(), signal=language_rays(kind)),
    )


def nano_mse() -> Recipe:
    """`nano` with the squared distance of unit vectors, every ray alike."""
    return _with_loss("nano_mse", "mse")


def nano_guided() -> Recipe:
    """`nano` whose images are also taught what their own pixels show, with twice the rays: many go through them."""
    system = replace(nano_system(), guide=ImageGuideConfig())
    return replace(nano(), name="langocc.nano_guided", system=system, data=replace(nano().data, feature_rays=2048))


def _with_rules(name: str, rules: RayRulesConfig) -> Recipe:
    system = replace(nano_system(), signal=language_rays("cosine_guided", rules))
    return replace(nano(), name=f"langocc.{name}", system=system)


def nano_sky_keep() -> Recipe:
    """`nano` on all pixels alike, the sky a thing like any other."""
    return _with_rules("nano_sky_keep", replace(NANO_RULES, sky="keep"))


def nano_sky_drop() -> Recipe:
    """`nano` without the rays that show the sky: nothing says that the air is empty."""
    return _with_rules("nano_sky_drop", replace(NANO_RULES, sky="drop"))


def nano_lidar_pixels() -> Recipe:
    """`nano_sky_drop` on the paper's pixels: those that a LiDAR return within the volume falls onto."""
    base = _with_rules("nano_lidar_pixels", replace(NANO_RULES, sky="drop"))
    return replace(base, data=replace(base.data, feature_pixels="lidar"))


def nano_movers() -> Recipe:
    """`nano` without the rays of other times on things that may move."""
    return _with_rules("nano_movers", replace(NANO_RULES, movers="drop"))


def nano_flow() -> Recipe:
    """`nano` whose rays of other times follow what has moved, by annotated boxes: a bound, for cameras do not know."""
    base = _with_rules("nano_flow", replace(NANO_RULES, movers="flow"))
    return replace(base, data=replace(base.data, feature_motion=True))


def _with_sigma(name: str, sigma_max: float) -> Recipe:
    base = nano_system()
    # The same density before training: what is to be compared is how far it may rise.
    share = base.sigma_max / sigma_max / (1 + exp(-base.density_start))
    system = replace(base, sigma_max=sigma_max, density_start=log(share / (1 - share)))
    return replace(nano(), name=f"langocc.{name}", system=system)


def nano_sigma_half() -> Recipe:
    """`nano` with densities up to 0.5 a metre: a voxel stops as much of a ray as one of 0.4 m does in the paper."""
    return _with_sigma("nano_sigma_half", 0.5)


def nano_sigma_3() -> Recipe:
    """`nano` with densities up to 3 a metre."""
    return _with_sigma("nano_sigma_3", 3.0)


def nano_sigma_10() -> Recipe:
    """`nano` with densities up to 10 a metre: a voxel may be opaque."""
    return _with_sigma("nano_sigma_10", 10.0)
