"""A scene as one file: a page and meshes."""

import base64
import re

import numpy as np
import pytest
import torch
import trimesh

from occkit.errors import ConfigError, DataError
from occkit.geometry import VoxelGrid
from occkit.samples import Occupancy
from occkit.taxonomy import OCC3D
from occkit.viewer.scene_files import write_mesh, write_scene_page
from occkit.viewer.show import Shown

GRID = VoxelGrid.from_range((-4, -4, -1), (4, 4, 3), 1.0)
CAR, ROAD = OCC3D.id_of("car"), OCC3D.id_of("driveable_surface")


@pytest.fixture
def street() -> Occupancy:
    semantics = torch.full(GRID.shape, OCC3D.free_id, dtype=torch.uint8)
    semantics[:, :, 0] = ROAD
    semantics[6:8, 1, 1] = CAR
    return Occupancy(semantics=semantics, grid=GRID, taxonomy=OCC3D)


def shown(volume, token="a"):
    return Shown(token=token, scene="s", volumes={"label": volume})


def test_meshes_have_the_axes_of_their_format_and_the_colours_of_the_classes(street, tmp_path):
    for name in ("street.ply", "street.glb"):
        count = write_mesh(tmp_path / name, street)
        mesh = trimesh.load(tmp_path / name, force="mesh", process=False)
        assert len(mesh.faces) == count
        assert mesh.volume == pytest.approx(66.0)
        car = mesh.vertices[(mesh.visual.vertex_colors[:, :3] == OCC3D.colours[CAR]).all(axis=1)]
        lower, upper = car.min(axis=0), car.max(axis=0)
        if name.endswith("ply"):  # x forward, y left, z up
            np.testing.assert_allclose((lower, upper), ((2, -3, 0), (4, -2, 1)))
        else:  # x left, y up, z forward
            np.testing.assert_allclose((lower, upper), ((-3, 0, 2), (-2, 1, 4)))


def test_no_mesh_of_nothing_and_of_no_other_format(street, tmp_path):
    with pytest.raises(ConfigError, match=r"\.glb or \.ply"):
        write_mesh(tmp_path / "street.obj", street)
    nothing = street.map(lambda s: torch.full_like(s, OCC3D.free_id))
    with pytest.raises(ConfigError, match="no occupied voxel"):
        write_mesh(tmp_path / "street.ply", nothing)
    assert list(tmp_path.iterdir()) == []


def test_a_page_holds_everything_and_fetches_nothing(street, tmp_path):
    path = tmp_path / "street.html"
    write_scene_page(path, [shown(street), shown(street, "b")], "label", title="<Main> street")
    page = path.read_text()
    assert "<title>&lt;Main&gt; street</title>" in page
    assert "driveable surface" in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    (data,) = re.findall(r'__VISER_EMBED_DATA__="([^"]+)"', page)
    assert len(base64.b64decode(data)) > 200
    with pytest.raises(DataError):
        write_scene_page(tmp_path / "street.html" / "x.html", [shown(street)], "label", title="t")
