"""The engine on a Ray cluster, an existing one or one of this machine; Ray is imported when it is opened."""

import os
import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from occkit.engine.crew import Crew, Outcome, Stage, Work
from occkit.errors import ConfigError, OcckitError

_DEATHS_IN_A_ROW = 3
"""So many deaths for each worker and try, without one answer between them, end the run: it is not the task's doing."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class RayEngine:
    """Stateful workers as actors, other tasks wherever a core is free.

    A worker has one task at a time, so a death is blamed on the task that was being done: it is given to another
    worker, `tries` times in all, and then reported as lost.
    """

    workers: int | None = None
    """Workers of a stateful stage; None: one a GPU of the cluster, or one a core where there is no GPU."""
    address: str | None = None
    """`auto` or HOST:PORT of a running cluster, whose machines all see the same folders under the same paths; None
    starts one of this machine, which ends with the call."""
    tries: int = 3
    """How often a task is given out whose worker dies."""
    rest_seconds: float = 60.0
    """How long tasks that run may take to end when the run is given up."""

    def __post_init__(self) -> None:
        if (self.workers is not None and self.workers < 1) or self.tries < 1 or self.rest_seconds < 0:
            raise ConfigError(f"RayEngine: expected workers and tries >= 1, rest_seconds >= 0, got {self}")

    @contextmanager
    def open(self, stages: Sequence[Stage]) -> Generator[Crew, None, None]:
        """Join or start a cluster and return the crew. See `Engine.open`.

        Raises:
            ConfigError: if Ray is not installed, or no cluster answers at the address.
        """
        with ray_cluster(self.address) as ray:
            crew = _RayCrew(ray, self, stages)
            try:
                yield crew
            finally:
                crew.close()


@contextmanager
def ray_cluster(address: str | None = None, *, cores: int | None = None) -> Generator[Any, None, None]:
    """Join a cluster, or have one of this machine until the context is left; the one that is joined already stays.

    Args:
        address: as in `RayEngine`.
        cores: of a cluster of this machine; all by default.

    Returns:
        The module `ray`.

    Raises:
        ConfigError: if Ray is not installed, or no cluster answers at the address.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    _start(ray, address, cores)
    try:
        yield ray
    finally:
        ray.shutdown()


def _import_ray() -> Any:
    # Ray reports its usage to its makers unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "--engine ray needs Ray, which is not installed; pip install occkit[ray], or take --engine local"
        ) from error
    return ray


def _start(ray: Any, address: str | None, cores: int | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            # Ray's workers step back behind everything else of the machine, by 15; these are what it is there for.
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(address="local", num_cpus=cores, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = "one of this machine" if address is None else address
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"--engine ray: no cluster at {where} ({reason}); start one with `ray start --head` and give --address auto"
        ) from error


@dataclass(kw_only=True)
class _Job:
    """A task that somebody works on."""

    stage: str
    key: str
    task: Any
    worker: Any = None
    """The actor; None for a task of a stage without state."""
    deaths: int = 0
    """How many workers died of it."""


class _Actor:
    """A worker that stays. It is built at its first task, so that what goes wrong there is told as any other error."""

    def __init__(self, build: Callable[[], Work]) -> None:
        self._build = build
        self._work: Work | None = None

    def work(self, task: Any) -> Any:
        if self._work is None:
            self._work = self._build()
        return self._work(task)


_BUILT: dict[str, Work] = {}
"""In a process of Ray's: the workers that tasks without an actor have made there. Ray gives each run its own."""


def _work_anywhere(name: str, build: Callable[[], Work], task: Any) -> Any:
    if name not in _BUILT:
        _BUILT[name] = build()
    return _BUILT[name](task)


class _RayCrew:
    """See `RayEngine`."""

    def __init__(self, ray: Any, engine: RayEngine, stages: Sequence[Stage]) -> None:
        self._ray, self._engine = ray, engine
        self._stages = {stage.name: stage for stage in stages}
        self._names = {stage.name: f"{stage.name}-{uuid.uuid4().hex}" for stage in stages}
        self._builds = {stage.name: ray.put(stage.build) for stage in stages}
        resources: dict[str, float] = ray.cluster_resources()
        self._cores, self._gpus = max(1, int(resources.get("CPU", 1))), resources.get("GPU", 0.0)
        wants_gpu = self._gpus >= 1 and any(stage.gpu for stage in stages)
        self._workers = engine.workers or (int(self._gpus) if wants_gpu else self._cores)
        self._idle: dict[str, list[Any]] = {stage.name: [] for stage in stages}
        self._running: dict[Any, _Job] = {}
        self._deaths_in_a_row = 0
        self._work_anywhere = ray.remote(num_cpus=1, max_retries=0)(_work_anywhere)

    @property
    def ahead(self) -> int:
        return 2 * self._workers + self._cores

    def has_room(self, stage: str) -> bool:
        limit = self._workers if self._stages[stage].stateful else self._cores
        return sum(job.stage == stage for job in self._running.values()) < limit

    def submit(self, stage: str, key: str, task: Any) -> None:
        self._give(_Job(stage=stage, key=key, task=task))

    def next(self) -> Outcome:
        if not self._running:
            raise RuntimeError("next: no task was handed in")
        errors = self._ray.exceptions
        while True:
            ready: list[Any] = []
            while not ready:
                ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=_POLL_SECONDS)
            job = self._running.pop(ready[0])
            try:
                value = self._ray.get(ready[0])
            except errors.RayTaskError as error:
                # The worker is well, the work is not: a user's mistake is told as if it had happened here.
                self._rest(job)
                if isinstance(error.cause, OcckitError):
                    raise error.cause from error
                raise
            except (
                errors.RayActorError,
                errors.WorkerCrashedError,
                errors.OutOfMemoryError,
                errors.NodeDiedError,
                errors.LocalRayletDiedError,
            ) as error:
                lost = self._died(job, error)
                if lost is not None:
                    return lost
                continue
            except errors.RayError as error:
                raise OcckitError(f"the Ray cluster failed: {_line(error)}; give the command again to go on") from error
            self._deaths_in_a_row = 0
            self._rest(job)
            return Outcome(stage=job.stage, key=job.key, value=value)

    def close(self) -> None:
        """Let tasks that run come to their end, then dismiss the workers."""
        running = list(self._running)
        if running:
            _, stuck = self._ray.wait(running, num_returns=len(running), timeout=self._engine.rest_seconds)
            for reference in stuck:
                job = self._running[reference]
                if job.worker is None:
                    self._ray.cancel(reference, force=True)
                else:
                    self._ray.kill(job.worker)
        busy = [job.worker for job in self._running.values() if job.worker is not None]
        for actor in [*busy, *(actor for actors in self._idle.values() for actor in actors)]:
            self._ray.kill(actor)
        self._running.clear()

    def _give(self, job: _Job) -> None:
        build = self._builds[job.stage]
        if not self._stages[job.stage].stateful:
            self._running[self._work_anywhere.remote(self._names[job.stage], build, job.task)] = job
            return
        idle = self._idle[job.stage]
        job.worker = idle.pop() if idle else self._new_actor(job.stage)
        self._running[job.worker.work.remote(job.task)] = job

    def _new_actor(self, stage: str) -> Any:
        gpus = min(1.0, self._gpus / self._workers) if self._stages[stage].gpu else 0.0
        # A share such as 1/3 is cut off so that three fit.
        gpus = int(gpus * 1000) / 1000
        # No core is set aside: on a small machine nothing would be left for tasks without an actor.
        options = {"num_cpus": 0, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        return self._ray.remote(scheduling_strategy="SPREAD", **options)(_Actor).remote(self._builds[stage])

    def _rest(self, job: _Job) -> None:
        if job.worker is not None:
            self._idle[job.stage].append(job.worker)

    def _died(self, job: _Job, error: Exception) -> Outcome | None:
        """Give the task of a dead worker to another, or give it up."""
        if "creation task" in str(error):
            # Not a death: it was never made, for example because a machine lacks a module.
            raise OcckitError(f"a worker of stage {job.stage} cannot be made ({_line(error)})")
        job.deaths += 1
        job.worker = None
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row >= _DEATHS_IN_A_ROW * self._engine.tries * max(self._workers, self._cores):
            raise OcckitError(
                f"workers of stage {job.stage} die whatever they are given, {self._deaths_in_a_row} in a row "
                f"({_line(error)}); look into the logs of Ray, give the command again to go on"
            )
        if job.deaths < self._engine.tries:
            self._give(job)
            return None
        lost = f"its worker died {job.deaths} times ({type(error).__name__})"
        return Outcome(stage=job.stage, key=job.key, lost=lost)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) < 400 else f'{text[:150]} ... {text[-200:]}'}"
