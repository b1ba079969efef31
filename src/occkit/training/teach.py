"""Writing down what a trained teacher says about a data set, so that a student's epoch does not pay for the teacher.

And what a segmenter says about its images, which some of the losses ask for too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Bool
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from occkit.data.frames import FrameDataset
from occkit.data.teaching import Bits, describe_teaching, read_teaching, teaching_path, write_teaching
from occkit.errors import ConfigError
from occkit.foundation import CachedSegmenter, Segmenter
from occkit.geometry import Cameras, VoxelGrid, camera_rays
from occkit.geometry.rays import pixel_grid
from occkit.ops.raycast import visible_voxels
from occkit.samples import Teaching
from occkit.training.checkpoint import fingerprint
from occkit.training.evaluate import iterate_predictions, share
from occkit.training.processes import process_state


def choose_bits(num_frames: int, numbers_per_frame: int, budget_bytes: int | None) -> Bits:
    """Return the finest quantisation whose files fit into a budget even if they cannot be compressed.

    Args:
        num_frames: frames to keep.
        numbers_per_frame: scores and features of one.
        budget_bytes: None takes 8 bits.

    Raises:
        ConfigError: if 8 bits do not fit either.
    """
    if budget_bytes is None:
        return 8
    for bits in (16, 8):
        if num_frames * numbers_per_frame * bits // 8 <= budget_bytes:
            return bits
    needed = num_frames * numbers_per_frame
    raise ConfigError(
        f"--budget: {num_frames} frames of {numbers_per_frame:,} numbers need {needed:,} bytes at 8 bits, "
        f"{budget_bytes:,} are allowed; raise it, or leave the features out"
    )


def write_teachings(
    model: nn.Module,
    dataset: FrameDataset,
    folder: Path,
    *,
    features: bool = False,
    budget_bytes: int | None = None,
    progress: bool = True,
) -> int:
    """Write what a model says about every frame; frames that are there already are not asked for again.

    Args:
        model: a trained `System`; asked in evaluation mode, frames as they are (never augmented).
        dataset: the frames, read as the model wants them.
        folder: where to write, see `occkit.data.teaching`.
        features: keep its voxel features too, for feature alignment.
        budget_bytes: largest size of the folder; decides the quantisation.
        progress: show a bar on the terminal.

    Returns:
        The number of frames asked for now, by this process.

    Raises:
        ConfigError: if the budget is too small, or the model shares no features.
        DataError: if the folder holds teachings of something else.
    """
    state = process_state()
    first = next(_teachings(model, dataset, dataset.tokens[:1], features=features), None)
    if first is None:
        return 0
    _, teaching = first
    numbers = teaching.logits.numel() + (0 if teaching.features is None else teaching.features.numel())
    bits = choose_bits(len(dataset), numbers, budget_bytes)
    if state.is_main_process:
        describe_teaching(folder, {"weights_sha256": fingerprint(model), "bits": bits, "features": features})
    state.wait_for_everyone()
    missing = [token for token in share(dataset.tokens) if not teaching_path(folder, token).is_file()]
    show = progress and state.is_main_process
    for token, teaching in _teachings(model, dataset, missing, features=features, progress=show):
        write_teaching(folder, token, teaching, bits=bits)
    state.wait_for_everyone()
    return len(missing)


def _teachings(
    model: nn.Module, dataset: FrameDataset, tokens: Sequence[str], *, features: bool, progress: bool = False
) -> Iterator[tuple[str, Teaching]]:
    predictions = iterate_predictions(model, dataset, tokens=tokens, progress=progress, doing="teaching")
    for batch, prediction in predictions:
        if features and prediction.features is None:
            raise ConfigError(f"{type(model).__name__} shares no voxel features; write its scores only")
        cameras = batch.cameras[0, 0]
        occupied = prediction.semantics()[0] != batch.taxonomy.free_id
        yield (
            batch.tokens[0],
            Teaching(
                logits=prediction.logits[0],
                visible=visible_to_cameras(occupied, cameras, batch.grid, stride=max(1, cameras.width // 352)),
                features=prediction.features[0] if features and prediction.features is not None else None,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class QuantisationLoss:
    """What quantisation took from a teacher's outputs, on the voxels that a camera sees."""

    changed: float
    """Share of voxels whose class is another one, 0..1."""
    divergence: float
    """Mean KL divergence of what is read from what was said, natural logarithm."""
    frames: int
    """Frames that were compared."""


def loss_of_quantisation(
    model: nn.Module, dataset: FrameDataset, folder: Path, *, frames: int = 8, progress: bool = False
) -> QuantisationLoss:
    """Ask a teacher about a few frames again, and compare with what was written.

    Args:
        model: the teacher that wrote the folder.
        dataset: the frames it was asked about.
        folder: what it wrote.
        frames: how many, evenly spread.
        progress: show a bar on the terminal.

    Raises:
        DataError: if a teaching is missing or damaged.
    """
    changed, divergence, voxels = 0, 0.0, 0
    chosen = dataset.spread(frames).tokens
    for token, said in _teachings(model, dataset, chosen, features=False, progress=progress):
        shape = (said.logits.shape[1], said.logits.shape[2], said.logits.shape[3])
        read = read_teaching(folder, token, num_classes=said.logits.shape[0], shape=shape)
        seen = said.visible.cpu()
        p, q = (logits.cpu().double()[:, seen].log_softmax(dim=0) for logits in (said.logits, read.logits))
        changed += int((p.argmax(dim=0) != q.argmax(dim=0)).sum())
        divergence += float((p.exp() * (p - q)).sum())
        voxels += int(seen.sum())
    return QuantisationLoss(
        changed=changed / max(voxels, 1), divergence=divergence / max(voxels, 1), frames=len(chosen)
    )


def visible_to_cameras(
    occupied: Bool[Tensor, "x y z"], cameras: Cameras, grid: VoxelGrid, *, stride: int = 1
) -> Bool[Tensor, "x y z"]:
    """Return the voxels that a pixel's ray passes through or stops at.

    Args:
        occupied: where rays stop.
        cameras: leading dimension `[n]`, in the frame of the grid.
        grid: where the volume lies.
        stride: one ray for each block of so many pixels squared.
    """
    pixels = pixel_grid(cameras.height, cameras.width, stride=stride).to(cameras.intrinsics)
    rays = camera_rays(cameras, pixels.expand(cameras.batch_shape[0], -1, -1))
    size = rays.origins.new_tensor(grid.voxel_size)
    origins = (rays.origins - rays.origins.new_tensor(grid.origin)) / size
    return visible_voxels(occupied, origins.reshape(-1, 3), (rays.directions / size).reshape(-1, 3))


def write_segment_maps(segmenter: Segmenter, dataset: FrameDataset, folder: Path, *, progress: bool = True) -> None:
    """Write the segments of the current images of every frame; maps that are there already are not made again.

    Args:
        segmenter: any of `occkit.foundation`.
        dataset: the frames, opened without an image size: segments belong to images as they are stored.
        folder: where to write, see `occkit.foundation.CachedSegmenter`.
        progress: show a bar on the terminal.

    Raises:
        ConfigError: if the folder holds maps of another segmenter.
    """
    cached = CachedSegmenter(segmenter, folder)
    shown = track(range(len(dataset)), "segments", console=Console(stderr=True), disable=not progress)
    for index in shown:
        sample = dataset.sample(index)
        cached.segment(sample.images[0], token=sample.token, cameras=sample.camera_names)
