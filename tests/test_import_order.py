"""Imports run downwards only; nothing is imported by star; heavy packages are imported when used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "occkit").rglob("*.py"))


def test_layers():
    """The order of DESIGN's layers, as import-linter reads it from pyproject.toml."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_no_star_and_no_unpickling(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"star import in {path}"
            assert node.module != "__future__", f"{path}: jaxtyping reads annotations when the module is imported"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            assert not {"pickle", "cloudpickle", "dill"} & set(names), f"{path} can unpickle"


OPTIONAL = ("transformers", "diffusers", "onnx", "onnxruntime", "ray", "triton")
KERNELS = "triton_kernels"
"""Files of kernels, which Triton decorates at the top: they import it, and are themselves imported inside functions."""


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_optional_packages_are_imported_inside_functions(path: Path):
    optional = set(OPTIONAL) - ({"triton"} if path.stem == KERNELS else set())
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        else:
            continue
        assert not {name.split(".")[0] for name in names} & optional, f"{path} imports {names} when it is imported"
        assert KERNELS not in {name.split(".")[-1] for name in names}, f"{path} imports kernels when it is imported"


def test_no_utility_drawers():
    names = {part for path in SOURCES for part in path.relative_to(ROOT).parts}
    assert not names & {"utils", "utils.py", "common", "common.py", "core", "core.py", "misc", "misc.py", "registry.py"}
