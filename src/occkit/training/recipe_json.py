"""Recipes as JSON: the archive of a run, not its source.

Every dataclass is an object whose "type" says which: `occkit.training.optim.Cosine` for one of ours, `file.py:Head` for
one from the user's own recipe file. Reading makes nothing but dataclasses, and only three sorts of them: those that the
type hint of the field names, those defined inside occkit, and those of the file that the caller passes.
"""

import dataclasses
import importlib
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from occkit.errors import ConfigError
from occkit.training.recipe import Recipe, load_file

FORMAT = 1
"""Version of the archive; counted up when old files can no longer be read."""


def recipe_to_json(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON values.

    Raises:
        ConfigError: if a field holds something other than dataclasses, tuples, strings, numbers, booleans and None.
    """
    return {"format": FORMAT, "recipe": to_json(recipe)}


def recipe_from_json(data: Mapping[str, Any], *, code: Path | None = None) -> Recipe:
    """Return the recipe that `recipe_to_json` wrote.

    Args:
        data: what the JSON file holds.
        code: the user's own file, if the recipe's classes come from one. It is run, so pass only what you trust.

    Raises:
        ConfigError: naming the field that is unknown, missing or of the wrong type, or the file that must be passed.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise ConfigError(f"recipe: expected an object with format {FORMAT}; was it written by another version?")
    return cast(Recipe, from_json(data.get("recipe"), Recipe, where="recipe", code=code))


def as_of_today(data: Any) -> Any:
    """Return what `recipe_to_json` once wrote with the fields that came into recipes since, at their defaults.

    What cannot be read, such as a recipe of a user's own file, is returned as it is.
    """
    try:
        return recipe_to_json(recipe_from_json(data))
    except ConfigError:
        return data


def to_json(value: object, where: str = "recipe") -> Any:
    """Return a value of a recipe as JSON values; `where` names it in errors."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value)}
        return {"type": type_name(type(value))} | fields
    if isinstance(value, tuple):
        return [to_json(item, f"{where}[{i}]") for i, item in enumerate(cast(tuple[object, ...], value))]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ConfigError(
        f"{where}: a {type(value).__name__} cannot be archived; use frozen dataclasses, tuples, strings and numbers"
    )


def from_json(value: Any, hint: Any, *, where: str, code: Path | None = None) -> Any:
    """Return the value that `to_json` wrote, checked against the type hint of its field."""
    if isinstance(value, dict):
        return _dataclass(cast(dict[str, Any], value), hint, where, code)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for member in arguments:
            try:
                return from_json(value, member, where=where, code=code)
            except ConfigError:
                continue
        raise _wrong(where, hint, value)
    if origin is Literal:
        matches = [choice for choice in arguments if choice == value and type(choice) is type(value)]
        if not matches:
            raise _wrong(where, hint, value)
        return matches[0]
    if origin is tuple:
        return _tuple(value, arguments, hint, where, code)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint in (None, types.NoneType) and value is None:
        return None
    if hint in (bool, int, str) and type(value) is hint:
        return value
    raise _wrong(where, hint, value)


def type_name(cls: type) -> str:
    """Return the name of a class in an archive: `occkit.module.Class`, or `file.py:Class` for one from elsewhere."""
    if cls.__module__.startswith("occkit."):
        return f"{cls.__module__}.{cls.__qualname__}"
    file = getattr(sys.modules.get(cls.__module__), "__file__", None) or f"{cls.__module__}.py"
    return f"{Path(file).name}:{cls.__qualname__}"


def _dataclass(value: dict[str, Any], hint: Any, where: str, code: Path | None) -> Any:
    name = value.get("type")
    if not isinstance(name, str):
        raise _wrong(where, hint, value)
    cls = _find_class(name, hint, where, code)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    unknown = value.keys() - fields.keys() - {"type"}
    missing = [n for n, f in fields.items() if n not in value and _has_no_default(f)]
    if unknown or missing:
        raise ConfigError(f"{where} ({name}): unknown fields {sorted(unknown)}, missing fields {missing}")
    hints = typing.get_type_hints(cls)
    arguments = {n: from_json(v, hints[n], where=f"{where}.{n}", code=code) for n, v in value.items() if n != "type"}
    return cls(**arguments)


def _find_class(name: str, hint: Any, where: str, code: Path | None) -> type:
    """Return the dataclass called `name` if it is one of the three sorts that may be made, and fits the hint."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    classes = [m for m in members if isinstance(m, type)]
    found: Any = next((m for m in classes if dataclasses.is_dataclass(m) and type_name(m) == name), None)
    module, colon, attribute = name.rpartition(":")
    if found is None and colon:
        if code is None or code.name != module:
            raise ConfigError(f"{where}: {attribute} is defined in {module}; pass that file if you trust its code")
        found = getattr(load_file(code), attribute, None)
    elif found is None and name.startswith("occkit.") and all(part.isidentifier() for part in name.split(".")):
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ModuleNotFoundError as error:
            raise ConfigError(f"{where}: there is no {name} in this version of occkit") from error
    if not isinstance(found, type) or not dataclasses.is_dataclass(found) or type_name(found) != name:
        raise ConfigError(f"{where}: {name!r} is not a dataclass of occkit or of the file that was passed")
    if not issubclass(found, tuple(classes)):
        raise _wrong(where, hint, name)
    return found


def _tuple(value: Any, arguments: tuple[Any, ...], hint: Any, where: str, code: Path | None) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _wrong(where, hint, value)
    items = cast(list[Any], value)
    hints = [arguments[0]] * len(items) if arguments[-1:] == (Ellipsis,) else list(arguments)
    if len(hints) != len(items):
        raise _wrong(where, hint, items)
    return tuple(
        from_json(v, h, where=f"{where}[{i}]", code=code) for i, (v, h) in enumerate(zip(items, hints, strict=True))
    )


def _has_no_default(field: "dataclasses.Field[Any]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _wrong(where: str, hint: Any, value: object) -> ConfigError:
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    return ConfigError(f"{where}: expected {expected}, got {str(value)[:80]!r}")
