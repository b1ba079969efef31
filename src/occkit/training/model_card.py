"""The README.md of a model: what it is, how it was trained, what it scores, under which licence, what it cannot do.

Everything in it is read from the files of a run; what was not recorded is said not to be known.
"""

import importlib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from occkit.errors import ConfigError, DataError
from occkit.files import read_json
from occkit.metrics import MAIN_FIGURES, main_score
from occkit.training.curves import METRICS_FILE, read_metrics

CARD_FILE = "README.md"
"""The card of a model folder."""
ENVIRONMENT_FILE = "environment.json"
"""Of a run: code, versions, machine, data."""
EVALUATION_FILE = "evaluation.json"
"""What `occkit evaluate RUN --json RUN/evaluation.json` writes; the card takes its numbers from there."""
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}")


@dataclass(frozen=True, kw_only=True)
class Number:
    """One figure of a model under a protocol."""

    protocol: str
    """Name of the protocol."""
    figure: str
    """Such as "miou"."""
    value: float | None
    """0..1; None if nothing counted."""
    prior: float | None
    """What the constant prior scores; None if that was not recorded."""
    mask: str
    """Where is evaluated; empty if that was not recorded."""
    frames: int | None
    """Over how many frames; None if that was not recorded."""


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What a model card is written from."""

    recipe: Mapping[str, Any]
    """The recipe, as in `recipe.json` (the inner object)."""
    num_weights: int
    """Weights and buffers."""
    environment: Mapping[str, Any]
    """As in `environment.json`; empty if unknown."""
    numbers: tuple[Number, ...]
    """Scores; empty if there are none."""
    origin: str
    """Where the numbers come from."""
    repo_id: str = "owner/name"
    """Where the model lies on the hub."""
    license: str | None = None
    """Of the weights, an identifier of the hub such as "apache-2.0"; None if the author gave none."""


def collect_facts(
    recipe: Mapping[str, Any],
    num_weights: int,
    run: Path | None = None,
    *,
    evaluation: Path | None = None,
    repo_id: str = "owner/name",
    license: str | None = None,
) -> CardFacts:
    """Return what is known of a model.

    Args:
        recipe: what `recipe_to_json` returns.
        num_weights: of the model.
        run: the run's folder; None if there is none.
        evaluation: JSON of `occkit evaluate`; by default that of the run's folder, if it has one.
        repo_id: where the model will lie.
        license: identifier of the hub; see `CardFacts`.

    Raises:
        ConfigError: if the licence is no identifier.
        DataError: if a file is damaged.
    """
    if license is not None and not _LICENCE.fullmatch(license):
        raise ConfigError(f"license {license!r}: expected an identifier of the hub, such as apache-2.0 or cc-by-nc-4.0")
    environment: Mapping[str, Any] = {}
    if run is not None and (run / ENVIRONMENT_FILE).is_file():
        environment = _object(run / ENVIRONMENT_FILE)
    numbers, origin = _numbers(run, evaluation)
    return CardFacts(
        recipe=recipe["recipe"],
        num_weights=num_weights,
        environment=environment,
        numbers=tuple(numbers),
        origin=origin,
        repo_id=repo_id,
        license=license,
    )


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path, max_bytes=2**24)
    if not isinstance(found, dict):
        raise DataError(path, "expected a JSON object", "write it again")
    return found


def _numbers(run: Path | None, evaluation: Path | None) -> tuple[list[Number], str]:
    """Return the scores of an evaluation, else those of the best validation, and where they come from."""
    if evaluation is None and run is not None and (run / EVALUATION_FILE).is_file():
        evaluation = run / EVALUATION_FILE
    if evaluation is not None:
        return _of_evaluation(evaluation), "an evaluation by `occkit evaluate`"
    if run is None or not (run / METRICS_FILE).is_file():
        return [], ""
    validations = [(r["step"], r["validation"]) for r in read_metrics(run) if isinstance(r.get("validation"), dict)]
    scores = [main_score(next(iter(entry.values()), {})) for _, entry in validations]
    scored = [(score, *validation) for score, validation in zip(scores, validations, strict=True) if score is not None]
    if not scored:
        return [], ""
    _, step, best = max(scored, key=lambda item: item[0])
    found = [
        Number(protocol=protocol, figure=figure, value=value, prior=None, mask="", frames=None)
        for protocol, entry in best.items()
        for figure, value in entry.items()
    ]
    return found, f"the best validation of the training, after step {step}"


def _of_evaluation(path: Path) -> list[Number]:
    report = _object(path)
    found: list[Number] = []
    for protocol, entry in report.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("protocol"), dict):
            continue  # depth, retrieval and the like have no protocol of their own
        prior: dict[str, Any] = entry.get("constant_prior") or {}
        for figure, value in entry.items():
            if isinstance(value, float):
                mask, frames = str(entry["protocol"].get("mask", "")), entry.get("frames")
                beside = prior.get(figure)
                found.append(
                    Number(protocol=protocol, figure=figure, value=value, prior=beside, mask=mask, frames=frames)
                )
    if not found:
        raise DataError(path, "holds no score", "give a JSON of `occkit evaluate --json`")
    return found


def write_model_card(facts: CardFacts) -> str:
    """Return the card: YAML for the hub, then Markdown for people."""
    parts = [
        f"---\n{_front_matter(facts)}\n---",
        f"# {facts.recipe['name']}",
        _what(facts),
        "## Use\n\n" + _use(facts),
        "## Numbers\n\n" + _score_table(facts),
        "## Data\n\n" + _data(facts),
        "## Recipe\n\n" + _recipe_table(facts),
        "## Licence\n\n" + _licence(facts),
        "## Limits\n\n" + _limits(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: CardFacts) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    data = facts.environment.get("data") or {}
    kind = "generated world" if data.get("generated") else "data set"
    results = [
        EvalResult(
            task_type="semantic-occupancy",
            task_name="3D semantic occupancy",
            dataset_type=str(data.get("format", "unknown")),
            dataset_name=f"{data.get('format', 'unknown')} ({kind})",
            metric_type=f"{n.protocol}.{n.figure}",
            metric_name=f"{n.figure} under protocol {n.protocol}",
            metric_value=round(n.value, 6),
        )
        for n in facts.numbers
        if n.value is not None and n.figure in MAIN_FIGURES
    ]
    tags = ["3d", "semantic-occupancy", "semantic-scene-completion", "occkit", _system(facts)]
    card = ModelCardData(
        library_name="occkit",
        license=facts.license,
        tags=tags,
        model_name=str(facts.recipe["name"]) if results else None,
        eval_results=results or None,
    )
    return card.to_yaml().strip()


def _system(facts: CardFacts) -> str:
    """Return the name of the system, such as "lift"; that of the class where a user's own file has it."""
    kind = str(facts.recipe["system"]["type"])
    ours = re.match(r"occkit\.systems\.(\w+)", kind)
    return ours[1] if ours else kind.rpartition(":")[2]


def _what(facts: CardFacts) -> str:
    system = _system(facts)
    size = facts.recipe["data"].get("image_size")
    images = f"images of {size[1]} x {size[0]} pixels" if size else "images"
    said = (
        f"Camera-based 3D semantic occupancy: {images} and their calibration in, a class for every voxel out. "
        f"{facts.num_weights / 1e6:.2f} million weights."
    )
    kind = str(facts.recipe["system"]["type"])
    if not kind.startswith("occkit."):
        return f"{said} Its classes come from the author's own file, `{kind}`, which is needed to load it."
    module = importlib.import_module(f"occkit.systems.{system}")
    first = (inspect.getdoc(module) or "").partition("\n\n")[0]
    return f"{said} System `{system}` of occkit: {' '.join(first.split())}"


def _use(facts: CardFacts) -> str:
    return "\n".join(
        [
            "```bash",
            "# your own cameras: images and calibration; or --data with a data set",
            f"occkit predict {facts.repo_id} --rig rig.json --out predictions",
            f"occkit evaluate {facts.repo_id} --data ROOT --protocol {' '.join(_protocols(facts))}",
            "```",
            "",
            "```python",
            "from occkit.training.checkpoint import from_pretrained",
            "",
            f'model, recipe = from_pretrained("{facts.repo_id}")',
            "```",
        ]
    )


def _protocols(facts: CardFacts) -> list[str]:
    return list(dict.fromkeys(n.protocol for n in facts.numbers)) or list(facts.recipe.get("protocols") or ["occ3d"])


def _score_table(facts: CardFacts) -> str:
    if not facts.numbers:
        return (
            "None. This run was neither validated nor evaluated, so nothing is known of how good it is. "
            "`occkit evaluate RUN --data ROOT --json RUN/evaluation.json` records numbers."
        )
    rows = ["| protocol | figure | model, % | constant prior, % | mask | frames |", "|---|---|---|---|---|---|"]
    for n in facts.numbers:
        cells = (n.protocol, n.figure, _percent(n.value), _percent(n.prior), n.mask or "?", n.frames or "?")
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    rows += ["", f"From {facts.origin}. Figures of different protocols cannot be compared with each other."]
    if any(n.prior is not None for n in facts.numbers):
        rows.append("The constant prior knows nothing of the frame: it says what is most often there.")
    else:
        rows.append("What a constant prior would score was not recorded.")
    return "\n".join(rows)


def _data(facts: CardFacts) -> str:
    data = facts.environment.get("data")
    if not data:
        return "Not recorded."
    said = f"Layout `{data['format']}`, {data['train_frames']} training frames"
    said += f", {data['val_frames']} validation frames." if data.get("val_frames") else ", not validated."
    if data.get("generated"):
        said += " A procedural world made by `occkit world`: no photograph and no recording was used."
    config = facts.recipe["data"]
    learnt = [
        f"`{name}`: `{config[name]}`" for name in ("labels", "teaching", "features", "segments") if config.get(name)
    ]
    return said + (
        f" Learnt from, beside the data set's own labels or in their place: {', '.join(learnt)}." if learnt else ""
    )


def _recipe_table(facts: CardFacts) -> str:
    recipe, environment = facts.recipe, facts.environment
    optim = recipe.get("optim") or {}
    rows: list[tuple[str, object]] = [
        ("recipe", recipe["name"]),
        ("steps", recipe["steps"]),
        ("frames a step and process", recipe.get("batch_size", 1) * recipe.get("accumulate", 1)),
        ("optimiser", str(optim.get("type", "?")).rpartition(".")[2]),
        ("learning rate", optim.get("lr", "?")),
        ("precision", recipe.get("precision", "?")),
        ("seed", recipe.get("seed", "?")),
        ("device", environment.get("device", "not recorded")),
        ("commit", environment.get("commit") or "not recorded"),
        *((environment.get("versions") or {}).items()),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]) + (
        "\n\nEvery value is in `recipe.json`."
    )


def _licence(facts: CardFacts) -> str:
    data = facts.environment.get("data") or {}
    if data.get("generated"):
        source = "They were trained on a generated world, which puts no condition on them."
    else:
        source = f"They were trained on data in the layout `{data.get('format', 'unknown')}`, whose terms also apply."
    if facts.license is None:
        return f"The author has stated no licence for these weights; ask before using them. {source}"
    return f"The weights: `{facts.license}`. {source} The code, occkit, is Apache-2.0."


def _limits(facts: CardFacts) -> str:
    data = facts.environment.get("data") or {}
    limits = ["It predicts its own grid and classes only; `recipe.json` says which."]
    if data.get("generated"):
        limits.append("It has only ever seen generated images: expect nothing of it on photographs.")
    else:
        limits.append(
            "Cameras mounted unlike those of its training data, or other weather and places, lower its scores."
        )
    limits.append("What no camera sees is a guess, and is scored only by protocols without a camera mask.")
    limits.append("It is a research model, not a safety component.")
    return "\n".join(f"- {limit}" for limit in limits)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"
