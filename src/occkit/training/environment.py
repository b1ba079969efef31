"""What a number was measured with: code version, packages, device, threads."""

import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import occkit

PACKAGES = ("torch", "numpy", "numba", "scipy", "accelerate", "transformers", "safetensors")
"""Packages whose versions are recorded, where they are installed."""


def commit() -> str | None:
    """Return the git commit occkit runs from, with "+changes" if `src` differs from it; None outside of git."""
    root = Path(occkit.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    result = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return result.stdout.strip()


def versions() -> dict[str, str]:
    """Return the versions of Python, occkit and the packages that matter."""
    found = {"python": platform.python_version(), "occkit": occkit.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def device_name(device: torch.device) -> str:
    """Return the device in words, such as "NVIDIA H100" or "cpu: AMD EPYC 7763, 2 cores"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}: {_processor()}, {os.cpu_count()} cores"


def memory_in_use(device: torch.device) -> int:
    """Return what this process holds now, bytes: of the GPU's memory, else of the machine's."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory(device)  # where there is no such file, what it held at most must do
    return resident * resource.getpagesize()


def peak_memory(device: torch.device) -> int:
    """Return what this process has held at most, bytes; see `memory_in_use`."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def describe(device: torch.device, *, seed: int, processes: int) -> dict[str, Any]:
    """Return what `environment.json` of a run holds."""
    return {
        "commit": commit(),
        "versions": versions(),
        "platform": platform.platform(),
        "device": device_name(device),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "seed": seed,
    }
