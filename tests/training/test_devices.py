"""Where guests run: every part of one goes to the device that the user names."""

from dataclasses import dataclass

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import GroundedSamConfig, OneClassLabellerConfig, SamSegmenterConfig, TransformersDepthConfig
from occkit.foundation.detection import GroundingDinoDetectorConfig
from occkit.foundation.weights import on_device
from occkit.training.processes import build_on, chosen_device, process_device


@dataclass(frozen=True, kw_only=True)
class Guest:
    device: str = "cpu"

    def build(self) -> str:
        return f"on {self.device}"


def test_every_part_of_a_guest_moves_and_nothing_else_changes() -> None:
    config = GroundedSamConfig(
        detector=GroundingDinoDetectorConfig(weights="d", box_threshold=0.3), sam=SamSegmenterConfig(weights="s")
    )
    moved = on_device(config, "cuda:1")
    assert (moved.detector.device, moved.sam.device) == ("cuda:1", "cuda:1")
    assert on_device(moved, "cpu") == config
    assert on_device(TransformersDepthConfig(weights="d"), "cuda").device == "cuda"
    alone = OneClassLabellerConfig()
    assert on_device(alone, "cuda") is alone


def test_guests_are_built_where_they_are_told_to() -> None:
    assert build_on(Guest(), "meta") == "on meta"
    assert build_on(Guest(), None) == f"on {process_device()}"


def test_a_device_that_is_not_there_is_named() -> None:
    wrong = ["nonsense", "cuda:99"] if torch.cuda.is_available() else ["nonsense", "cuda"]
    for name in wrong:
        with pytest.raises(ConfigError, match=f"--device {name}: cannot be used"):
            chosen_device(name)
