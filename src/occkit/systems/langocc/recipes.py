"""LangOcc's recipes, tiny, small and of the published sizes, and the rivals of the small one.

`variants.py` has what changes one thing about the small one.
"""

from dataclasses import fields, replace

from occkit.data import DataConfig
from occkit.foundation import STREET_PROMPTS, SimulatedTextConfig
from occkit.losses.language import FeatureLossKind
from occkit.nn.blocks import GroupNormConfig
from occkit.nn.depth import DepthBins, DepthNetConfig
from occkit.nn.heads import HeightInChannelsHeadConfig, VolumeHeadConfig
from occkit.nn.lifting import GatherLiftConfig
from occkit.nn.necks import ConcatNeckConfig
from occkit.nn.stereo import StereoConfig
from occkit.nn.subspace import SvdSubspaceConfig
from occkit.nn.volumes import GroundNetConfig, VolumeNetConfig
from occkit.systems import lift
from occkit.systems.langocc.colours import ColourFieldConfig, FreeColourConfig, HarmonicColourConfig
from occkit.systems.langocc.field import FieldConfig
from occkit.systems.langocc.network import LangOccConfig, LanguageRaysConfig, LidarSweepConfig
from occkit.systems.langocc.rays import RayRulesConfig
from occkit.systems.langocc.rendering import RayRenderConfig
from occkit.systems.langocc.text import TextConfig
from occkit.systems.lift import MIRROR, LiftConfig, LiftEncoderConfig
from occkit.systems.occnerf import NEAR_GRID, nano_network
from occkit.training.optim import OptimConfig
from occkit.training.recipe import Recipe

FEATURES = "features"
"""Where the recipes look for the features of pixels, below the data's folder."""
STREET = TextConfig(encoder=SimulatedTextConfig(), width=64, prompts=STREET_PROMPTS)
"""The text side of the small recipes: the simulated encoder's 64 channels and 24 plain words."""
_GROUPS = GroupNormConfig()


NANO_RULES = RayRulesConfig(emptiness=0.1, fullness=0.1)
"""Which rays of the small recipes teach what: so few steps do not lift a fog that nothing else speaks against."""
NANO_WEIGHTS: dict[FeatureLossKind, float] = {"cosine_guided": 100.0, "mse": 15.0, "cosine": 30.0}
"""What the comparison of features weighs beside these rules: with each kind, and with `_COLOURS`, one vector (one
colour) for everything costs about as much, nearly 2."""
_COLOURS = 10.0
"""Weight of the comparison of colours."""


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
        text=STREET,
        render=RayRenderConfig(proposals=12, samples=16),
    )
    data = replace(base.data, load_depth=False, features=FEATURES, feature_rays=256, feature_horizon=1)
    return replace(base, name="langocc.debug", system=system, data=data, optim=OptimConfig(lr=0.01))


def nano() -> Recipe:
    """Minutes on two cores: six 64 x 176 images, 48 x 48 x 8 voxels, 64 channels, 2 keyframes on either side.

    Rays say little of a frame, so that many frames count for more than a large network: this one takes half the time
    of `easyocc.nano`'s. What is lifted is weighed by a depth that nothing but the rays teaches, as in the paper.
    """
    # Nothing of the volume lies beyond 28 m; the last bins are for what does not lie in it.
    depth = DepthNetConfig(
        bins=DepthBins(start=1.0, stop=33.0, step=1.0), context_channels=22, hidden=32, depth_blocks=0
    )
    encoder = LiftEncoderConfig(
        grid=NEAR_GRID,
        backbone=nano_network(8).backbone,
        neck=ConcatNeckConfig(channels=32),
        depth=depth,
        lift=GatherLiftConfig(interpolation="nearest"),
    )
    head = HeightInChannelsHeadConfig(
        net=GroundNetConfig(widths=(32, 48, 64), blocks=(1, 1, 1), strides=(2, 2, 2), channels=48),
        num_heights=8,
        hidden=128,
    )
    system = LangOccConfig(
        encoder=encoder,
        head=head,
        channels=32,
        hidden=48,
        layers=1,
        text=STREET,
        density_start=-1.0,
        threshold=0.3,  # a voxel of 0.8 m that stops a fifth of a ray; chosen on a world of its own
        signal=language_rays("cosine_guided"),
        render=RayRenderConfig(proposals=32, samples=48),
    )
    return Recipe(
        name="langocc.nano",
        system=system,
        data=DataConfig(
            image_size=(64, 176),
            load_depth=False,
            features=FEATURES,
            feature_rays=1024,
            feature_horizon=2,
            augment=MIRROR,
        ),
        optim=OptimConfig(lr=2e-3, betas=(0.9, 0.99), muon_lr=0.02, warmup_steps=50, clip_norm=5.0),
        steps=1000,
        batch_size=2,
        evaluate_every=1000,
        protocols=("occ3d", "langocc", "rayiou"),
    )


def language_rays(kind: FeatureLossKind, rules: RayRulesConfig = NANO_RULES) -> LanguageRaysConfig:
    """Return the signal of the small recipes with this comparison."""
    return LanguageRaysConfig(kind=kind, weight=NANO_WEIGHTS[kind], rules=rules)


def nano_system() -> LangOccConfig:
    """Return the network of `nano`."""
    system = nano().system
    assert isinstance(system, LangOccConfig)
    return system


def _with_horizon(keyframes: int) -> Recipe:
    name = f"langocc.nano_horizon_{keyframes}"
    return replace(nano(), name=name, data=replace(nano().data, feature_horizon=keyframes))


def nano_horizon_0() -> Recipe:
    """`nano` on rays of the present frame alone."""
    return _with_horizon(0)


def nano_horizon_1() -> Recipe:
    """`nano` on rays of one keyframe on either side."""
    return _with_horizon(1)


def nano_horizon_4() -> Recipe:
    """`nano` on rays of four keyframes on either side."""
    return _with_horizon(4)


def nano_untrained() -> Recipe:
    """`nano` before training: one step of next to no length, for a training has at least one.

    It starts as the paper does, with half the largest density everywhere: all of space is occupied. The start of `nano`
    lies below its threshold: all of space is free, and the IoU nothing.
    """
    optim = replace(nano().optim, lr=1e-12, muon_lr=None, warmup_steps=0)
    system = replace(nano_system(), density_start=0.0)
    return replace(nano(), name="langocc.nano_untrained", system=system, optim=optim, steps=1, evaluate_every=None)


def nano_pop3d() -> Recipe:
    """`nano`'s network, taught by the LiDAR sweep of the frame and the features at its points (POP-3D).

    It learns the probability of being occupied, so a voxel is free below one half.
    """
    signal = LidarSweepConfig(features=NANO_WEIGHTS["mse"])
    system = replace(nano_system(), signal=signal, sigma_max=1.0, threshold=0.5)
    data = replace(nano().data, feature_rays=0, feature_horizon=0, load_points=True, point_features=True)
    return replace(nano(), name="langocc.nano_pop3d", system=system, data=data)


def _with_colours(name: str, colour: FreeColourConfig | HarmonicColourConfig) -> Recipe:
    base = nano_system()
    shared = {f.name: getattr(base, f.name) for f in fields(FieldConfig)}
    system = ColourFieldConfig(**shared, colour=colour, weight=_COLOURS, rules=NANO_RULES)
    return replace(nano(), name=f"langocc.{name}", system=system, data=replace(nano().data, feature_colours=True))


def nano_rgb() -> Recipe:
    """`nano`'s field and rays, taught by the colours of the pixels; a voxel may have any colour."""
    return _with_colours("nano_rgb", FreeColourConfig())


def nano_rgb_harmonic() -> Recipe:
    """`nano_rgb` with the paper's colours: spherical harmonics whose coefficients are above 0."""
    return _with_colours("nano_rgb_harmonic", HarmonicColourConfig())


def full_r50_occ3d() -> Recipe:
    """The published shapes: ResNet-50, 256 x 704, two frames with stereo depth, 512 channels; CLIP's words."""
    base = lift.r50_occ3d_stereo()
    system = LangOccConfig(
        # As published, the comparison of frames keeps nothing for the backward pass: half of what the images take.
        encoder=replace(_encoder(base), stereo=StereoConfig(stage=0, gradient=False)),
        head=VolumeHeadConfig(net=VolumeNetConfig(channels=32), hidden=None),
        channels=256,
        recompute=True,
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
