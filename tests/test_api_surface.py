"""The public names. A name that vanishes or appears unnoticed fails here; the file beside this test is the record.

After a change that is meant: `OCCKIT_UPDATE_API=1 python -m pytest tests/test_api_surface.py`, and look at the diff.
"""

import importlib
import inspect
import json
import os
import pkgutil
from pathlib import Path

import pytest
import torch

import occkit
from occkit.geometry import transform_points

RECORD = Path(__file__).with_name("api_surface.json")


def public_names() -> dict[str, list[str]]:
    names = {}
    for module in pkgutil.walk_packages(occkit.__path__, "occkit."):
        if module.ispkg and not module.name.startswith("occkit.cli"):
            names[module.name] = sorted(getattr(importlib.import_module(module.name), "__all__", []))
    return names


def test_public_names_are_those_on_record():
    names = public_names()
    if os.environ.get("OCCKIT_UPDATE_API"):
        RECORD.write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    assert names == json.loads(RECORD.read_text(encoding="utf-8"))


def test_every_public_name_exists_and_has_a_docstring():
    for module, names in public_names().items():
        for name in names:
            value = getattr(importlib.import_module(module), name)
            ours = getattr(value, "__module__", "").startswith("occkit")  # an alias of types is not
            if ours and (inspect.isfunction(value) or inspect.isclass(value)):
                assert value.__doc__, f"{module}.{name} has no docstring"


def test_a_wrong_shape_is_caught():
    """The suite checks shapes while it runs (conftest.py); this proves that the check is alive."""
    with pytest.raises(Exception, match=r"(?i)type-check|violat"):
        transform_points(torch.eye(3), torch.zeros(5, 3))
