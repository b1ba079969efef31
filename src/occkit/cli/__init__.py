"""DOOR: the command line, one file a command.

Only this table is read for `occkit --help`; a command's module is imported when it is called, and torch when it runs.
"""

import difflib
import importlib
import os
import sys

from occkit import __version__
from occkit.errors import OcckitError

COMMANDS: dict[str, str] = {
    "demo": "world -> train -> evaluate -> pictures and a report page: the first five minutes",
    "world": "write a procedural data set in a real data set's layout",
    "doctor": "say what a data set folder is, and what is missing or wrong in it",
    "train": "train a recipe on a data set",
    "teach": "write what a trained teacher says about a data set, for students to learn from",
    "features": "write what a vision-language model sees in a data set's images, to learn from",
    "look": "write what models see in the images: depth maps, classes, segmentation features",
    "label": "write labels made from images alone, by a depth model and a labeller",
    "evaluate": "score a run or a folder of predictions under any number of named protocols",
    "predict": "write one labelled volume a frame, from a data set or from your own cameras",
    "query": "ask the voxels of an open-vocabulary run for words: which are found, and where",
    "generate": "draw scenes from text: images of every camera, and the occupancy that belongs to them",
    "view": "look at labels, predictions, runs and worlds in a browser, or as one file",
    "draw": "figures for a paper: frames side by side, training curves, claim cards",
    "share": "put a trained model on the Hugging Face hub, with a model card written from the run",
    "export": "write a run as ONNX that needs neither torch nor occkit, and a parity report beside it",
    "convert": "carry labels from one data set's format to another's",
    "reproduce": "run a system's claim, arms against baselines, and write its claim card",
    "bench": "run the benchmarks, each with the plain form beside it",
}
"""Command -> what it does. Each is `occkit/cli/<command>.py` with `main(argv) -> int`."""


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"occkit {__version__}: cameras in, labelled 3D occupancy out",
            "",
            "usage: occkit COMMAND [options]        (occkit COMMAND --help for its options)",
            "",
            *lines,
            "",
            "exit status: 0 done, 1 failed (with the reason), 2 wrong usage",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        The exit status: 0 done, 1 failed with a one-line reason, 2 wrong usage. With `OCCKIT_TRACEBACK=1` in the
        environment a failure raises instead.
    """
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        print("occkit: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has gone (`occkit --help | head`): say nothing, at the interpreter's exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"occkit {__version__}")
        return 0
    command = argv[0]
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        print(f"occkit: no command {command!r}{hint} (occkit --help lists them)", file=sys.stderr)
        return 2
    try:
        return importlib.import_module(f"occkit.cli.{command}").main(argv[1:])
    except BrokenPipeError:
        raise
    except (OcckitError, ValueError, OSError) as error:
        if os.environ.get("OCCKIT_TRACEBACK"):
            raise
        print(f"occkit {command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
