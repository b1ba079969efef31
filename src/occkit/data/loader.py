"""Batches in a fixed order: the frames of a step follow from (seed, step) alone, so resuming is asking for step s."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from math import floor

import numpy as np
import numpy.typing as npt
import torch

from occkit.data.frames import FrameDataset
from occkit.errors import ConfigError
from occkit.samples import Batch, Sample, collate

_AHEAD = 2
"""Batches prepared beyond those the workers are busy with."""


@lru_cache(maxsize=4)
def _permutation(num_frames: int, *key: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(key).permutation(num_frames)


def _deal(position: int, num_frames: int, *key: int) -> int:
    """Return the frame at a position of an endless sequence of epochs, each a permutation drawn from the key."""
    epoch, offset = divmod(position, num_frames)
    return int(_permutation(num_frames, *key, epoch)[offset])


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Two groups of frames that take turns, so that a small one is not lost among many."""

    first: tuple[int, ...]
    """Frames of one group."""
    second: tuple[int, ...]
    """Frames of the other; not needed if the share is 1."""
    share: float
    """Share of the first group in what is dealt: 0.5 alternates, 1 deals nothing else."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or not self.first or (self.share < 1 and not self.second):
            sizes = f"{len(self.first)} and {len(self.second)} frames"
            raise ConfigError(
                f"Turns: the share must lie in (0, 1], of groups that are not empty: {self.share} of {sizes}"
            )

    def at(self, position: int, seed: int) -> int:
        """Return the frame at a position of the endless sequence."""
        dealt = floor(position * self.share)
        if floor((position + 1) * self.share) > dealt:
            return self.first[_deal(dealt, len(self.first), seed, 1)]
        return self.second[_deal(position - dealt, len(self.second), seed, 2)]


def _check(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


def _positions(batch_size: int, step: int, rank: int, world_size: int) -> range:
    _check(batch_size=batch_size, world_size=world_size)
    if not 0 <= rank < world_size or step < 0:
        raise ValueError(f"expected 0 <= rank < world_size and step >= 0, got {rank}, {world_size}, {step}")
    start = (step * world_size + rank) * batch_size
    return range(start, start + batch_size)


def batch_indices(
    num_frames: int,
    *,
    batch_size: int,
    step: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    turns: Turns | None = None,
) -> list[int]:
    """Return the frames of one process's batch at one step.

    Frames are dealt from an endless sequence of epochs, each a permutation drawn from (seed, epoch). Step s takes the
    next `batch_size * world_size` of them, rank r the r-th part: at each step, a world of 2 with batches of 4 sees what
    one process with batches of 8 sees. An epoch's end may fall inside a batch.

    Args:
        num_frames: frames in the data set.
        batch_size: frames for each process.
        step: from 0, over the whole training.
        seed: of the order.
        rank: this process.
        world_size: number of processes.
        turns: deal two groups of frames in turns, each from epochs of its own.

    Raises:
        ValueError: if a count is below 1 or rank is not in the world.
    """
    _check(num_frames=num_frames)
    positions = _positions(batch_size, step, rank, world_size)
    if turns is None:
        return [_deal(position, num_frames, seed) for position in positions]
    return [turns.at(position, seed) for position in positions]


def evaluation_indices(num_frames: int, rank: int = 0, world_size: int = 1) -> list[int]:
    """Return the frames that one process evaluates: every `world_size`-th, padded from the start to equal length.

    Padding repeats a frame; the metrics count a token once.
    """
    _positions(1, 0, rank, world_size)
    if num_frames == 0:
        return []
    share = -(-num_frames // world_size)
    return [(rank + k * world_size) % num_frames for k in range(share)]


def iterate_batches(
    dataset: FrameDataset,
    *,
    batch_size: int,
    start_step: int,
    steps: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    turns: Turns | None = None,
    num_workers: int = 2,
) -> Iterator[Batch]:
    """Yield the training batches of steps `start_step` to `start_step + steps - 1`, prepared ahead by threads.

    The frames, their order and their augmentation follow from (seed, step, rank) and not from the number of workers.

    Args:
        dataset: opened with `training=True` if its augmentation is wanted.
        batch_size: frames for each process.
        start_step: first step.
        steps: number of batches.
        seed: of order and augmentation.
        rank: this process.
        world_size: number of processes.
        turns: as in `batch_indices`.
        num_workers: threads that read and decode; 0 reads in the calling thread.

    Raises:
        DataError: when a file of a frame is damaged.
    """

    def jobs() -> Iterator[list[tuple[int, int | None]]]:
        for step in range(start_step, start_step + steps):
            where = {"batch_size": batch_size, "step": step, "rank": rank, "world_size": world_size}
            indices = batch_indices(len(dataset), seed=seed, turns=turns, **where)
            yield [(i, _mix(seed, p)) for i, p in zip(indices, _positions(**where), strict=True)]

    return _run(dataset, jobs(), num_workers)


def iterate_evaluation(
    dataset: FrameDataset, *, batch_size: int, indices: Iterable[int] | None = None, num_workers: int = 2
) -> Iterator[Batch]:
    """Yield batches of the given frames in order (all frames by default), never augmented; the last may be smaller."""
    _check(batch_size=batch_size)
    order = list(range(len(dataset)) if indices is None else indices)
    chunks = (order[k : k + batch_size] for k in range(0, len(order), batch_size))
    return _run(dataset, ([(i, None) for i in chunk] for chunk in chunks), num_workers)


def _mix(seed: int, position: int) -> int:
    return int(np.random.SeedSequence((seed, position)).generate_state(1, np.uint64)[0])


def _run(dataset: FrameDataset, jobs: Iterator[Sequence[tuple[int, int | None]]], num_workers: int) -> Iterator[Batch]:
    if num_workers == 0:
        for job in jobs:
            yield collate([dataset.sample(index, seed=seed) for index, seed in job])
        return
    # Threads, not processes: decoding and unpacking release the interpreter lock, and nothing has to be copied.
    pool = _pool(num_workers)
    waiting: deque[list[Future[Sample]]] = deque()
    try:
        for job in jobs:
            waiting.append([pool.submit(dataset.sample, index, seed=seed) for index, seed in job])
            if len(waiting) > num_workers + _AHEAD:
                yield collate([future.result() for future in waiting.popleft()])
        while waiting:
            yield collate([future.result() for future in waiting.popleft()])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _pool(num_workers: int) -> ThreadPoolExecutor:
    """Return a pool whose threads compute on one core each.

    Otherwise every one of them brings a team as large as the machine: more threads than cores, which then sleep and
    wake at each small operation of the training, whose steps took half as long again.
    """
    started = threading.Barrier(num_workers + 1)

    def start() -> None:
        torch.get_num_threads()  # makes torch take note of this thread, which would undo the next line later
        torch.set_num_threads(1)
        started.wait()

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="occkit-loader", initializer=start)
    for _ in range(num_workers):
        pool.submit(int)
    started.wait()
    # The number is each thread's own, but a thread that starts later takes the one set last.
    torch.set_num_threads(threads)
    return pool
