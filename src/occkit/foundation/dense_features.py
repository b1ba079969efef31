"""Features of pixels: the Protocol."""

from collections.abc import Sequence
from typing import Any, Protocol

from jaxtyping import Float, UInt8
from torch import Tensor


class FeatureExtractor(Protocol):
    """Says what the parts of images show, as vectors: of the space that a `TextEncoder` shares, or of none (SAM)."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the extractor and every setting that changes its features."""
        ...

    @property
    def width(self) -> int:
        """Channels."""
        ...

    @property
    def reads_names(self) -> bool:
        """Whether token and cameras change the answer, as with a stand-in; if not, equal images have equal features."""
        ...

    def map_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Return (rows, columns) of the map of an image of (height, width) pixels."""
        ...

    def extract(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Float[Tensor, "n c hf wf"]:
        """Extract the features of the images of one frame.

        Args:
            images: RGB.
            token: the frame's name.
            cameras: the name of each image's camera.

        Returns:
            Maps whose cells divide the image evenly, on the images' device; the vector of a cell has length 1.

        Raises:
            ValueError: if images and cameras do not fit together.
        """
        ...
