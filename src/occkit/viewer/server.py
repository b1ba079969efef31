"""Starting viser quietly, on an address of one's choice, and where its pages look from at first."""

import contextlib
import math
import socket
from collections.abc import Generator
from typing import Any

import rich
import viser

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid


def serve(host: str, port: int, *, label: str) -> viser.ViserServer:
    """Start a server; it says nothing itself.

    Raises:
        ConfigError: if the port is taken, or the address is not this machine's.
    """
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            port = probe.getsockname()[1]
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror}); give another --port or --host") from None
    with _silence():
        return viser.ViserServer(host=host, port=port, label=label, verbose=False)


def stop(server: viser.ViserServer) -> None:
    """End a server, quietly."""
    with _silence():
        server.stop()


@contextlib.contextmanager
def _silence() -> Generator[None]:
    """Keep the library's own greeting off the terminal."""
    say: Any = rich.print
    rich.print = lambda *_, **__: None
    try:
        yield
    finally:
        rich.print = say


def eye_and_target(
    grid: VoxelGrid, *, above: bool = False
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return a place that shows all of a volume, from behind or from above, and the place to look at, metres."""
    lower, upper = grid.origin, grid.upper
    middle = [(a + b) / 2 for a, b in zip(lower, upper, strict=True)]
    side = max(upper[0] - lower[0], upper[1] - lower[1])
    if above:
        return (middle[0] - 0.01 * side, middle[1], lower[2] + 1.15 * side), (middle[0], middle[1], lower[2])
    eye = (lower[0] - 0.30 * side, middle[1] - 0.25 * side, lower[2] + 0.55 * side)
    return eye, (middle[0] - 0.05 * side, middle[1], lower[2])


def place_first_camera(server: viser.ViserServer, grid: VoxelGrid) -> None:
    """Let pages open with all of a volume in sight."""
    camera = server.initial_camera
    camera.up = (0.0, 0.0, 1.0)
    camera.position, camera.look_at = eye_and_target(grid)
    camera.fov = math.radians(50)
