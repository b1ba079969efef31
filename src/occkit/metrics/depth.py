"""Depth metrics: how far a depth image is from sparse measured depth, as the depth literature counts it.

Sums and counts are kept for each image, so that every average below follows from one pass, and frames which several
processes evaluated are found out when their states are merged.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from occkit.metrics.voxel_iou import Scores

DELTAS = (1.25, 1.25**2, 1.25**3)
"""Ratios within which a prediction counts as right."""

DepthAverage = Literal["cameras", "pixels", "images"]
"""`cameras`: all pixels of a camera, then the mean over cameras; `pixels`: all pixels alike; `images`: each image, then
the mean over those of a camera, then over cameras."""

Statistics = tuple[float, ...]
"""Of one image: pixels, the sums of the four errors as under their means, and the pixels within each ratio."""


class DepthEvaluator:
    """Counts frames one by one, each token once, and scores the sum of all.

    Over the pixels with `near < truth d* < far` and the prediction d clamped to `[near, far]`:
    abs_rel = mean |d - d*| / d*, sq_rel = mean (d - d*)^2 / d*, rmse = sqrt(mean (d - d*)^2),
    rmse_log = sqrt(mean (ln d - ln d*)^2), delta_k = share of max(d / d*, d* / d) < 1.25^k.

    Example:
        >>> evaluator = DepthEvaluator()
        >>> truth = torch.tensor([[[10.0, 20.0, 0.0]]])
        >>> evaluator.add("frame", torch.tensor([[[11.0, 40.0, 5.0]]]), truth)
        >>> evaluator.report()["abs_rel"], evaluator.report()["delta_1"]
        (0.55, 0.5)

    Source: Eigen et al., "Depth map prediction from a single image", NIPS 2014; limits of Zhang et al. 2023 (OccNeRF),
    without median scaling.
    """

    def __init__(self, *, near: float = 0.1, far: float = 80.0) -> None:
        """Choose which true depths count, metres.

        Raises:
            ValueError: unless 0 < near < far.
        """
        if not 0 < near < far:
            raise ValueError(f"near, far: expected 0 < near < far, got {near} and {far}")
        self._limits = (near, far)
        self._frames: dict[str, tuple[Statistics, ...]] = {}

    def __len__(self) -> int:
        """Return the number of frames added."""
        return len(self._frames)

    def add(self, token: str, prediction: Float[Tensor, "n h w"], truth: Float[Tensor, "n h w"]) -> None:
        """Count the images of one frame; a token that comes again is ignored.

        Args:
            token: its name.
            prediction: z-depth of each camera, metres, at the pixels of `truth`.
            truth: measured z-depth, metres; 0 where unknown.

        Raises:
            ValueError: naming the token, if shapes or the number of cameras disagree, or the prediction is not a number
                where it counts.
        """
        if token in self._frames:
            return
        if prediction.ndim != 3 or prediction.shape != truth.shape:
            raise ValueError(
                f"depth of {token}: expected [cameras, height, width] like the truth {tuple(truth.shape)}, got "
                f"{tuple(prediction.shape)}"
            )
        self._check_cameras(token, len(truth))
        near, far = self._limits
        counted = (truth > near) & (truth < far)
        if bool(prediction[counted].isnan().any()):
            raise ValueError(f"depth of {token}: the prediction is not a number where the truth is known")
        clamped = prediction.clamp(near, far)
        self._frames[token] = tuple(_statistics(*image) for image in zip(clamped, truth, counted, strict=True))

    def state(self) -> dict[str, object]:
        """Return everything counted so far as plain JSON values, for a file or another process."""
        frames = {token: [list(image) for image in images] for token, images in self._frames.items()}
        return {"limits": list(self._limits), "frames": frames}

    def merge(self, state: Mapping[str, object]) -> None:
        """Add the frames of another evaluator's `state` that are not here yet.

        Raises:
            ValueError: if it was made with other limits, or its frames have another number of cameras.
        """
        limits, frames = state.get("limits"), state.get("frames")
        if limits != list(self._limits):
            raise ValueError(f"merge: limits are {list(self._limits)} here and {limits} there; both must be the same")
        if not isinstance(frames, Mapping):
            raise ValueError(f"merge: expected `frames` to map tokens to images, got {type(frames).__name__}")
        for token, images in frames.items():
            self._check_cameras(token, len(images))
            self._frames.setdefault(token, tuple(tuple(float(value) for value in image) for image in images))

    def report(self, *, average: DepthAverage = "cameras") -> dict[str, object]:
        """Return the scores, those of each camera, and what they were counted on.

        What is added up over frames is rounded once, so that neither order nor number of processes matters.

        Args:
            average: see `DepthAverage`. Published scripts differ here, and rmse most of all: say it with the figures.

        Returns:
            abs_rel, sq_rel and rmse (metres), rmse_log, delta_1 .. delta_3 (fractions 0..1), None without a pixel to
            count; `per_camera`, a list of the same; `average`, `limits` in metres, `pixels` and `frames`.

        Raises:
            ValueError: if no frame was added or the average is unknown.
        """
        if average not in get_args(DepthAverage):
            raise ValueError(f"average: expected one of {', '.join(get_args(DepthAverage))}, got {average!r}")
        if not self._frames:
            raise ValueError("depth evaluation: no frame was added, so there is nothing to score")
        cameras = list(zip(*self._frames.values(), strict=True))
        pooled = [_pool(images) for images in cameras]
        if average == "images":
            per_camera = [_mean_scores([_scores(image) for image in images]) for images in cameras]
        else:
            per_camera = [_scores(statistics) for statistics in pooled]
        everything = _pool(pooled)
        scores = _scores(everything) if average == "pixels" else _mean_scores(per_camera)
        return {
            **scores,
            "per_camera": per_camera,
            "average": average,
            "limits": list(self._limits),
            "pixels": int(everything[0]),
            "frames": len(self._frames),
        }

    def _check_cameras(self, token: str, count: int) -> None:
        known = len(next(iter(self._frames.values()), ()))
        if self._frames and count != known:
            raise ValueError(f"depth of {token}: has {count} cameras, the frames before had {known}")


def _statistics(
    prediction: Float[Tensor, "h w"], truth: Float[Tensor, "h w"], counted: Bool[Tensor, "h w"]
) -> Statistics:
    d, true = prediction[counted].double(), truth[counted].double()
    error, log_error = (d - true).square(), (d.log() - true.log()).square()
    ratio = torch.maximum(d / true, true / d)
    sums = [(d - true).abs() / true, error / true, error, log_error, *(ratio < limit for limit in DELTAS)]
    return (float(len(d)), *(float(values.sum()) for values in sums))


def _pool(images: Sequence[Statistics]) -> Statistics:
    return tuple(math.fsum(values) for values in zip(*images, strict=True))


def _scores(statistics: Statistics) -> Scores:
    pixels, abs_rel, sq_rel, error, log_error, *within = statistics
    sums = {"abs_rel": abs_rel, "sq_rel": sq_rel, "rmse": error, "rmse_log": log_error}
    sums |= {f"delta_{k}": count for k, count in enumerate(within, start=1)}
    if not pixels:
        return dict.fromkeys(sums)
    return {name: math.sqrt(s / pixels) if name.startswith("rmse") else s / pixels for name, s in sums.items()}


def _mean_scores(scores: Sequence[Scores]) -> Scores:
    present = {name: [value for entry in scores if (value := entry[name]) is not None] for name in scores[0]}
    return {name: math.fsum(values) / len(values) if values else None for name, values in present.items()}
