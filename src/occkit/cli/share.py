"""Share a trained model on the Hugging Face hub, with a model card written from the run."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

HELP = """Share a run on the Hugging Face hub: recipe, weights, and a card with recipe, data, protocols and numbers.

--dry-run DIR writes the folder that would be uploaded and touches no network: look at it first. The card takes its
numbers from RUN/evaluation.json (occkit evaluate RUN --data ROOT --json RUN/evaluation.json), else from the best
validation. The token is that of HF_TOKEN or of `hf auth login`.
"""


@dataclass(frozen=True)
class Args:
    """See HELP."""

    run: tyro.conf.Positional[Path]
    """Run or model folder."""
    to: str
    """Where it shall lie, owner/name."""
    license: str | None = None
    """Licence of the weights, an identifier of the hub such as apache-2.0. Without it the card says that none is
    stated."""
    public: bool = False
    """Let everybody see a new repository; one that exists stays as it is."""
    evaluation: Path | None = None
    """JSON of `occkit evaluate` in place of RUN/evaluation.json."""
    half: bool = False
    """Share weights as float16, half as large; score the folder of --dry-run again, as they are rounded."""
    dry_run: Path | None = None
    """Write what would be uploaded to this new folder, and upload nothing."""
    code: Path | None = None
    """Your own recipe file, for a run whose classes come from it. Its code is run; it is not uploaded."""


def main(argv: list[str]) -> int:
    """Entry of `occkit share`."""
    args = tyro.cli(Args, args=argv, prog="occkit share", description=HELP)
    from occkit.training.hub import push_to_hub, write_shared_folder

    if args.license is None:
        print("no --license: the card says that none is stated, so nobody may use these weights", file=sys.stderr)
    if args.dry_run is not None:
        files = write_shared_folder(
            args.run,
            args.dry_run,
            repo_id=args.to,
            license=args.license,
            evaluation=args.evaluation,
            code=args.code,
            half=args.half,
        )
        for path in files:
            print(f"{path.stat().st_size:>12,}  {path}")
        print("nothing was uploaded; leave out --dry-run to do so")
        return 0
    address = push_to_hub(
        args.run,
        args.to,
        private=not args.public,
        license=args.license,
        evaluation=args.evaluation,
        code=args.code,
        half=args.half,
    )
    print(address)
    return 0
