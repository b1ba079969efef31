"""The engine that a user names."""

from typing import Literal

from occkit.engine.crew import Engine, LocalEngine
from occkit.engine.on_ray import RayEngine
from occkit.errors import ConfigError


def choose_engine(name: Literal["local", "ray"], *, workers: int | None = None, address: str | None = None) -> Engine:
    """Return the engine of a command line.

    Args:
        name: this process, or a Ray cluster.
        workers: as in `RayEngine`.
        address: as in `RayEngine`.

    Raises:
        ConfigError: if workers or an address are given to an engine that has none.
    """
    if name == "ray":
        return RayEngine(workers=workers, address=address)
    if workers is not None or address is not None:
        raise ConfigError("--workers and --address go with --engine ray; --engine local is one process")
    return LocalEngine()
