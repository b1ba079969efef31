"""A scene as one file: a page that opens without a server or a network, and meshes for other programs."""

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from occkit.errors import ConfigError
from occkit.files import write_bytes
from occkit.samples import Occupancy
from occkit.viewer.boxes import Cut, outer_surface
from occkit.viewer.keys import legend_html
from occkit.viewer.server import place_first_camera, serve, stop
from occkit.viewer.show import Shown
from occkit.viewer.stage import Stage

SECONDS_A_FRAME = 0.8
"""How long each of several frames is shown."""
MESH_ENDINGS = (".glb", ".ply")
"""Of the files that `write_mesh` writes."""


def write_scene_page(path: Path, frames: Sequence[Shown], name: str, *, title: str) -> None:
    """Write frames as one self-contained HTML file with everything inside, whole or not at all.

    Of several frames the page plays one after another. What is shown is switched on and off in its tree of the scene.

    Args:
        path: the file.
        frames: at least one.
        name: the volume to show of each; of a frame without it, its first one.
        title: of the page.

    Raises:
        ConfigError: if no port of this machine is free: the page is made by a server that ends at once.
        DataError: if the file cannot be written.
    """
    volumes = [frame.volumes.get(name) or next(iter(frame.volumes.values())) for frame in frames]
    server = serve("127.0.0.1", 0, label=title)
    try:
        stage = Stage(server.scene)
        place_first_camera(server, volumes[0].grid)
        _put(stage, frames[0], volumes[0])
        recording = server.get_scene_serializer()
        for frame, volume in zip(frames[1:], volumes[1:], strict=True):
            recording.insert_sleep(SECONDS_A_FRAME)
            _put(stage, frame, volume)
        if len(frames) > 1:
            recording.insert_sleep(SECONDS_A_FRAME)
        page = recording.as_html()
    finally:
        stop(server)
    write_bytes(path, _with_key(page, volumes, title).encode())


def _put(stage: Stage, shown: Shown, volume: Occupancy) -> None:
    stage.put_volume(volume)
    stage.put_cameras(shown.sample, size=1.2, visible=True)
    stage.put_car(shown.ego)


def _with_key(page: str, volumes: Sequence[Occupancy], title: str) -> str:
    """Return the page with a title and the classes of the first volume in a corner."""
    style = (
        "position:fixed;left:12px;bottom:12px;max-height:80vh;overflow:auto;min-width:11rem;z-index:10;"
        "font-family:system-ui,sans-serif;background:rgba(255,255,255,.85);border-radius:8px;padding:.4rem .2rem"
    )
    heading = f'<b style="font-size:.85em;padding:0 .8em">{html.escape(title)}</b>'
    key = f'<div style="{style}">{heading}{legend_html(volumes[0])}</div>'
    named = page.replace("<title>Viser</title>", f"<title>{html.escape(title)}</title>", 1)
    body, end = named.rsplit("</body>", 1)
    return f"{body}{key}</body>{end}"


def write_mesh(path: Path, occupancy: Occupancy, *, cut: Cut | None = None) -> int:
    """Write the visible sides of a volume's voxels as a mesh with colours, `.glb` or `.ply`, whole or not at all.

    Metres, in the frame of the grid: x forward, y left, z up. A `.glb` has the axes of its format: x left, y up, z
    forward.

    Args:
        path: the file; its ending says the format.
        occupancy: `[x, y, z]`, one volume.
        cut: leave out what lies above this plane.

    Returns:
        The number of triangles.

    Raises:
        ConfigError: if the ending is another, or nothing is left to be written.
        DataError: if the file cannot be written.
    """
    import trimesh

    kind = path.suffix.lower()
    if kind not in MESH_ENDINGS:
        raise ConfigError(f"{path}: expected a name that ends in {' or '.join(MESH_ENDINGS)}")
    surface = outer_surface(occupancy, cut=cut)
    if not len(surface.faces):
        raise ConfigError(f"{path}: there is no occupied voxel to write")
    vertices = surface.vertices
    if kind == ".glb":
        vertices = vertices[:, [1, 2, 0]]  # glTF: x left, y up, z forward
    colours = np.concatenate(
        [occupancy.taxonomy.palette()[surface.ids], np.full((len(vertices), 1), 255, np.uint8)], axis=1
    )
    mesh = trimesh.Trimesh(vertices, surface.faces, vertex_colors=colours, process=False)
    data = mesh.export(file_type=kind[1:])
    assert isinstance(data, bytes)
    write_bytes(path, data)
    return len(surface.faces)
