"""What OccNeRF claims."""

from occkit.systems.occnerf.recipes import LABELS, nano, nano_compositing, nano_plain
from occkit.training.claim import PRIOR, Claim, Difference, World


def label_command(folder: str, *options: str, split: str = "train") -> tuple[str, ...]:
    """Return the command that writes pseudo-labels of a split's frames into a folder below the world."""
    fixed = ("--data", "{root}", "--split", split, "--stride", "1", "--max-pictures", "0")
    return ("label", *fixed, "--out", f"{{root}}/{folder}", *options)


CLAIM_WORLD = World(
    scenes=40,
    options=("--frames", "16", "--sweeps", "1", "--radius", "19.2"),
    commands=(label_command(LABELS, "--keep-images"),),
)
"""32 streets to learn from, 16 keyframes and the images between them of each; 8 others to be scored on. The near half
of each: what small images show without depth."""


def claim() -> Claim:
    """Two-view geometry without labels against priors, and how rays are rendered."""
    return Claim(
        system="occnerf",
        sentence=(
            "Images of other times teach depth better than a prior that knows the rows of every camera, and occupancy "
            "above the constant prior, without a label; contraction helps."
        ),
        arms={"saturating": nano, "compositing": nano_compositing, "plain": nano_plain},
        lines=(
            Difference(arm=PRIOR, baseline="saturating", metric="depth.abs_rel"),
            Difference(arm=PRIOR, baseline="compositing", metric="depth.abs_rel"),
            Difference(arm="saturating", baseline=PRIOR, metric="occ3d.miou"),
            Difference(arm="saturating", baseline="plain", metric="occ3d.miou"),
        ),
        protocols=("occ3d", "occ3d-full", "rayiou"),
        world=CLAIM_WORLD,
        depth=True,
        val_frames=100,
        seeds=3,
    )
