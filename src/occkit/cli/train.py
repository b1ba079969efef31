"""Train a recipe on a data set."""

from dataclasses import dataclass
from pathlib import Path

import tyro

HELP = """Train a recipe on a data set, alone or under torchrun, and write a run folder.

RECIPE is SYSTEM.FUNCTION, such as lift.nano, or path/to/file.py:FUNCTION. Any field of the recipe can be overridden by
its name, such as --optim.lr 1e-4 or --steps 500; `occkit train RECIPE --help` lists the fields with their values.

Several processes: torchrun --standalone --nproc-per-node 2 -m occkit.cli train RECIPE --data ROOT --out RUN
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    recipe: tyro.conf.Positional[str]
    """SYSTEM.FUNCTION, or path/to/file.py:FUNCTION."""
    data: Path
    """Data set folder."""
    out: Path
    """Run folder to write; new or empty unless --resume."""
    resume: bool = False
    """Go on with a run that was stopped; the recipe and overrides must be the same."""


def main(argv: list[str]) -> int:
    """Entry of `occkit train`."""
    if len(argv) > 1 and not argv[0].startswith("-") and {"-h", "--help"} & set(argv):
        return _recipe_help(argv[0])
    args, overrides = tyro.cli(Args, args=argv, prog="occkit train", description=HELP, return_unknown_args=True)
    from occkit.training.loop import train
    from occkit.training.processes import process_state
    from occkit.training.recipe import load_recipe, override

    recipe = override(load_recipe(args.recipe), overrides, prog=f"occkit train {args.recipe}")
    result = train(recipe, args.data, args.out, resume=args.resume)
    if not process_state().is_main_process:
        return 0 if result.finished else 1
    if not result.finished:
        command = f"occkit train {' '.join(argv)}" + ("" if args.resume else " --resume")
        print(f"stopped after step {result.step} of {recipe.steps}; its state is written. Go on with:\n  {command}")
        return 1
    best = "" if result.best_score is None else f", best {recipe.protocols[0]} {100 * result.best_score:.2f} %"
    print(f"trained {recipe.name}, {result.step} steps{best}: {args.out}")
    return 0


def _recipe_help(name: str) -> int:
    """Print the recipe's own fields; importing it takes torch, which the plain help does without."""
    from occkit.training.recipe import load_recipe, override

    print(f"options of every recipe: occkit train --help. Fields of {name}:", flush=True)
    try:
        override(load_recipe(name), ["--help"], prog=f"occkit train {name}")
    except SystemExit as end:
        return int(end.code or 0)
    return 0
