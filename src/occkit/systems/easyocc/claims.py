"""What EasyOcc claims: labels made from images, in its own network and in OccNeRF's."""

from dataclasses import replace

from occkit.systems import occnerf
from occkit.systems.easyocc.recipes import (
    nano,
    nano_k0,
    nano_k3,
    nano_lift,
    nano_majority,
    nano_movers,
    nano_no_sky,
    nano_pass,
    nano_rare,
    nano_visible,
)
from occkit.training.claim import PRIOR, Claim, Difference, Ratio, World

MOVERS = ("car", "truck", "bus", "pedestrian")
"""Classes whose trails the filter of movers prevents; a line about one that some seed's streets lack has no value."""


_POINTS = ("--points", "{root}/labels/points")
_SURE = ("--min-points", "4")
"""What fourteen frames must say of a voxel; one frame says less often anything, and its labels are best without."""
CLAIM_WORLD: World = replace(
    occnerf.CLAIM_WORLD,
    commands=(
        occnerf.label_command(occnerf.LABELS, "--keep-images", *_SURE, *_POINTS),
        occnerf.label_command("labels/k0", "--history", "0", *_POINTS),
        occnerf.label_command("labels/k13_movers", "--keep-movers", *_SURE, *_POINTS),
        occnerf.label_command("labels/k13_pass", "--pass-ratio", "10", *_SURE, *_POINTS),
        occnerf.label_command("labels/k13_rare", "--vote", "rare_first", *_SURE, *_POINTS),
        occnerf.label_command("labels/k13_no_sky", "--no-sky", *_SURE),
        occnerf.label_command("labels/val", "--json", "{root}/labels/val.json", *_SURE, split="val"),
    ),
)
"""The world of OccNeRF's claim, with the labels of the claim's arms, and those of the frames that are scored."""
PROTOCOLS = ("occ3d", "occ3d-full", "occnerf15", "rayiou")
"""Where a camera sees, the whole scene, OccNeRF's fifteen classes, and first surfaces along rays."""


def claim() -> Claim:
    """Pseudo-labels in a rendering model and without one; what earlier frames, and additions of successors, give."""
    return Claim(
        system="easyocc",
        sentence=(
            "3D pseudo-labels raise a rendering model's mIoU by at least 45 %; a network that renders nothing reaches "
            "95 % of that in a third of its time; earlier frames help the whole scene, where such a network beats "
            "rendering alone by at least 31 %. The rendering model's depth and classes beat a constant prior. It "
            "helps to learn from visible voxels, ask for the sky, drop voxels that rays pass, prefer rare classes."
        ),
        arms={
            "occnerf": occnerf.nano,
            "occnerf_labels": occnerf.nano_labels,
            "easyocc": nano,
            "k0": nano_k0,
            "movers": nano_movers,
            "visible": nano_visible,
            "no_sky": nano_no_sky,
            "pass": nano_pass,
            "rare": nano_rare,
        },
        lines=(
            Ratio(arm="occnerf_labels", baseline="occnerf", metric="occ3d.miou", threshold=1.45),
            Ratio(arm="easyocc", baseline="occnerf_labels", metric="occ3d.miou", threshold=0.95),
            Ratio(arm="occnerf_labels", baseline="easyocc", metric="cost.step_s", threshold=3.0),
            Ratio(arm="occnerf_labels", baseline="easyocc", metric="cost.train_gb", threshold=3.0),
            Ratio(arm="easyocc", baseline="k0", metric="occ3d-full.miou", threshold=1.15),
            *(Difference(arm="easyocc", baseline="movers", metric=f"occ3d.per_class.{name}") for name in MOVERS),
            Ratio(arm="easyocc", baseline="occnerf", metric="occ3d-full.miou", threshold=1.31),
            Difference(arm=PRIOR, baseline="occnerf", metric="depth.abs_rel"),
            Difference(arm="occnerf", baseline=PRIOR, metric="occ3d.miou"),
            Difference(arm="visible", baseline="easyocc", metric="occ3d.miou"),
            Difference(arm="easyocc", baseline="no_sky", metric="occ3d.miou"),
            Difference(arm="pass", baseline="easyocc", metric="occ3d.miou"),
            Difference(arm="rare", baseline="easyocc", metric="occ3d.miou"),
        ),
        protocols=PROTOCOLS,
        world=CLAIM_WORLD,
        depth=True,
        reports={"labels": "labels/val.json"},
        seeds=3,
    )


def effects() -> Claim:
    """How a voxel is named, fewer earlier frames, and another host.

    With the same `--out` as `claim`'s, worlds and the arm both have are made once; only further labels are added.
    """
    return Claim(
        system="easyocc.effects",
        sentence="Letting the present frame name what moves and dropping voxels of few points help the student.",
        arms={
            "easyocc": nano,
            "k3": nano_k3,
            "majority": nano_majority,
            "lift": nano_lift,
        },
        lines=(Difference(arm="easyocc", baseline="majority", metric="occ3d.miou"),),
        protocols=PROTOCOLS,
        world=CLAIM_WORLD,
        commands=(
            occnerf.label_command("labels/k3", "--history", "3", "--min-points", "2", *_POINTS),
            occnerf.label_command("labels/k13_majority", "--vote", "majority", *_POINTS),
        ),
        depth=True,
        reports={"labels": "labels/val.json"},
        seeds=3,
    )
