"""What an engine is, and the plain one: every task in this process, one after the other."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

Work = Callable[[Any], Any]
"""What a worker does with a task; task and answer must be picklable, and small: what is large goes through files."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A kind of work: how its workers are made and what they need."""

    name: str
    """What tasks of this kind are called."""
    build: Callable[[], Work]
    """Makes a worker, in the process that will do the work and when the first task comes; picklable for Ray."""
    stateful: bool
    """Workers are dear to make, because they hold models, and stay: there are as many as the engine is told. Else any
    free core does a task."""
    gpu: bool = False
    """Workers want a GPU, where there is one."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a task."""

    stage: str
    """Its stage."""
    key: str
    """Its name, as `Crew.submit` was told."""
    value: Any = None
    """What the worker answered."""
    lost: str | None = None
    """Why nobody answered: every worker that was asked died. None if there is an answer."""


class Crew(Protocol):
    """Workers that are there while an engine is open."""

    @property
    def ahead(self) -> int:
        """How many pieces of work should be open at once, so that nobody waits and little lies about."""
        ...

    def has_room(self, stage: str) -> bool:
        """Say whether a task of a stage would be taken up soon; who submits more builds a heap."""
        ...

    def submit(self, stage: str, key: str, task: Any) -> None:
        """Hand in a task."""
        ...

    def next(self) -> Outcome:
        """Wait until any task ends.

        Raises:
            RuntimeError: if there is none.
            OcckitError: if the workers cannot go on; and whatever the work itself raises.
        """
        ...


class Engine(Protocol):
    """Makes a crew for some stages."""

    def open(self, stages: Sequence[Stage]) -> AbstractContextManager[Crew]:
        """Return the crew; when the context is left, tasks that run come to their end and the rest is forgotten.

        Raises:
            ConfigError: if the engine cannot be had.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class LocalEngine:
    """Every task in this process, one after the other, in the order in which they were handed in."""

    @contextmanager
    def open(self, stages: Sequence[Stage]) -> Generator[Crew, None, None]:
        """Return the crew. See `Engine.open`."""
        yield _LocalCrew(stages)


class _LocalCrew:
    """See `LocalEngine`. A task is done when its outcome is asked for."""

    ahead = 1

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = {stage.name: stage for stage in stages}
        self._workers: dict[str, Work] = {}
        self._waiting: deque[tuple[str, str, Any]] = deque()

    def has_room(self, stage: str) -> bool:
        return not self._waiting

    def submit(self, stage: str, key: str, task: Any) -> None:
        self._waiting.append((stage, key, task))

    def next(self) -> Outcome:
        if not self._waiting:
            raise RuntimeError("next: no task was handed in")
        stage, key, task = self._waiting.popleft()
        if stage not in self._workers:
            self._workers[stage] = self._stages[stage].build()
        return Outcome(stage=stage, key=key, value=self._workers[stage](task))


def run_all(crew: Crew, stage: str, tasks: Iterable[tuple[str, Any]]) -> Iterator[Outcome]:
    """Yield the outcomes of independent tasks as they come; no more are handed in than there is room for.

    Args:
        crew: of an open engine.
        stage: which.
        tasks: key and task of each.
    """
    running = 0
    waiting = iter(tasks)
    following = next(waiting, None)
    while following is not None or running:
        while following is not None and crew.has_room(stage):
            crew.submit(stage, *following)
            running += 1
            following = next(waiting, None)
        yield crew.next()
        running -= 1
