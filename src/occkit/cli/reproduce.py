"""Run a system's claim, arms against baselines, and write its claim card."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from occkit.errors import ConfigError

if TYPE_CHECKING:
    from occkit.training.claim import World

HELP = """Run a system's claim: its arms, over several seeds, each on its own generated world, compared in pairs.

Writes <system>.json (the claim card), .md and .png. What is finished is kept: the same command goes on after a stop.
What is kept must have the same recipe, world and protocols; after a change to code behind them take another --out.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    system: tyro.conf.Positional[str]
    """Name of a system, such as lift, or a FILE.py with a function claim(); another claim is radocc.effects."""
    quick: bool = False
    """The claim's short form, with fewer arms and steps: that of `<system>.quick` (occscene has one)."""
    seeds: int | None = None
    """Number of seeds; the claim's own number by default."""
    world_seed: int = 0
    """Seed s trains on the world of seed world_seed + s."""
    out: Path | None = None
    """Output folder; runs/reproduce-<system> by default."""
    jobs: int = 1
    """Worlds and arms that are made at the same time."""
    processes: int = 1
    """Processes of each arm, under torchrun."""


def main(argv: list[str]) -> int:
    """Entry of `occkit reproduce`."""
    args = tyro.cli(Args, args=argv, prog="occkit reproduce", description=HELP)
    for name, value in (("seeds", args.seeds), ("jobs", args.jobs), ("processes", args.processes)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}: expected at least 1, got {value}")
    from occkit.training.claim_card import write_card
    from occkit.training.claim_results import load_claim
    from occkit.training.claim_run import run_claim

    system = args.system
    if args.quick:
        system += "_quick" if "." in system else ".quick"
    claim = load_claim(system)
    out = args.out or Path("runs") / f"reproduce-{claim.system}"
    seeds = range(claim.seeds if args.seeds is None else args.seeds)
    outcome = run_claim(
        system,
        out,
        _make_world,
        seeds=seeds,
        world_seed=args.world_seed,
        jobs=args.jobs,
        processes=args.processes,
    )
    card = write_card(claim, outcome, out, command=shlex.join(["occkit", "reproduce", *argv]))
    print(f"\n{claim.sentence}")
    for line in card["pass_lines"]:
        interval = line["interval"]
        shown = "one seed, no interval" if interval is None else f"[{interval[0]:.4f}, {interval[1]:.4f}]"
        value = "no value" if line["value"] is None else f"{line['value']:.4f}"
        print(f"  {'holds' if line['met'] else 'FAILS'}  {line['statement']}: {value} {shown}")
    print(f"card: {out / claim.system}.json")
    return 0


def _make_world(world: "World", seed: int, folder: Path) -> None:
    """Write a world and what else is asked for."""
    from occkit.training.claim_run import run_commands

    generate = ("world", "--format", world.format, "--preset", world.preset, "--scenes", str(world.scenes))
    generate += ("--seed", str(seed), "--out", "{root}", *world.options)
    log = folder.with_name(f"{seed}.txt")
    log.unlink(missing_ok=True)
    print(f"world of seed {seed} is being made; log {log}", flush=True)
    run_commands((generate, *world.commands), folder, seed)
