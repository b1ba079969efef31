"""What CIGOcc claims: three levels complement each other, and masks as teachers add to them."""

from occkit.systems.cigocc.hosts import nano_cgformer, nano_cgformer_sam, nano_voxformer
from occkit.systems.cigocc.recipes import LOOK, nano
from occkit.systems.cigocc.variants import (
    looking_in,
    nano_add,
    nano_all_voxels,
    nano_d,
    nano_depth_aware,
    nano_first_coarse,
    nano_fold,
    nano_frustum,
    nano_g,
    nano_gd,
    nano_gd_features,
    nano_gd_sam,
    nano_gd_sam_strong,
    nano_gd_sam_weak,
    nano_gs,
    nano_gsd,
    nano_gsd_control,
    nano_gsd_plain,
    nano_gsd_plain_shaken,
    nano_gsd_shaken,
    nano_hits,
    nano_join_concat,
    nano_join_replace,
    nano_mono,
    nano_s,
    nano_sd,
    nano_stereo,
    nano_two_stage,
)
from occkit.training.claim import Claim, Difference, Ratio, World
from occkit.training.recipe import Recipe

MIOU = "semantickitti.miou_labelled"
"""The metric of every line about quality: the mean over the classes that the validation drive has. The official mean,
`semantickitti.miou`, divides by all nineteen and scores absent ones 0; the card has both."""


def look_command(folder: str, *options: str) -> tuple[str, ...]:
    """Return the command that writes what the small recipes read, below a world's folder."""
    wanted = ("--depth", "stereo", "--masks", "--features")
    return ("look", "--data", "{root}", "--out", f"{{root}}/{folder}", *wanted, *options)


PAIR = f"{LOOK}_pair"
"""Where classes and features of both cameras of a stereo pair are, below a world's folder."""
_LOOK_AT_BOTH = (
    *("look", "--data", "{root}", "--out", f"{{root}}/{PAIR}"),
    *("--masks", "--features", "--cameras", "image_2", "image_3"),
)

CLAIM_WORLD = World(
    format="semantickitti",
    preset="kitti-nano",
    scenes=11,
    options=("--frames", "120", "--weather", "sun", "--colour-overlap", "0.6", "--gain-spread", "0.4"),
    commands=(look_command(LOOK),),
)
"""Ten drives of 120 voxel frames to learn from, and one, of which 60 frames are scored. Colours say little about
classes, so that appearance alone is ambiguous; masks have errors; depth is that of a noisy stereo pair. It is day, as
in KITTI: depth and masks here know the truth and not the night, which would be the images' alone."""


def claim() -> Claim:
    """Each level against their pairs and all three, attention against concatenation, masks as teachers and a control.

    Arms have the same parameters, of which those that read an absent level do not learn; only the head that the masks
    teach comes on top, and inference leaves it out.
    """
    singles = {"g": nano_g, "s": nano_s, "d": nano_d}
    pairs = {"gs": nano_gs, "gd": nano_gd, "sd": nano_sd}
    return Claim(
        system="cigocc",
        sentence=(
            "Segmentation, appearance and depth complement each other; deformable attention fuses them better than "
            "concatenation; masks as teachers help, with a segmenter at inference and without, at no cost."
        ),
        arms=singles
        | pairs
        | {
            "gsd_plain": nano_gsd_plain,
            "gsd": nano_gsd,
            "gsd_sam": nano,
            "control": nano_gsd_control,
            "gd_sam": nano_gd_sam,
        },
        lines=(
            # A: all three against each pair, each pair against both of its parts.
            *(Difference(arm="gsd", baseline=pair, metric=MIOU) for pair in pairs),
            *(Difference(arm=pair, baseline=single, metric=MIOU) for pair in pairs for single in pair),
            # B: attention against concatenation at equal parameters.
            Difference(arm="gsd", baseline="gsd_plain", metric=MIOU),
            # C: masks as teachers; those of other frames; without segmentation as an input.
            Difference(arm="gsd_sam", baseline="gsd", metric=MIOU),
            Difference(arm="gsd_sam", baseline="control", metric=MIOU),
            Difference(arm="gd_sam", baseline="gd", metric=MIOU),
            # D: a step at most 5 % slower, in at most 2 % more memory.
            Ratio(arm="gsd", baseline="gsd_sam", metric="cost.step_s", threshold=1 / 1.05),
            Ratio(arm="gsd", baseline="gsd_sam", metric="cost.train_gb", threshold=1 / 1.02),
        ),
        protocols=("semantickitti",),
        visibility=True,
        world=CLAIM_WORLD,
        val_frames=60,
        seeds=3,
    )


def stereo() -> Recipe:
    """`nano_stereo` on classes and features of both cameras; the other arms look at one."""
    return looking_in(nano_stereo(), PAIR, masks=True)


def effects() -> Claim:
    """What the choices are worth on which CIGOcc's figure is silent, and how its hosts fare on the same data.

    Hosts are compared with the arm that sees what they see: images and depth. What no line names is a finding. With the
    same `--out` as `claim`'s, worlds and the arms both have are made once.
    """
    return Claim(
        system="cigocc.effects",
        sentence=(
            "Training both stages together, adding answers to the first stage's volume and letting the likeliest "
            "voxels ask are at least as good as the alternatives; attention in three dimensions is better than in a "
            "fold, and attention in images better than concatenation under wrong calibration; taught by masks and "
            "without a segmenter at inference, CIGOcc exceeds VoxFormer and CGFormer, and masks help CGFormer, too."
        ),
        arms={
            "gsd_sam": nano,
            "two_stage": nano_two_stage,
            "add": nano_add,
            "join_concat": nano_join_concat,
            "join_replace": nano_join_replace,
            "hits": nano_hits,
            "all_voxels": nano_all_voxels,
            "mono": nano_mono,
            "stereo": stereo,
            "depth_aware": nano_depth_aware,
            "fold": nano_fold,
            "shaken": nano_gsd_shaken,
            "plain_shaken": nano_gsd_plain_shaken,
            "frustum": nano_frustum,
            "first_coarse": nano_first_coarse,
            "gd_sam": nano_gd_sam,
            "gd_sam_weak": nano_gd_sam_weak,
            "gd_sam_strong": nano_gd_sam_strong,
            "gd_features": nano_gd_features,
            "voxformer": nano_voxformer,
            "cgformer": nano_cgformer,
            "cgformer_sam": nano_cgformer_sam,
        },
        lines=(
            *(
                Difference(arm="gsd_sam", baseline=other, metric=MIOU, threshold=-0.005)
                for other in ("two_stage", "add", "join_concat", "join_replace", "hits", "all_voxels", "first_coarse")
            ),
            Difference(arm="gsd_sam", baseline="fold", metric=MIOU),
            Difference(arm="shaken", baseline="plain_shaken", metric=MIOU),
            Difference(arm="gd_sam", baseline="voxformer", metric=MIOU),
            Difference(arm="gd_sam", baseline="cgformer", metric=MIOU),
            Difference(arm="cgformer_sam", baseline="cgformer", metric=MIOU),
        ),
        protocols=("semantickitti",),
        visibility=True,
        world=CLAIM_WORLD,
        commands=(_LOOK_AT_BOTH,),
        val_frames=60,
        seeds=3,
    )
