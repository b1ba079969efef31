"""A labeller that looks at nothing."""

import json

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import OneClassLabellerConfig
from occkit.taxonomy import OCC3D, SEMANTICKITTI


def test_every_pixel_is_the_class():
    labeller = OneClassLabellerConfig().build()
    found = labeller.label(torch.zeros((2, 3, 4, 6), dtype=torch.uint8), token="t", cameras=("a", "b"))
    assert found.shape == (2, 4, 6)
    assert found.dtype == torch.uint8
    assert found.unique().tolist() == [OCC3D.id_of("others")]
    assert labeller.taxonomy is OCC3D
    assert json.dumps(labeller.description)
    other = OneClassLabellerConfig(name="building", taxonomy="semantickitti").build()
    found = other.label(torch.zeros((1, 3, 4, 6), dtype=torch.uint8), token="t", cameras=("a",))
    assert found.unique().tolist() == [SEMANTICKITTI.id_of("building")]
    assert other.description != labeller.description


def test_what_is_no_class_is_refused():
    with pytest.raises(ConfigError, match="class 'house' is none of occ3d: others, barrier"):
        OneClassLabellerConfig(name="house")
    with pytest.raises(ConfigError, match="class 'free'"):
        OneClassLabellerConfig(name="free")
    with pytest.raises(ConfigError, match="taxonomy 'mine' is none of"):
        OneClassLabellerConfig(taxonomy="mine")
    images = torch.zeros((2, 3, 4, 6), dtype=torch.uint8)
    with pytest.raises(ValueError, match="name of its own"):
        OneClassLabellerConfig().build().label(images, token="t", cameras=("a", "a"))
