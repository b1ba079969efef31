from typing import Any

import pytest
import torch
from torch import Tensor, nn

from occkit.errors import ConfigError, DataError
from occkit.geometry import Cameras, VoxelGrid
from occkit.samples import Batch, Occupancy, Prediction, Sample
from occkit.taxonomy import OCC3D
from occkit.training.evaluate import evaluate_model
from occkit.training.evaluate_depth import (
    evaluate_depth,
    evaluate_depth_prior,
    evaluate_model_and_depth,
    fit_depth_prior,
)

GRID = VoxelGrid.from_range((0, 0, 0), (2, 2, 2), 1.0)
CAMERAS = Cameras(
    intrinsics=torch.eye(3).expand(1, 2, 3, 3), ego_from_camera=torch.eye(4).expand(1, 2, 4, 4), height=3, width=4
)


class Frames:
    """Three frames whose measured depths are 2, 3 and 4 metres, each pixel a little more than the one before."""

    tokens = ("a", "b", "c")

    def __init__(self, *, measured: bool = True) -> None:
        self.measured = measured

    def __len__(self) -> int:
        return len(self.tokens)

    def sample(self, index: int, *, seed: int | None = None) -> Sample:
        depth = 2.0 + index + torch.arange(24.0).reshape(2, 3, 4) / 100
        return Sample(
            token=self.tokens[index],
            scene="s",
            timestamp=index,
            images=torch.zeros(1, 2, 3, 3, 4, dtype=torch.uint8),
            cameras=CAMERAS,
            camera_names=("left", "right"),
            grid=GRID,
            taxonomy=OCC3D,
            depth=depth if self.measured else None,
        )


class Labelled(Frames):
    """The same with labels: everything is free but one voxel."""

    def label(self, token: str) -> Occupancy:
        semantics = torch.full((2, 2, 2), 17, dtype=torch.uint8)
        semantics[0, 0, 0] = 4
        return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


class Renders(nn.Module):
    """Says what was measured, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.passes = 0

    def forward(self, batch: Batch) -> Prediction:
        self.passes += 1
        return Prediction(logits=torch.zeros(1, 18, 2, 2, 2), grid=batch.grid, taxonomy=batch.taxonomy)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        return {}

    def render_depth(self, prediction: Prediction, batch: Batch) -> Tensor:
        assert batch.depth is not None
        return batch.depth * self.factor


def frames(**options: Any) -> Any:
    return Frames(**options)


def test_rendered_depth_is_scored_frame_by_frame() -> None:
    report = evaluate_depth(Renders(1.1), frames()).report()
    assert report["abs_rel"] == pytest.approx(0.1, rel=1e-5)
    assert report["frames"] == 3
    assert evaluate_depth(Renders(1.0), frames()).report()["rmse"] == 0.0


def test_the_prior_stands_beside_it() -> None:
    prior = fit_depth_prior(frames())
    report = evaluate_depth_prior(prior, frames()).report()
    # The median frame is right to a centimetre or two, the others are a metre off.
    assert report["rmse"] == pytest.approx((2 / 3) ** 0.5, rel=0.02)


def test_a_model_that_renders_nothing_and_frames_without_lidar_are_named() -> None:
    with pytest.raises(ConfigError, match="Linear: renders no depth"):
        evaluate_depth(nn.Linear(1, 1), frames())
    with pytest.raises(DataError, match="a: this frame has no LiDAR"):
        evaluate_depth(Renders(1.0), frames(measured=False))
    with pytest.raises(DataError, match="a: this frame has no LiDAR"):
        fit_depth_prior(frames(measured=False))


def test_occupancy_and_depth_are_scored_together_as_they_are_apart() -> None:
    model = Renders(1.1)
    labelled: Any = Labelled()
    scores, depth = evaluate_model_and_depth(model, labelled, ("occ3d-full",))
    assert depth.report() == evaluate_depth(model, labelled).report()
    assert scores.report() == evaluate_model(model, labelled, ("occ3d-full",)).report()
    assert scores.report()["occ3d-full"]["frames"] == 3
    assert model.passes == 3 * 3
