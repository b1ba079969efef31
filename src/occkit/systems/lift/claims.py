"""What lift claims."""

from occkit.systems.lift.recipes import nano, nano_no_mask, nano_stereo, nano_volume
from occkit.training.claim import Claim, Difference, Ratio, World

CLAIM_WORLD = World(scenes=250, options=("--frames", "10"))
"""200 streets to learn from, 50 others; drives long enough for a frame before each and for RayIoU's eight origins."""


def claim() -> Claim:
    """What the camera mask, stereo and the kind of head change, on 200 training frames of a nano world."""
    return Claim(
        system="lift",
        sentence=(
            "Six small images are enough to triple the constant prior's mIoU in minutes; the camera mask in training "
            "raises masked mIoU, and lowers RayIoU and the full scene's mIoU; stereo helps; height in channels costs "
            "little accuracy."
        ),
        arms={"mono": nano, "no_mask": nano_no_mask, "stereo": nano_stereo, "volume": nano_volume},
        lines=(
            Ratio(arm="mono", baseline="prior", metric="occ3d.miou", threshold=3.0),
            Difference(arm="mono", baseline="prior", metric="occ3d.iou", threshold=0.02),
            Difference(arm="mono", baseline="prior", metric="rayiou.rayiou", threshold=0.02),
            Difference(arm="mono", baseline="no_mask", metric="occ3d.miou"),
            Difference(arm="no_mask", baseline="mono", metric="rayiou.rayiou"),
            Difference(arm="no_mask", baseline="mono", metric="occ3d-full.miou"),
            Difference(arm="stereo", baseline="mono", metric="occ3d.miou"),
            Difference(arm="mono", baseline="volume", metric="occ3d.miou", threshold=-0.03),
        ),
        protocols=("occ3d", "occ3d-full", "rayiou"),
        world=CLAIM_WORLD,
        val_frames=100,
        seeds=3,
    )
