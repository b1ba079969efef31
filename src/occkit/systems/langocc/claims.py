"""What LangOcc claims."""

from occkit.systems.langocc.recipes import FEATURES, nano, nano_movers, nano_reduced, nano_single, nano_sky
from occkit.training.claim import PRIOR, Claim, Difference, World

CLAIM_WORLD = World(
    scenes=50,
    options=("--frames", "10", "--radius", "19.2"),
    commands=(("features", "--data", "{root}", "--split", "train", "--out", f"{{root}}/{FEATURES}"),),
)
"""40 streets to learn from, ten keyframes of each, and what an image model sees in them; 10 others to be scored on."""


def claim() -> Claim:
    """Geometry and classes from words alone, and what the time, the sky and the channels around them change."""
    return Claim(
        system="langocc",
        sentence=(
            "Features that images share with words teach geometry and classes without a label; rays of other times "
            "help, the sky teaches what is empty, and the channels that the prompts span are enough for them."
        ),
        arms={
            "full": nano,
            "reduced": nano_reduced,
            "single": nano_single,
            "no_sky": nano_sky,
            "no_movers": nano_movers,
        },
        lines=(
            Difference(arm="full", baseline=PRIOR, metric="occ3d.miou"),
            Difference(arm="full", baseline="single", metric="occ3d.iou"),
            Difference(arm="full", baseline="no_sky", metric="occ3d.iou"),
            Difference(arm="reduced", baseline="full", metric="occ3d.miou", threshold=-0.005),
            Difference(arm="no_movers", baseline="full", metric="occ3d.miou"),
        ),
        protocols=("occ3d", "langocc", "rayiou"),
        world=CLAIM_WORLD,
        val_frames=100,
        seeds=3,
    )
