from dataclasses import replace

import pytest
import torch

from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D, SEMANTICKITTI
from occkit.viewer import ERRORS, OBSERVED, error_counts, error_volume, observed_volume

GRID = VoxelGrid.from_range((0, 0, 0), (6, 1, 1), 1.0)


def row(*ids, **masks):
    def line(values, kind):
        return torch.tensor(values, dtype=kind).reshape(GRID.shape)

    return Occupancy(
        semantics=line(ids, torch.uint8),
        grid=GRID,
        taxonomy=OCC3D,
        **{name: line(values, torch.bool) for name, values in masks.items()},
    )


def names(occupancy):
    return [occupancy.taxonomy.classes[i] for i in occupancy.semantics.flatten().tolist()]


def test_every_kind_of_error():
    label = row(4, 4, 4, 17, 17, 255)
    errors = error_volume(row(4, 7, 17, 4, 17, 4), label)
    assert names(errors) == ["right", "wrong class", "missed", "false", "free", "free"]
    assert error_counts(errors) == {"right": 1, "false": 1, "missed": 1, "wrong class": 1}


def test_only_observed_voxels_count_unless_asked_otherwise():
    label = row(4, 4, 4, 17, 17, 17, mask_camera=[1, 0, 1, 0, 1, 1])
    prediction = row(4, 7, 17, 4, 17, 4)
    assert names(error_volume(prediction, label)) == ["right", "free", "missed", "free", "free", "false"]
    assert names(error_volume(prediction, label, masked=False))[1] == "wrong class"


def test_volumes_must_be_alike():
    other = replace(row(17, 17, 17, 17, 17, 17), taxonomy=SEMANTICKITTI)
    with pytest.raises(ValueError, match="semantickitti"):
        error_volume(other, row(17, 17, 17, 17, 17, 17))


def test_who_observed_what():
    label = row(4, 4, 4, 4, 17, 17, mask_camera=[1, 1, 0, 0, 1, 0], mask_lidar=[1, 0, 1, 0, 1, 0])
    assert names(observed_volume(label)) == [
        "camera and LiDAR",
        "camera only",
        "LiDAR only",
        "not observed",
        "free",
        "free",
    ]
    assert names(observed_volume(row(4, 17, 17, 17, 17, 17)))[0] == "not observed"


def test_tables_are_sound():
    for taxonomy in (ERRORS, OBSERVED):
        assert taxonomy.classes[taxonomy.free_id] == "free"
