"""What MonoScene claims."""

from occkit.systems.monoscene.recipes import nano_room, nano_room_plain
from occkit.training.claim import Claim, Difference, Ratio, World

CLAIM_WORLD = World(format="nyuv2", preset="room-nano", scenes=500)
"""400 rooms to learn from, 100 others."""


def claim() -> Claim:
    """What the affinity and frustum losses and the context prior add to cross-entropy, in rooms."""
    return Claim(
        system="monoscene",
        sentence=(
            "One small image of a room is enough for twice the constant prior's mIoU; scene-class affinity, "
            "frustum proportion and the context prior raise mIoU above cross-entropy alone."
        ),
        arms={"full": nano_room, "plain": nano_room_plain},
        lines=(
            Ratio(arm="full", baseline="prior", metric="monoscene.miou", threshold=2.0),
            Difference(arm="full", baseline="prior", metric="monoscene.iou", threshold=0.02),
            Difference(arm="full", baseline="plain", metric="monoscene.miou"),
        ),
        protocols=("monoscene",),
        world=CLAIM_WORLD,
        seeds=3,
    )
