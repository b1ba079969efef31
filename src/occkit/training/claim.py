"""What a system claims, as typed values, and the arithmetic that decides whether it holds.

A system's file declares `def claim() -> Claim`. Each arm is trained once a seed; a seed has its own generated world,
which all arms share, so that arms are compared in pairs. A line of a claim holds when its whole 95 % interval does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

from scipy import stats

from occkit.errors import ConfigError
from occkit.training.evaluate_generation import Judging
from occkit.training.recipe import RecipeFunction

PRIOR = "prior"
"""Name of the arm that every claim has without asking: the constant prior, fit on the world's training labels."""

LineKind = Literal["difference", "ratio", "score"]
"""What the value of a line is."""

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Arm -> metric -> one number a seed."""


@dataclass(frozen=True, kw_only=True)
class PassLine:
    """One line of a claim and what the runs say about it, as in the claim card."""

    name: str
    """Short name."""
    kind: LineKind
    """What the value is."""
    metric: str
    """Of which metric."""
    arm: str
    """Of which arm."""
    baseline: str | None
    """The arm it is compared with; None of a score."""
    statement: str
    """The line in words."""
    value: float | None
    """Mean over the seeds; None if a number is missing."""
    interval: tuple[float, float] | None
    """95 % interval of the mean; None with fewer than two seeds."""
    threshold: float
    """What the interval is held against."""
    met: bool
    """True if the whole interval is on the right side of the threshold."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """`arm - baseline` in a metric, paired over the seeds, lies above `threshold`.

    A threshold below 0 says "not worse by more than that".
    """

    kind: ClassVar[LineKind] = "difference"
    """What its value is."""

    arm: str
    """Name of an arm."""
    baseline: str
    """Name of the arm it is compared with, or "prior"."""
    metric: str
    """Such as "occ3d.miou", "rayiou.rayiou" or "occ3d.per_class.car"; fractions, 0..1."""
    threshold: float = 0.0
    """What the interval must lie above."""
    name: str = ""
    """Short name; made of arm, baseline and metric by default."""

    def values(self, scores: Scores) -> list[float]:
        """Return one difference a seed."""
        return [a - b for a, b in _pairs(scores, self.arm, self.baseline, self.metric)]

    def statement(self) -> str:
        """Return the line in words."""
        if self.threshold < 0:
            return f"{self.metric} of {self.arm} is at most {-self.threshold:g} below that of {self.baseline}"
        margin = f" by more than {self.threshold:g}" if self.threshold else ""
        return f"{self.metric} of {self.arm} exceeds that of {self.baseline}{margin}"


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """`arm / baseline` in a metric, paired over the seeds, lies above `threshold`."""

    kind: ClassVar[LineKind] = "ratio"
    """What its value is."""

    arm: str
    """Name of an arm."""
    baseline: str
    """Name of the arm it is compared with, or "prior"."""
    metric: str
    """As in `Difference`."""
    threshold: float = 1.0
    """What the interval must lie above."""
    name: str = ""
    """Short name; made of arm, baseline and metric by default."""

    def values(self, scores: Scores) -> list[float]:
        """Return one ratio a seed; infinite where the baseline scores nothing."""
        pairs = _pairs(scores, self.arm, self.baseline, self.metric)
        return [a / b if b else math.inf for a, b in pairs]

    def statement(self) -> str:
        """Return the line in words."""
        return f"{self.metric} of {self.arm} is more than {self.threshold:g} times that of {self.baseline}"


@dataclass(frozen=True, kw_only=True)
class AtLeast:
    """A metric of an arm lies above `threshold`."""

    kind: ClassVar[LineKind] = "score"
    """What its value is."""

    arm: str
    """Name of an arm."""
    metric: str
    """As in `Difference`."""
    threshold: float
    """What the interval must lie above."""
    name: str = ""
    """Short name; made of arm and metric by default."""

    def values(self, scores: Scores) -> list[float]:
        """Return one score a seed."""
        return list(_scores(scores, self.arm, self.metric))

    def statement(self) -> str:
        """Return the line in words."""
        return f"{self.metric} of {self.arm} is more than {self.threshold:g}"


Line = Difference | Ratio | AtLeast
"""The kinds of lines there are."""


@dataclass(frozen=True, kw_only=True)
class World:
    """The generated data set of one seed; a new world for every seed."""

    format: str = "nuscenes"
    """Layout, as in `occkit world --format`."""
    preset: str = "nano"
    """Size and rig, as in `occkit world --preset`."""
    scenes: int = 10
    """Number of scenes; the generator decides which of them are the validation split."""
    options: tuple[str, ...] = ()
    """Further arguments of `occkit world`, such as ("--frames", "20")."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Commands of occkit to run on it, with {root} for its folder: ("label", "--data", "{root}", ...)."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One arm is the teacher of the others: it is trained first, and what it says about the world is written there."""

    teacher: str
    """Name of the arm."""
    folder: str
    """Where its outputs go, below the world's folder: `DataConfig.teaching` of the students."""
    features: bool = False
    """Keep its voxel features too."""
    segments: Mapping[str, Literal["simulated", "perfect"]] = field(default_factory=dict[str, Any])
    """Where segments of the images go, below the world's folder (`DataConfig.segments`), and how good they are."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a system says of itself, and the runs that show it or do not."""

    system: str
    """Name of the system; also of the card's files."""
    sentence: str
    """The claim in one sentence."""
    arms: Mapping[str, RecipeFunction]
    """Name of each arm and the function that makes its recipe; the seed of the recipe is replaced."""
    lines: tuple[Line, ...]
    """What must hold."""
    protocols: tuple[str, ...] = ("occ3d", "rayiou")
    """Protocols the trained arms are evaluated under; they decide which metrics there are."""
    world: World = World()
    """The data of one seed."""
    commands: tuple[tuple[str, ...], ...] = ()
    """Further commands of this claim alone, as those of a world, on a world that other claims of the system share: each
    writes a folder of its own, `--out {root}/...`, and finds out by itself what is done already."""
    lesson: Lesson | None = None
    """Who teaches; None if every arm learns by itself."""
    starts: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, Any])
    """Arm -> the arms whose last weights it starts from (`Recipe.start`), of the same seed; they are trained first."""
    depth: bool = False
    """Also score the depth that arms render, and that of a constant prior, against the LiDAR: `depth.abs_rel`, ..."""
    reports: Mapping[str, str] = field(default_factory=dict)
    """Name -> JSON file of scores below the world, which a command of the world writes (`occkit label --json`): a row
    beside the arms, which lines may name."""
    retrieval: bool = False
    """Also score how arms that answer to words find the LiDAR points of a generated world's rare things, beside a
    ranking that tells nothing apart as the prior's: `retrieval.langocc.map`, `retrieval.pop3d.map_visible`, ..., and
    `retrieval.image_features.langocc.map` where the features of the validation split are stored."""
    visibility: bool = False
    """Also score arms on SemanticKITTI apart: `visible.miou`, `occluded.miou`, `outside.miou`, ..."""
    judging: Judging | None = None
    """Also judge what arms draw that draw at all: `drawn.kernel`, `drawn.words`, `drawn.consistency`, ...; `told.*` of
    drawings for labels."""
    threshold_frames: int | None = None
    """Choose the threshold of arms that have one (`HasThreshold`) by the IoU on so many labelled frames of the training
    split, under the first protocol: one density for all would suit some arm best. None takes the recipes'."""
    val_frames: int | None = None
    """Frames of the validation split that are scored, evenly spread; None for all."""
    seeds: int = 5
    """How many seeds unless the command line says otherwise; with fewer than two no line can hold."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError(f"claim of {self.system}: seeds must be at least 1, got {self.seeds}")
        for name in ("val_frames", "threshold_frames"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ConfigError(f"claim of {self.system}: {name} must be at least 1, got {count}")
        for command in self.commands:
            if not any(pair[0] == "--out" and pair[1].startswith("{root}/") for pair in pairwise(command)):
                raise ConfigError(f"claim of {self.system}: the command {command} must write to --out {{root}}/...")
        known = {*self.arms, *self.reports, PRIOR}
        if set(self.arms) & set(self.reports):
            raise ConfigError(f"claim of {self.system}: {set(self.arms) & set(self.reports)} are both arms and reports")
        if PRIOR in {*self.arms, *self.reports}:
            raise ConfigError(f"claim of {self.system}: no arm may be called {PRIOR!r}, which is the constant prior")
        for arm, earlier in self.starts.items():
            unknown = {arm, *earlier} - set(self.arms)
            if unknown or (self.lesson is not None and arm == self.lesson.teacher):
                raise ConfigError(
                    f"claim of {self.system}: starts names {unknown or 'the teacher'}; arms start from arms"
                )
        for arm in self.arms:
            self.start_depth(arm)
        if self.judging is not None and self.judging.reader not in self.arms:
            raise ConfigError(f"claim of {self.system}: the reader {self.judging.reader!r} is none of the arms")
        if self.judging is not None and not set(self.judging.arms) <= set(self.arms) - {self.judging.reader}:
            raise ConfigError(f"claim of {self.system}: judging names arms that there are not, or the reader itself")
        if self.judging is not None and not set(self.judging.told) <= set(self.judging.arms):
            raise ConfigError(f"claim of {self.system}: only arms that are judged can be told labels")
        if self.lesson is not None and self.lesson.teacher not in self.arms:
            raise ConfigError(f"claim of {self.system}: the teacher {self.lesson.teacher!r} is none of the arms")
        for line in self.lines:
            named = {line.arm} if isinstance(line, AtLeast) else {line.arm, line.baseline}
            if not named <= known:
                raise ConfigError(f"claim of {self.system}: a line names {named - known}; the arms are {sorted(known)}")

    def judges(self, arm: str) -> tuple[str, ...]:
        """Return the arms that must be trained before the drawings of an arm can be judged."""
        return () if self.judging is None or arm not in self.judging.arms else (self.judging.reader,)

    def start_depth(self, arm: str, *, above: tuple[str, ...] = ()) -> int:
        """Return how many trainings lie before an arm's own.

        Raises:
            ConfigError: if arms start from each other in a circle.
        """
        if arm in above:
            raise ConfigError(f"claim of {self.system}: {' -> '.join((*above, arm))} start from each other")
        before = [self.start_depth(name, above=(*above, arm)) for name in self.starts.get(arm, ())]
        return 1 + max(before) if before else 0


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> tuple[float, tuple[float, float] | None]:
    r"""Return the mean and its two-sided Student interval `m +- t_{(1+c)/2, n-1} s / sqrt(n)`.

    Returns:
        mean: of the values.
        interval: (low, high); None with fewer than two values or values that are not finite.
    """
    n = len(values)
    mean = sum(values) / n
    if n < 2 or not math.isfinite(mean):
        return mean, None
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return mean, (mean - half, mean + half)


def judge(line: Line, scores: Scores) -> PassLine:
    """Return what the scores say about a line; nothing about a class that some seed's world lacks.

    Raises:
        ConfigError: if an arm has no such metric.
    """
    baseline = None if isinstance(line, AtLeast) else line.baseline
    named = [line.arm] if baseline is None else [line.arm, baseline]
    lacking = ".per_class." in line.metric and any(line.metric not in scores[arm] for arm in named)
    mean, interval = (math.nan, None) if lacking else mean_interval(line.values(scores))
    return PassLine(
        name=line.name or " ".join(part for part in (line.arm, baseline, line.metric) if part is not None),
        kind=line.kind,
        metric=line.metric,
        arm=line.arm,
        baseline=baseline,
        statement=line.statement(),
        value=mean if math.isfinite(mean) else None,
        interval=interval,
        threshold=line.threshold,
        met=interval is not None and interval[0] > line.threshold,
    )


def flatten(report: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers of an evaluation report as `protocol.metric` and `protocol.per_class.name`."""
    flat: dict[str, float] = {}
    for protocol, entry in report.items():
        for key, value in entry.items():
            if isinstance(value, float):
                flat[f"{protocol}.{key}"] = value
            elif key == "per_class" and isinstance(value, Mapping):
                named = {f"{protocol}.{key}.{name}": number for name, number in value.items()}
                flat |= {name: float(number) for name, number in named.items() if isinstance(number, (int, float))}
    return flat


def _scores(scores: Scores, arm: str, metric: str) -> Sequence[float]:
    if metric not in scores[arm]:
        raise ConfigError(f"arm {arm} has no metric {metric!r}; it has {', '.join(scores[arm])}")
    return scores[arm][metric]


def _pairs(scores: Scores, arm: str, baseline: str, metric: str) -> list[tuple[float, float]]:
    return list(zip(_scores(scores, arm, metric), _scores(scores, baseline, metric), strict=True))
