"""The parity report beside an exported file: JSON for programs, markdown for people."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from occkit.export.parity import MAX_DIFFERENCE, MIN_AGREEMENT, Compared
from occkit.files import write_bytes, write_json

PACKAGES = ("occkit", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What a report must say beside its numbers."""

    recipe: str
    """Name of the recipe."""
    weights_sha256: str
    """Fingerprint of the system's weights and buffers."""
    opset: int
    """Of the default domain."""
    batch: int | None
    """Frames of a call; None is any number."""
    fixed_rig: bool
    """Whether the cameras are part of the file."""
    threads: int
    """Of torch and of ONNX Runtime."""
    repeats: int
    """Timed calls."""
    protocol: str | None
    """What scores were counted by."""
    calibration_frames: int
    """Frames that the 8-bit ranges were found on."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a file says."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def make_report(
    about: Circumstances, compared: Compared, seconds: Mapping[str, float], files: Mapping[str, tuple[str, int]]
) -> dict[str, Any]:
    """Return the report as JSON values.

    Args:
        about: what was exported, and how.
        compared: what was found on frames.
        seconds: median time of a call, of "torch" and of each file.
        files: name and size in bytes of each file.
    """
    variants = {
        name: {
            "file": files[name][0],
            "bytes": files[name][1],
            "max_abs_difference": found.largest,
            "mean_abs_difference": found.mean,
            "label_agreement": found.agreement,
            "within_limits": found.holds,
            "score": compared.scores.get(name),
            "latency_ms": 1000 * seconds[name],
        }
        for name, found in compared.differences.items()
    }
    first = next(iter(compared.differences.values()))
    return {
        "recipe": about.recipe,
        "weights_sha256": about.weights_sha256,
        "opset": about.opset,
        "batch": "dynamic" if about.batch is None else about.batch,
        "rig": "fixed" if about.fixed_rig else "input",
        "limits": {"max_abs_difference": MAX_DIFFERENCE, "label_agreement": MIN_AGREEMENT, "of": "fp32"},
        "frames": first.tokens,
        "protocol": about.protocol if compared.scores else None,
        "calibration_frames": about.calibration_frames,
        "threads": about.threads,
        "repeats": about.repeats,
        "machine": f"{platform.system()} {platform.machine()}, CPU",
        "versions": versions(),
        "torch": {"score": compared.scores.get("torch"), "latency_ms": 1000 * seconds["torch"]},
        "variants": variants,
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report as `path` (JSON), and as markdown beside it."""
    write_json(path, report)
    write_bytes(path.with_suffix(".md"), as_markdown(report).encode())


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return a report as a page: one table, and what it was measured with."""
    rows = [
        "| file | bytes | largest difference | mean difference | labels that agree | score | one call |",
        "|---|---:|---:|---:|---:|---:|---:|",
        f"| torch | | | | | {_score(report['torch']['score'])} | {report['torch']['latency_ms']:.1f} ms |",
    ]
    for name, entry in report["variants"].items():
        rows.append(
            f"| {name}: {entry['file']} | {entry['bytes']:,} | {entry['max_abs_difference']:.2e} | "
            f"{entry['mean_abs_difference']:.2e} | {100 * entry['label_agreement']:.3f} % | "
            f"{_score(entry['score'])} | {entry['latency_ms']:.1f} ms |"
        )
    limits = report["limits"]
    facts = [
        f"Differences are of scores (logits), over {len(report['frames'])} frames: {_names(report['frames'])}.",
        f"The fp32 file must be within {limits['max_abs_difference']:g} and agree on "
        f"{100 * limits['label_agreement']:g} % of the voxels; it is.",
        f"Score: {report['protocol']}, per cent." if report["protocol"] else "No score: no labelled frames were given.",
        f"One call: median of {report['repeats']} calls with batch {report['batch']}, in turns, {report['threads']} "
        f"threads of torch and of ONNX Runtime ({report['machine']}); torch has worked the rig out before.",
        f"Weights sha256 {report['weights_sha256']}, opset {report['opset']}, rig: {report['rig']}, 8-bit ranges from "
        f"{report['calibration_frames']} frames.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in report["versions"].items()) + ".",
    ]
    return "\n".join([f"# Parity of {report['recipe']}", "", *rows, "", *(f"- {fact}" for fact in facts), ""])


def _names(frames: Sequence[str], *, most: int = 8) -> str:
    more = len(frames) - most
    return ", ".join(frames[:most]) + (f" and {more} more, named in the JSON file beside this one" if more > 0 else "")


def _score(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"
