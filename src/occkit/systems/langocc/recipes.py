"""LangOcc's recipes: the full and the reduced variant, tiny, small and of the published sizes."""

from dataclasses import fields, replace

from occkit.foundation import STREET_PROMPTS, SimulatedTextConfig
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.heads import HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.subspace import SvdSubspaceConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig
from occkit.systems import lift
from occkit.systems.langocc.network import LangOccConfig
from occkit.systems.langocc.rendering import RayRenderConfig
from occkit.systems.langocc.text import TextConfig
from occkit.systems.lift import LiftConfig, LiftEncoderConfig
from occkit.training.optim import OptimConfig
from occkit.training.recipe import Recipe

FEATURES = "features"
"""Where the recipes look for the features of pixels, below the data's folder."""
_STREET = TextConfig(encoder=SimulatedTextConfig(), width=64, prompts=STREET_PROMPTS)
_GROUPS = GroupNormConfig()


def _encoder(recipe: Recipe) -> LiftEncoderConfig:
    """Return the encoder of a recipe of lift."""
    assert isinstance(recipe.system, LiftConfig)
    return LiftEncoderConfig(**{f.name: getattr(recipe.system, f.name) for f in fields(LiftEncoderConfig)})


def debug() -> Recipe:
    """Seconds on a CPU: a tiny network on coarse voxels, to see that everything runs."""
    base = lift.debug()
    head = VolumeHeadConfig(
        net=VolumeNetConfig(widths=(8, 16), blocks=(1, 1), strides=(1, 2), channels=8, norm=_GROUPS), hidden=0
    )
    system = LangOccConfig(
        encoder=_encoder(base),
        head=head,
        channels=16,
        hidden=16,
        layers=1,
        text=_STREET,
        render=RayRenderConfig(proposals=12, samples=16),
    )
    data = replace(base.data, load_depth=False, features=FEATURES, feature_rays=256, feature_horizon=1)
    return replace(base, name="langocc.debug", system=system, data=data, optim=OptimConfig(lr=0.02))


def nano() -> Recipe:
    """Minutes on two cores: `lift.nano`'s encoder without its depth losses, 64 channels, 2 frames on either side."""
    base = lift.nano()
    encoder = replace(
        _encoder(base),
        image_classes=False,
        depth=DepthNetConfig(
            bins=DepthBins(start=1.0, stop=57.0, step=1.0), context_channels=28, hidden=48, depth_blocks=1
        ),
    )
    system = LangOccConfig(
        encoder=encoder,
        head=HeightInChannelsHeadConfig(
            net=GroundNetConfig(widths=(64, 96), blocks=(1, 1), strides=(1, 2), channels=64),
            num_heights=8,
            hidden=192,
            upsample=2,
        ),
        channels=32,
        hidden=64,
        layers=2,
        text=_STREET,
        render=RayRenderConfig(proposals=32, samples=48),
    )
    return Recipe(
        name="langocc.nano",
        system=system,
        data=replace(base.data, load_depth=False, features=FEATURES, feature_rays=2048, feature_horizon=2),
        optim=OptimConfig(lr=2e-3, betas=(0.9, 0.99), muon_lr=0.02, warmup_steps=50, clip_norm=5.0),
        steps=600,
        batch_size=2,
        evaluate_every=600,
        protocols=("occ3d", "langocc", "rayiou"),
    )


def _nano(name: str, **changes: object) -> Recipe:
    base = nano()
    assert isinstance(base.system, LangOccConfig)
    return replace(base, name=f"langocc.{name}", system=replace(base.system, **changes))


def nano_reduced() -> Recipe:
    """`nano` in the 24 channels that its 24 prompts span."""
    return _nano("nano_reduced", text=replace(_STREET, subspace=SvdSubspaceConfig(dim=24)))


def _nano_losses(name: str, **changes: object) -> Recipe:
    base = nano().system
    assert isinstance(base, LangOccConfig)
    return _nano(name, losses=replace(base.losses, **changes))


def nano_movers() -> Recipe:
    """`nano` without the rays of other times on things that may move."""
    return _nano_losses("nano_movers", movers="drop")


def nano_sky() -> Recipe:
    """`nano` without the rays that show the sky: nothing says that the air is empty."""
    return _nano_losses("nano_sky", sky="drop")


def nano_single() -> Recipe:
    """`nano` on rays of the present frame alone."""
    base = nano()
    return replace(base, name="langocc.nano_single", data=replace(base.data, feature_horizon=0))


def full_r50_occ3d() -> Recipe:
    """The published shapes: ResNet-50, 256 x 704, two frames with stereo depth, 512 channels; CLIP's words."""
    base = lift.r50_occ3d_stereo()
    system = LangOccConfig(
        encoder=_encoder(base), head=VolumeHeadConfig(net=VolumeNetConfig(channels=32), hidden=0), channels=256
    )
    return Recipe(
        name="langocc.full_r50_occ3d",
        system=system,
        data=replace(base.data, load_depth=False, features=FEATURES, feature_rays=8192, feature_horizon=12),
        optim=OptimConfig(lr=1e-4, weight_decay=0.01, warmup_steps=200, clip_norm=5.0),
        steps=31_644,  # 18 epochs of 28,130 frames, 16 frames a step: 4 processes of 4
        batch_size=4,
        ema_decay=0.999,
        evaluate_every=10_548,
        protocols=("occ3d", "langocc", "rayiou"),
        num_workers=4,
    )


def reduced_r50_occ3d() -> Recipe:
    """The published reduced variant: 128 of 512 channels, 14,336 rays."""
    base = full_r50_occ3d()
    assert isinstance(base.system, LangOccConfig)
    text = replace(base.system.text, subspace=SvdSubspaceConfig(dim=128))
    return replace(
        base,
        name="langocc.reduced_r50_occ3d",
        system=replace(base.system, text=text),
        data=replace(base.data, feature_rays=14_336),
    )
