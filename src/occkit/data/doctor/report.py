"""What the doctor found: findings in plain words, each with its file and its remedy."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from occkit.errors import DataError

Level = Literal["error", "warning", "info"]
_LEVELS = get_args(Level)
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is worth knowing about a data set."""

    level: Level
    """error: results would be wrong or a reader would stop; warning: something is missing or odd; info: good to
    know."""
    path: str
    """File or folder concerned; the first where there are several."""
    problem: str
    """What is wrong; with the first names where several files have it."""
    remedy: str
    """What to do about it."""
    count: int
    """How many files have it."""


@dataclass(kw_only=True)
class Report:
    """All findings about one path; the same fault of many files is one finding."""

    path: str
    """What was examined."""
    kind: str = "unknown"
    """What it is."""
    checked: dict[str, int] = field(default_factory=dict)
    """How many of what were looked at."""
    faults: dict[tuple[Level, str, str], list[str]] = field(default_factory=dict)
    """(level, problem, remedy) -> the files that have it, in the order they were found."""

    @property
    def findings(self) -> list[Finding]:
        """What was found, errors first."""
        found = []
        for (level, problem, remedy), paths in sorted(self.faults.items(), key=lambda item: _LEVELS.index(item[0][0])):
            if len(paths) > 1:
                more = f", and {len(paths) - 3:,} more" if len(paths) > 3 else ""
                problem = f"{len(paths):,} x {problem}: {', '.join(paths[:3])}{more}"
            found.append(Finding(level=level, path=paths[0], problem=problem, remedy=remedy, count=len(paths)))
        return found

    @property
    def healthy(self) -> bool:
        """Whether there is no error; warnings are allowed."""
        return not any(level == "error" for level, _, _ in self.faults)

    def add(self, level: Level, path: object, problem: str, remedy: str = "") -> None:
        """Note a fault of a file."""
        self.faults.setdefault((level, problem, remedy), []).append(str(path))

    def add_many(self, level: Level, paths: Iterable[object], problem: str, remedy: str = "") -> None:
        """Note the same fault of many files; no files, no finding."""
        for path in paths:
            self.add(level, path, problem, remedy)

    def attempt(self, read: Callable[[], T]) -> T | None:
        """Return what `read` returns; a `DataError` becomes an error finding, and None."""
        try:
            return read()
        except DataError as error:
            self.add("error", error.path, error.problem, error.remedy)
            return None

    def count(self, what: str, number: int = 1) -> None:
        """Count something that was looked at."""
        self.checked[what] = self.checked.get(what, 0) + number

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "path": self.path,
            "kind": self.kind,
            "healthy": self.healthy,
            "checked": self.checked,
            "findings": [asdict(finding) for finding in self.findings],
        }


def choose(items: list[T], limit: int | None) -> list[T]:
    """Return at most `limit` items, spread evenly; all where `limit` is None."""
    if limit is None or len(items) <= limit:
        return items
    return [items[i * len(items) // limit] for i in range(limit)]


def relative(path: Path, root: Path) -> str:
    """Return a path below `root` without it, for shorter findings."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
