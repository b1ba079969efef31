"""What there is to look at: frames in the order of time, each with volumes, cameras and points, read when asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from occkit.samples import Occupancy, Sample
from occkit.viewer.compare import error_volume, observed_volume
from occkit.viewer.scene import EgoCar

ReadVolume = Callable[[], Occupancy | None]
"""Returns a volume, or None if the frame has none."""
ERRORS_OF = "errors of"
"""How the name of a volume of errors begins."""
OBSERVED_BY = "observed"
"""Name of the volume that says which sensor saw what."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One frame."""

    token: str
    """Its name."""
    scene: str
    """Scene or sequence it belongs to; empty if that is not known."""
    volumes: Mapping[str, Occupancy]
    """By name, the one to show first in front. All in one frame, the sample's if there is one."""
    sample: Sample | None = None
    """Images as they are stored, cameras, points, pose; None where there is only a volume."""
    ego: EgoCar | None = None
    """The recording car."""
    remark: str = ""
    """A line of text: a caption, or what was asked for."""


@dataclass(frozen=True, kw_only=True)
class FrameToShow:
    """One frame before it is read."""

    token: str
    """Its name."""
    volumes: Mapping[str, ReadVolume]
    """By name: files, or a model."""
    sample: Callable[[], Sample] | None = None
    """Reads images, cameras and points."""
    scene: str = ""
    """Scene or sequence."""
    ego: EgoCar | None = None
    """The recording car."""
    remark: str = ""
    """A line of text."""

    def read(self) -> Shown:
        """Return the frame, with errors where two volumes can be compared and masks as a volume of their own.

        The last volume is what the others are measured by.

        Raises:
            DataError: if a file is damaged.
            ValueError: if no volume is there.
        """
        found = {name: volume for name, read in self.volumes.items() if (volume := read()) is not None}
        if not found:
            raise ValueError(f"frame {self.token}: there is no volume to show")
        sample = None if self.sample is None else self.sample()
        caption = "" if sample is None or sample.caption is None else sample.caption
        return Shown(
            token=self.token,
            scene=self.scene,
            volumes=_compared(found),
            sample=sample,
            ego=self.ego,
            remark=self.remark or caption,
        )


@dataclass(frozen=True, kw_only=True)
class Show:
    """Frames to look at."""

    title: str
    """What this is."""
    frames: tuple[FrameToShow, ...]
    """In the order of time."""

    def __post_init__(self) -> None:
        if not self.frames:
            raise ValueError(f"{self.title}: there is no frame to show")


def _compared(volumes: Mapping[str, Occupancy]) -> dict[str, Occupancy]:
    """Return volumes, then the errors of each against the last, then who observed the last."""
    names, result = list(volumes), dict(volumes)
    reference = volumes[names[-1]]
    for name in names[:-1]:
        volume = volumes[name]
        if volume.grid == reference.grid and volume.taxonomy == reference.taxonomy:
            result[f"{ERRORS_OF} {name}"] = error_volume(volume, reference)
    if reference.mask_camera is not None or reference.mask_lidar is not None:
        result[OBSERVED_BY] = observed_volume(reference)
    return result
