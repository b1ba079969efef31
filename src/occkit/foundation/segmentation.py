"""Segments of images: which pixels belong together, without saying to what. The Protocol, and SAM.

A segment map holds integer ids, 0 for no segment. Ids are local to an image: the same id in two images means nothing.
Losses that want a negative id for "none" take `segments - 1`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from occkit.errors import ConfigError
from occkit.foundation.weights import load_model

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FETCH = (
    "SAM is facebook/sam-vit-huge, -large or -base: load SamModel once with from_pretrained and save it to a folder "
    "with save_pretrained"
)


class Segmenter(Protocol):
    """Divides images into segments."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the segmenter and every setting that changes its maps."""
        ...

    def segment(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Int64[Tensor, "n h w"]:
        """Segment the images of one frame.

        Args:
            images: RGB.
            token: the frame's name.
            cameras: the name of each image's camera.

        Returns:
            Segment of each pixel, 0 for none, on the images' device; ids are local to an image.

        Raises:
            ValueError: if images and cameras do not fit together.
        """
        ...


class BoxSegmenter(Protocol):
    """Cuts out what is in boxes."""

    @property
    def description(self) -> dict[str, Any]:
        """JSON that names the segmenter and every setting that changes its masks."""
        ...

    def masks_in_boxes(self, image: UInt8[Tensor, "3 h w"], boxes: Float[Tensor, "k 4"]) -> Bool[Tensor, "k h w"]:
        """Return one mask for each box, on the image's device: none is dropped for a low score.

        Args:
            image: RGB.
            boxes: left, top, right, bottom; pixels of the image.
        """
        ...


def check_request(images: Tensor, token: str, cameras: Sequence[str]) -> None:
    """Check the arguments of `Segmenter.segment`.

    Raises:
        ValueError: if images are not uint8 `[n, 3, h, w]` with a camera name each, or a name cannot be a file's.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"images: expected uint8 [n, 3, h, w], got {images.dtype} {tuple(images.shape)}")
    if len(cameras) != len(images) or len(set(cameras)) != len(cameras):
        raise ValueError(f"cameras: expected a name of its own for each of {len(images)} images, got {list(cameras)}")
    for name in (token, *cameras):
        if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
            raise ValueError(f"token, cameras: expected names that can be those of files, got {name!r}")


@dataclass(frozen=True, kw_only=True)
class SamSegmenterConfig:
    """SAM of transformers (extra `hf`), asked with a grid of points; thresholds are those of the paper's generator."""

    kinds: ClassVar[tuple[str, ...]] = ("sam",)
    """What `model_type` of its weights may be."""
    fetch: ClassVar[str] = _FETCH
    """What to fetch, and how: for who has no weights yet."""

    weights: str
    """Folder or hub id that holds `config.json` and safetensors of a SAM (v1) model."""
    points_per_side: int = 32
    """The image is asked at so many points along each axis; each answers with three masks (part, whole, all)."""
    points_per_batch: int = 64
    """Points or boxes decoded at once; changes memory and speed, not the result."""
    min_predicted_iou: float = 0.88
    """Masks that the model itself trusts less are dropped (0..1)."""
    min_stability: float = 0.95
    """Masks that change more when the threshold is moved are dropped: IoU of the two thresholded masks (0..1)."""
    stability_offset: float = 1.0
    """How far the threshold is moved either way for the stability, logits."""
    max_overlap: float = 0.7
    """Of two masks whose IoU is larger only the more trusted is kept (0..1)."""
    min_pixels: int = 1
    """Segments left with fewer pixels once others lie on them become "none"."""
    device: str = "cpu"
    """Where the model runs."""

    def __post_init__(self) -> None:
        guest = type(self).__name__.removesuffix("Config")
        for name in ("points_per_side", "points_per_batch", "min_pixels"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{guest}: {name} {getattr(self, name)} must be at least 1")
        for name in ("min_predicted_iou", "min_stability", "max_overlap"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"{guest}: {name} {getattr(self, name)} must lie in 0..1")

    def build(self) -> "SamSegmenter":
        """Load the model.

        Raises:
            ConfigError: if transformers is not installed, or the weights are not those of a SAM.
        """
        return SamSegmenter(self)


class SamSegmenter:
    """See `SamSegmenterConfig`.

    Masks become one map by two rules. Of masks that overlap by more than `max_overlap` the one with the higher
    predicted IoU stays (compared at the decoder's resolution). Then every pixel belongs to the smallest mask that
    covers it: a window lies on its car, the car on the road. Pixels in no mask are 0.

    Source: Kirillov et al., "Segment Anything", ICCV 2023; implementation of transformers. Differs from the paper's
    generator: masks instead of their boxes are compared, and stability is measured before the masks are enlarged; there
    are no crops.
    """

    def __init__(self, config: SamSegmenterConfig) -> None:
        self.config = config
        model = load_model("SamSegmenter", config.weights, loader="SamModel", kinds=config.kinds, fetch=_FETCH)
        self.model = model.to(config.device).eval()
        self.image_size: int = self.model.config.vision_config.image_size

    @property
    def description(self) -> dict[str, Any]:
        """Name and settings; not the device and the batch, which do not change the result."""
        settings = asdict(self.config)
        return {"segmenter": "sam"} | {k: v for k, v in settings.items() if k not in ("device", "points_per_batch")}

    @torch.no_grad()
    def segment(
        self, images: UInt8[Tensor, "n 3 h w"], *, token: str, cameras: Sequence[str]
    ) -> Int64[Tensor, "n h w"]:
        """Segment images; token and cameras are not looked at. See `Segmenter.segment`."""
        check_request(images, token, cameras)
        maps = [self._segment(image) for image in images.to(self.config.device)]
        return torch.stack(maps).to(images.device)

    @torch.no_grad()
    def masks_in_boxes(self, image: UInt8[Tensor, "3 h w"], boxes: Float[Tensor, "k 4"]) -> Bool[Tensor, "k h w"]:
        """Return one mask for each box. See `BoxSegmenter.masks_in_boxes`."""
        size = (image.shape[1], image.shape[2])
        masks = [torch.zeros((0, *size), dtype=torch.bool, device=image.device)]
        if len(boxes):
            pixels, resized = self._prepare(image.to(self.config.device))
            embeddings = self.model.get_image_embeddings(pixels)
            scale = boxes.new_tensor([resized[1] / size[1], resized[0] / size[0]]).repeat(2)
            for some in (boxes * scale).to(self.config.device).split(self.config.points_per_batch):
                answer = self.model(image_embeddings=embeddings, input_boxes=some[None], multimask_output=False)
                masks += [
                    self._enlarge(one, resized, size)[None].to(image.device) for one in answer.pred_masks[0, :, 0]
                ]
        return torch.cat(masks)

    def _segment(self, image: UInt8[Tensor, "3 h w"]) -> Int64[Tensor, "h w"]:
        height, width = image.shape[1:]
        pixels, resized = self._prepare(image)
        embeddings = self.model.get_image_embeddings(pixels)
        found = [
            self._decode(embeddings, points, resized)
            for points in self._points(resized).split(self.config.points_per_batch)
        ]
        logits, scores = (torch.cat(parts) for parts in zip(*found, strict=True))
        region = self._region(resized, logits.shape[-1])
        kept = suppress(logits[..., : region[0], : region[1]] > 0, scores, self.config.max_overlap)
        masks = [self._enlarge(one, resized, (height, width)) for one in logits[kept]]
        return merge(
            torch.stack(masks) if masks else image.new_zeros((0, height, width)).bool(), self.config.min_pixels
        )

    def _prepare(self, image: UInt8[Tensor, "3 h w"]) -> tuple[Float[Tensor, "1 3 s s"], tuple[int, int]]:
        """Scale the longer side to the model's size, normalise, and pad with zeros at the right and below."""
        scale = self.image_size / max(image.shape[1:])
        height, width = (max(1, int(side * scale + 0.5)) for side in image.shape[1:])
        small = functional.interpolate(
            image[None].float(), (height, width), mode="bilinear", antialias=True, align_corners=False
        )
        mean, std = (small.new_tensor(v)[:, None, None] for v in (_MEAN, _STD))
        normal = (small / 255.0 - mean) / std
        return functional.pad(normal, (0, self.image_size - width, 0, self.image_size - height)), (height, width)

    def _points(self, resized: tuple[int, int]) -> Float[Tensor, "p 2"]:
        """Return the grid's points (u, v) in the resized image, pixels."""
        side = (
            torch.arange(self.config.points_per_side, device=self.config.device) + 0.5
        ) / self.config.points_per_side
        v, u = torch.meshgrid(side * resized[0], side * resized[1], indexing="ij")
        return torch.stack([u, v], dim=-1).reshape(-1, 2)

    def _decode(
        self, embeddings: Tensor, points: Float[Tensor, "p 2"], resized: tuple[int, int]
    ) -> tuple[Float[Tensor, "k s s"], Float[Tensor, " k"]]:
        """Return the mask logits, at the decoder's resolution, and predicted IoU of the masks worth keeping."""
        answer = self.model(
            image_embeddings=embeddings,
            input_points=points[None, :, None],
            input_labels=torch.ones((1, len(points), 1), dtype=torch.long, device=points.device),
            multimask_output=True,
        )
        logits, scores = answer.pred_masks[0].flatten(0, 1), answer.iou_scores[0].flatten()
        rows, columns = self._region(resized, logits.shape[-1])
        seen, offset = logits[..., :rows, :columns], self.config.stability_offset
        sure, possible = ((seen > t).sum((1, 2)) for t in (offset, -offset))
        stability = sure / possible.clamp(min=1)
        kept = (scores >= self.config.min_predicted_iou) & (stability >= self.config.min_stability)
        kept &= (seen > 0).any(-1).any(-1)
        return logits[kept], scores[kept]

    def _region(self, resized: tuple[int, int], side: int) -> tuple[int, int]:
        """Return the rows and columns of a decoded mask that show the image rather than its padding."""
        rows, columns = (max(1, round(length * side / self.image_size)) for length in resized)
        return rows, columns

    def _enlarge(
        self, logits: Float[Tensor, "s s"], resized: tuple[int, int], size: tuple[int, int]
    ) -> Bool[Tensor, "h w"]:
        padded = functional.interpolate(
            logits[None, None], (self.image_size, self.image_size), mode="bilinear", align_corners=False
        )
        image = functional.interpolate(
            padded[..., : resized[0], : resized[1]], size, mode="bilinear", align_corners=False
        )
        return image[0, 0] > 0


def suppress(masks: Bool[Tensor, "k h w"], scores: Float[Tensor, " k"], max_overlap: float) -> Int64[Tensor, " m"]:
    """Return the masks to keep, best score first: those whose IoU with no better kept one is above `max_overlap`."""
    order = scores.argsort(descending=True, stable=True)
    flat = masks[order].flatten(1).float()
    areas = flat.sum(1)
    kept: list[int] = []
    for index in range(len(flat)):
        common = flat[kept] @ flat[index]
        union = areas[kept] + areas[index] - common
        if not bool((common > max_overlap * union).any()):
            kept.append(index)
    return order[kept]


def merge(masks: Bool[Tensor, "k h w"], min_pixels: int) -> Int64[Tensor, "h w"]:
    """Return one map of overlapping masks: each pixel belongs to the smallest mask that covers it.

    Ids run from 1 without gaps, larger masks first (the first of equal ones lies below); what then shows fewer than
    `min_pixels` pixels is 0.
    """
    areas = masks.flatten(1).sum(1)
    painted = torch.zeros(masks.shape[1:], dtype=torch.long, device=masks.device)
    for layer, index in enumerate(areas.argsort(descending=True, stable=True).tolist(), start=1):
        painted[masks[index]] = layer
    visible = painted.flatten().bincount(minlength=len(masks) + 1)
    stays = visible >= min_pixels
    stays &= visible > 0
    stays[0] = False
    return torch.where(stays, stays.cumsum(0), 0)[painted]
