"""EasyOcc's recipes: the network on pseudo-labels, the labels in other hosts, and what changes the labels."""

from dataclasses import replace

from occkit.data import DataConfig
from occkit.losses import VoxelLossConfig
from occkit.systems import lift
from occkit.systems.easyocc.network import EasyOccConfig
from occkit.systems.lift import MIRROR, NANO_GRID, LiftConfig
from occkit.systems.occnerf import LABELS, NEAR_GRID, VOXEL_LOSSES, debug_network, nano_network, r101_network
from occkit.training.optim import OptimConfig, Steps
from occkit.training.recipe import Recipe


def debug() -> Recipe:
    """Seconds on a CPU: a tiny network on coarse voxels, to see that everything runs."""
    return Recipe(
        name="easyocc.debug",
        system=EasyOccConfig(
            grid=NANO_GRID, network=debug_network(), loss=VoxelLossConfig(mask_camera_in_training=False)
        ),
        data=DataConfig(image_size=(32, 88), load_depth=False, labels=LABELS),
        optim=OptimConfig(lr=3e-3),
        steps=20,
        batch_size=2,
        evaluate_every=20,
        max_train_frames=8,
        max_val_frames=4,
    )


def nano() -> Recipe:
    """Minutes on two cores: six 64 x 176 images, 48 x 48 x 8 voxels, labels of 13 earlier frames."""
    return Recipe(
        name="easyocc.nano",
        system=EasyOccConfig(grid=NEAR_GRID, network=nano_network(8), loss=VOXEL_LOSSES),
        data=DataConfig(image_size=(64, 176), load_depth=False, labels=LABELS, augment=MIRROR),
        optim=OptimConfig(lr=4e-3, betas=(0.9, 0.99), muon_lr=0.02, warmup_steps=50, clip_norm=10.0),
        steps=224,
        batch_size=2,
        evaluate_every=224,
        protocols=("occ3d", "occ3d-full", "rayiou"),
    )


def _with_labels(name: str, folder: str) -> Recipe:
    return replace(nano(), name=f"easyocc.{name}", data=replace(nano().data, labels=folder))


def nano_k0() -> Recipe:
    """`nano` on labels of the present frame alone."""
    return _with_labels("nano_k0", "labels/k0")


def nano_k3() -> Recipe:
    """`nano` on labels of 3 earlier frames."""
    return _with_labels("nano_k3", "labels/k3")


def nano_movers() -> Recipe:
    """`nano` on labels that keep what moves from earlier frames: trails."""
    return _with_labels("nano_movers", "labels/k13_movers")


def nano_pass() -> Recipe:
    """`nano` on labels without the voxels that far more rays pass than end in (ShelfOcc's static filter)."""
    return _with_labels("nano_pass", "labels/k13_pass")


def nano_majority() -> Recipe:
    """`nano` on labels named by most points, one of which is enough: EasyOcc's text, read plainly."""
    return _with_labels("nano_majority", "labels/k13_majority")


def nano_rare() -> Recipe:
    """`nano` on labels whose vote prefers rarer classes near the ground (ShelfOcc)."""
    return _with_labels("nano_rare", "labels/k13_rare")


def nano_no_sky() -> Recipe:
    """`nano` on labels of a labeller that was not asked for the sky."""
    return _with_labels("nano_no_sky", "labels/k13_no_sky")


def nano_visible() -> Recipe:
    """`nano`, learning from the voxels that a ray of the frame passes or hits: free is not unknown."""
    loss = replace(VOXEL_LOSSES, mask_camera_in_training=True)
    system = EasyOccConfig(grid=NEAR_GRID, network=nano_network(8), loss=loss)
    return replace(nano(), name="easyocc.nano_visible", system=system)


def nano_lift() -> Recipe:
    """`lift.nano` on the same labels: depth is learnt from them alone, no LiDAR is read."""
    base = lift.nano()
    assert isinstance(base.system, LiftConfig)
    losses = replace(base.system.losses, voxels=VOXEL_LOSSES, depth=0.0, image_classes=0.0)
    system = replace(base.system, grid=NEAR_GRID, losses=losses, image_classes=False, image_steps=0)
    return replace(nano(), name="easyocc.nano_lift", system=system)


def r101_occ3d() -> Recipe:
    """The published shapes as far as they are known: OccNeRF's network on Occ3D's plain grid, 336 x 672."""
    return Recipe(
        name="easyocc.r101_occ3d",
        system=EasyOccConfig(network=r101_network(gain=False)),
        data=DataConfig(image_size=(336, 672), keep_aspect=False, load_depth=False, labels=LABELS),
        optim=OptimConfig(
            lr=1e-3, weight_decay=0.0, schedule=Steps(at=(10 / 12,)), lr_factors=(("network.backbone.", 0.1),)
        ),
        steps=42_195,  # 12 epochs of 28,130 frames, one on each of 8 processes
        precision="fp16",
        evaluate_every=1_000,
        protocols=("occ3d", "occ3d-full", "rayiou"),
        num_workers=4,
    )
