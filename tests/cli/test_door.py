"""The dispatcher: help without torch, exit statuses, one-line reasons."""

import subprocess
import sys
from pathlib import Path

import pytest

from occkit import cli
from occkit.errors import DataError

COMMANDS = sorted(cli.COMMANDS)


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "occkit.cli", *argv], capture_output=True, text=True, check=False)


def test_every_command_has_a_file_and_every_file_a_command():
    files = {p.stem for p in Path(cli.__file__).parent.glob("*.py")} - {"__init__", "__main__"}
    assert files == set(COMMANDS)


def test_no_arguments_is_wrong_usage():
    done = run()
    assert done.returncode == 2
    assert "usage: occkit COMMAND" in done.stdout


def test_unknown_command_suggests():
    done = run("evalute")
    assert done.returncode == 2
    assert "did you mean 'evaluate'" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_import_torch(command: str):
    """Torch costs seconds to import; help must not wait for it."""
    code = (
        "import sys\nfrom occkit.cli import main\n"
        f"try:\n    main(['{command}', '--help'])\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "heavy = {'torch', 'numba', 'scipy', 'matplotlib', 'transformers', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert command in done.stdout


def test_import_of_the_package_is_light():
    code = "import sys, occkit; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_wrong_option_is_status_two(command: str):
    assert run(command, "--no-such-option", "1").returncode == 2


def test_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    from occkit.cli import bench

    def fail(argv: list[str]) -> int:
        raise DataError("some/file", "is broken", "mend it")

    monkeypatch.setattr(bench, "main", fail)
    assert cli.main(["bench"]) == 1
    assert capsys.readouterr().err == "occkit bench: some/file: is broken -- mend it\n"
