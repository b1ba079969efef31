"""Running a claim: every arm and seed in a fresh process, each kept as a JSON file, so that an interrupted run goes on.

What is kept and where is in `claim_results.py`, what a process does in `claim_arm.py`.
"""

import fcntl
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from typing import Any

from occkit.errors import DataError, OcckitError
from occkit.files import read_json, write_json
from occkit.training import claim_arm
from occkit.training.claim import PRIOR, Claim, Scores, World
from occkit.training.claim_results import (
    arm_recipe,
    finished_result,
    load_claim,
    log_path,
    world_folder,
    world_identity,
)
from occkit.training.recipe_json import recipe_to_json

KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
"""Lets glibc keep what a step gives back for the next: on a CPU the kernel, zeroing pages, takes up to a third else."""
MakeWorld = Callable[[World, int, Path], None]
"""Writes the world of a seed to a folder; handed in, because training does not know how worlds are made."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What all arms and seeds gave."""

    seeds: tuple[int, ...]
    """Training seeds, the columns of `scores`."""
    scores: Scores
    """Arm -> metric -> one number a seed."""
    recipes: dict[str, Any]
    """Arm -> recipe as JSON, with the first seed."""
    commit: str | None
    """Commit the numbers come from; several, if results of an earlier one were kept."""
    device: str
    """Device in words."""
    wall_s: float
    """Seconds that the arms took, added up."""
    cpu_s: float
    """Processor seconds of the arms, added up."""


def run_claim(
    system: str,
    out: Path,
    make_world: MakeWorld,
    *,
    seeds: Sequence[int],
    world_seed: int = 0,
    jobs: int = 1,
    processes: int = 1,
    report: Callable[[str], None] = print,
) -> Outcome:
    """Run all arms over all seeds; finished ones are kept as long as recipe, world and protocols stay the same.

    Args:
        system: as in `load_claim`.
        out: output folder.
        make_world: writes the world of a seed.
        seeds: training seeds; the world of seed s is made from `world_seed + s`.
        world_seed: see above.
        jobs: worlds and arms that are made at the same time.
        processes: processes of each arm, under torchrun if more than one.
        report: takes a line of text when an arm starts and when it has finished; never called by two threads at once.

    Raises:
        OcckitError: if an arm fails, with the end of its log.
        DataError: if another command is at work in `out`.
    """
    reporting = Lock()

    def in_turn(line: str) -> None:
        with reporting:
            report(line)

    with _alone_in(out):
        return _run(system, out, make_world, seeds, world_seed, jobs, processes, in_turn)


def run_logged(command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None) -> None:
    """Run a command of a claim, what it prints added to `log`.

    Should this process be killed, the command goes on, and keeps others out of the claim's folder as long as it does,
    because it inherits the lock.

    Raises:
        OcckitError: if it fails, with the end of the log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        ended = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, check=False, close_fds=False
        )
    if ended.returncode != 0:
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise OcckitError(f"failed ({' / '.join(tail)}); the whole log is {log}")


def run_commands(commands: Sequence[Sequence[str]], world: Path, seed: int) -> None:
    """Run commands of occkit on the world of a seed, each in a process of its own, through the same door as a user.

    What they print is kept beside the folder, because two worlds may be made at once.

    Args:
        commands: arguments of occkit, with {root} for the world's folder.
        world: that folder.
        seed: of the world.

    Raises:
        OcckitError: if a command fails; those after it are not run.
    """
    for command in commands:
        arguments = [part.replace("{root}", str(world)) for part in command]
        try:
            run_logged([sys.executable, "-m", "occkit.cli", *arguments], world.with_name(f"{seed}.txt"))
        except OcckitError as error:
            what = f"the world of seed {seed} could not be made: {shlex.join(['occkit', *arguments])}"
            raise OcckitError(f"{what}: {error}") from error


@contextmanager
def _alone_in(out: Path) -> Generator[None]:
    """Hold the folder's lock, together with every process that `run_logged` starts meanwhile."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            problem = "another occkit reproduce is at work here, or arms that one left behind when it was killed"
            raise DataError(out, problem, "wait until they have ended, stop them, or use another --out") from error
        yield


def _run(
    system: str,
    out: Path,
    make_world: MakeWorld,
    seeds: Sequence[int],
    world_seed: int,
    jobs: int,
    processes: int,
    report: Callable[[str], None],
) -> Outcome:
    claim = load_claim(system)
    # Teachers first, then the arms that nobody teaches; students wait for the teacher of their seed alone. Without a
    # teacher seed follows seed, so that nobody waits for the world of the last while there is work on the first.
    first = set[str]() if claim.lesson is None else {PRIOR, claim.lesson.teacher}
    arms = sorted((PRIOR, *claim.arms), key=lambda arm: (arm not in first, *_turn(claim, arm)))
    work = [(arm, seed) for group in (arms[: len(first)], arms[len(first) :]) for seed in seeds for arm in group]
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))

    def world(seed: int) -> None:
        if any(finished_result(claim, arm, seed, world_seed, out) is None for arm in (PRIOR, *claim.arms)):
            _world(claim.world, world_seed + seed, out, make_world)
            run_commands(claim.commands, world_folder(out, world_seed + seed), world_seed + seed)

    def one(item: tuple[str, int]) -> dict[str, Any]:
        arm, seed = item
        if failed.is_set():
            raise CancelledError
        worlds[seed].result()
        if claim.lesson is not None and arm not in first and _is_taught(claim, arm):
            running[claim.lesson.teacher, seed].result()
        for name in (*claim.starts.get(arm, ()), *claim.judges(arm)):
            running[name, seed].result()
        kept, note = finished_result(claim, arm, seed, world_seed, out), ""
        if kept is not None:
            # Recipes, worlds and protocols are compared, the code behind them is not.
            note = f"  kept, of commit {kept['commit']}"
        else:
            report(f"{arm:>24}  seed {seed}  running; log {log_path(out, arm, seed)}")
            try:
                _spawn([system, arm, str(seed), str(world_seed), str(out)], arm, seed, out, processes, threads)
            except OcckitError:
                failed.set()
                raise
            kept = finished_result(claim, arm, seed, world_seed, out)
        if kept is None:
            raise OcckitError(f"arm {arm}, seed {seed}: ended without a result; see {log_path(out, arm, seed)}")
        report(f"{arm:>24}  seed {seed}  {kept['wall_s']:7.0f} s  {_headline(kept['scores'])}{note}")
        return kept

    failed = Event()
    pool = ThreadPoolExecutor(jobs)
    running: dict[tuple[str, int], Future[dict[str, Any]]] = {}
    # First in the queue, so that no arm takes the place of the world it waits for.
    worlds = {seed: pool.submit(world, seed) for seed in seeds}
    try:
        for item in work:
            running[item] = pool.submit(one, item)
        results = {item: run.result() for item, run in running.items()}
    finally:
        # After a failure or Ctrl-C no further arm may start; `failed` stops the one that a thread turns to meanwhile.
        pool.shutdown(cancel_futures=True)
    return _outcome(claim, seeds, results)


def _turn(claim: Claim, arm: str) -> tuple[int, bool]:
    """Return what decides when an arm's turn comes: nobody waits for one that comes later."""
    if arm == PRIOR:
        return 0, False
    return max([claim.start_depth(arm), *(1 + claim.start_depth(n) for n in claim.judges(arm))]), _is_taught(claim, arm)


def _is_taught(claim: Claim, arm: str) -> bool:
    data = claim.arms[arm]().data
    return data.teaching is not None or data.segments is not None


def _world(world: World, seed: int, out: Path, make_world: MakeWorld) -> None:
    """Make the world of a seed unless it is there; it appears whole, by a rename."""
    folder, marker = world_folder(out, seed), out / "worlds" / f"{seed}.json"
    wanted = world_identity(world, seed)
    if folder.is_dir() and marker.is_file() and read_json(marker) == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    partial = folder.with_name(f"{seed}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make_world(world, seed, partial)
    if not partial.is_dir():
        raise DataError(partial, "the world was not written", "run occkit world by hand to see why")
    partial.rename(folder)
    write_json(marker, wanted)


def _spawn(arguments: list[str], arm: str, seed: int, out: Path, processes: int, threads: int) -> None:
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    try:
        run_logged(
            [*launcher, claim_arm.__name__, *arguments],
            log_path(out, arm, seed),
            environment={**KEEP_MEMORY, **os.environ, "OMP_NUM_THREADS": str(threads)},
        )
    except OcckitError as error:
        raise OcckitError(f"arm {arm}, seed {seed}: {error}") from error


def _outcome(claim: Claim, seeds: Sequence[int], results: dict[tuple[str, int], dict[str, Any]]) -> Outcome:
    found = {arm: [results[arm, seed]["scores"] for seed in seeds] for arm in (PRIOR, *claim.arms)}
    found |= {row: [results[PRIOR, seed]["rows"][row] for seed in seeds] for row in claim.reports}
    scores: dict[str, dict[str, list[float]]] = {}
    for arm, of_arm in found.items():
        # A class that some seed's world lacks has no number there, and so none in the card.
        common = [metric for metric in of_arm[0] if all(metric in other for other in of_arm)]
        scores[arm] = {metric: [other[metric] for other in of_arm] for metric in common}
    commits = {c for result in results.values() if result["commit"] is not None for c in result["commit"].split(", ")}
    return Outcome(
        seeds=tuple(seeds),
        scores=scores,
        recipes={arm: recipe_to_json(arm_recipe(claim, arm, seeds[0]))["recipe"] for arm in claim.arms},
        commit=", ".join(sorted(commits)) or None,
        device=", ".join(sorted({str(result["device"]) for result in results.values()})),
        wall_s=sum(float(result["wall_s"]) for result in results.values()),
        cpu_s=sum(float(result["cpu_s"]) for result in results.values()),
    )


def _headline(scores: dict[str, float]) -> str:
    named = [f"{name} {100 * value:.2f} %" for name, value in scores.items() if name.endswith((".miou", ".rayiou"))]
    return "  ".join(named)
