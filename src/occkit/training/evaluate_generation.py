"""What scenes that a model draws are worth: like photographs, as the text says, one with their occupancy, and new.

Every held-out frame with a caption lends its text and its cameras; its photograph is what the drawn image is held
beside. Two networks judge, which learnt from photographs alone: a `WordJudge` looks at the images, and a reader, a run
of any system that reads images, says which occupancy they show.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from occkit.data.frames import FrameDataset
from occkit.errors import ConfigError, DataError
from occkit.metrics import Evaluator
from occkit.metrics.generation import FeatureSet, compare, frechet_distance, kernel_distance
from occkit.samples import Batch, Occupancy, Sample, collate
from occkit.training.feature_networks import FeatureNetwork, JudgeFeatures
from occkit.training.system import DrawsScenes, predict
from occkit.training.warp_error import warp_error
from occkit.training.word_judge import (
    WordJudge,
    WordJudgeConfig,
    counted_words,
    is_number,
    shown_words,
    train_judge,
    word_scores,
)

_AT_ONCE = 64
"""Images that the judge looks at together."""
_DRAWN_AT_ONCE = 10
"""Scenes that are drawn together."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How drawn scenes are judged."""

    reader: str
    """Name of the arm that reads occupancy from images: trained on photographs alone."""
    arms: tuple[str, ...]
    """Names of the arms whose drawings are judged."""
    told: tuple[str, ...] = ()
    """Of these, those that are judged a second time on drawings for the frames' own labels: an upper bound."""
    frames: int = 100
    """Held-out frames whose text is drawn, evenly spread."""
    steps: int = 20
    """Denoising steps."""
    guidance: float = 1.5
    """Scale of the text. Much of it makes a drawing its prompt's type, and drawings unlike photographs."""
    judge: WordJudgeConfig = field(default_factory=WordJudgeConfig)
    """The network that looks at images."""


@dataclass(frozen=True, kw_only=True)
class _Scenes:
    """Drawn scenes beside the photographs whose text they were drawn from."""

    photographs: list[UInt8[Tensor, "t 3 h w"]]
    """Of the first camera, as many frames as were drawn; time 0 is now."""
    drawn: list[UInt8[Tensor, "t 3 h w"]]
    captions: list[str]
    consistent: Evaluator
    """What the reader reads in the drawn images, against the occupancy that was drawn with them."""
    labelled: Evaluator
    """The same against the labels of the frames: how much of the layout the text alone says."""
    warps: list[tuple[float, float]]
    """Warp error of each drawn clip by its own occupancy, and of its photographs by the label."""
    errors: list[float]
    """`DrawsScenes.estimation_errors` of the photographs."""


def evaluate_generation(
    model: nn.Module,
    reader: nn.Module,
    held_out: FrameDataset,
    training: FrameDataset,
    config: Judging,
    *,
    protocol: str,
    keep: Path,
    network: FeatureNetwork | None = None,
    told: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """Return the scores of what a model draws for the texts and cameras of held-out frames.

    Args:
        model: a system that is also `DrawsScenes`, in evaluation mode.
        reader: a system that reads images.
        held_out: frames with captions and labels.
        training: the photographs that the model learnt from.
        config: how.
        protocol: under which the reader's occupancy is compared.
        keep: folder for the weights of judges, so that all arms of a world have one judge.
        network: whose features distances are measured on; None is the judge.
        told: draw for the frames' labels, which a user has not: how well images follow an occupancy that is right.
        seed: of the drawings.

    Returns:
        `frechet`, `kernel`, `nearest`, `diversity` and `diversity_of_photographs` on the network's features; of clips
        also `video_frechet` and `video_kernel`, on the features of their frames one after the other, and `warp` and
        `warp_of_photographs`, the mean `warp_error` by what was drawn with them and by the labels; `words` and
        `words_of_photographs` (0.5 is chance); `numbers` and `numbers_of_photographs`, the same of two or more, three
        or more, ... of a thing among texts that have one of it, if these differ; `consistency` and `layout`, mIoU of
        what is read in the images against what was drawn with them, and against the frames' labels; `error`, the mean
        of `DrawsScenes.estimation_errors`.

    Raises:
        ConfigError: if the model does not draw.
        DataError: if frames have no captions, or captions with nothing to tell apart; as the network does.
    """
    if not isinstance(model, DrawsScenes):
        raise ConfigError(f"{type(model).__name__} does not draw; judge a run of occscene")
    photographs, captions = _photographs(training)
    judge = train_judge(config.judge, photographs, captions, keep)
    scenes = _draw(model, reader, held_out.spread(config.frames), config, protocol=protocol, told=told, seed=seed)
    if network is None:
        network = JudgeFeatures(judge, (int(photographs.shape[2]), int(photographs.shape[3])))
    clips = [torch.stack(images) for images in (scenes.drawn, scenes.photographs)]
    drawn, real = (images[:, 0] for images in clips)
    sets = [FeatureSet(network=network.name, values=network.features(images)) for images in (drawn, real, photographs)]
    scores = compare(*sets)
    return _video_scores(network, clips, scenes.warps) | {
        "frechet": scores.frechet,
        "kernel": scores.kernel,
        "nearest": scores.nearest,
        "diversity": scores.diversity,
        "diversity_of_photographs": scores.diversity_of_photographs,
        **_agreement(judge, drawn, scenes.captions, ""),
        **_agreement(judge, real, scenes.captions, "_of_photographs"),
        "consistency": _miou(scenes.consistent, protocol),
        "layout": _miou(scenes.labelled, protocol),
        "error": float(np.mean(scenes.errors)),
    }


def _agreement(
    judge: WordJudge, images: UInt8[Tensor, "n 3 h w"], captions: list[str], suffix: str
) -> dict[str, float]:
    """Return how well a judge tells images by what their text says, words and numbers apart."""
    shown, among = shown_words(captions, judge.words), counted_words(captions, judge.words)
    scores = _scores(judge, images)
    found: dict[str, float] = {}
    for name, wanted in (("words", False), ("numbers", True)):
        of_kind = [is_number(word) == wanted for word in judge.words]
        differs = (shown & among).any(axis=0) & (~shown & among).any(axis=0) & np.array(of_kind)
        if name == "words" or differs.any():
            found[name + suffix] = word_scores(scores[:, of_kind], shown[:, of_kind], among[:, of_kind])
    return found


def _video_scores(
    network: FeatureNetwork, clips: list[UInt8[Tensor, "n t 3 h w"]], warps: list[tuple[float, float]]
) -> dict[str, float]:
    """Return the distances between drawn clips and photographed ones, and warp errors; of single images, nothing."""
    times = int(clips[0].shape[1])
    if times == 1:
        return {}
    name = f"{times} frames, {network.name}"
    sets = [
        FeatureSet(network=name, values=network.features(images.flatten(0, 1)).reshape(len(images), -1))
        for images in clips
    ]
    own, photographed = (torch.tensor(errors).nanmean().item() for errors in zip(*warps, strict=True))
    return {
        "video_frechet": frechet_distance(*sets),
        "video_kernel": kernel_distance(*sets),
        "warp": own,
        "warp_of_photographs": photographed,
    }


def _photographs(dataset: FrameDataset) -> tuple[UInt8[Tensor, "n 3 h w"], list[str]]:
    """Return the first camera's images and the captions of a data set."""
    images, captions = list[Tensor](), list[str]()
    for index in range(len(dataset)):
        sample = dataset.sample(index)
        images.append(sample.images[0, 0])
        captions.append(_caption(sample, dataset))
    return torch.stack(images), captions


def _caption(sample: Sample, dataset: FrameDataset) -> str:
    if sample.caption is None:
        raise DataError(dataset.root, f"frame {sample.token} has no caption", "judge a generated world, which has")
    return sample.caption


def _draw(
    model: DrawsScenes,
    reader: nn.Module,
    dataset: FrameDataset,
    config: Judging,
    *,
    protocol: str,
    told: bool,
    seed: int,
) -> _Scenes:
    consistent, labelled = (Evaluator((protocol,), mask="none") for _ in range(2))
    scenes = _Scenes(
        photographs=[], drawn=[], captions=[], consistent=consistent, labelled=labelled, warps=[], errors=[]
    )
    for indices in torch.arange(len(dataset)).split(_DRAWN_AT_ONCE):
        samples = [dataset.sample(int(index)) for index in indices]
        captions = [_caption(sample, dataset) for sample in samples]
        batch = collate(samples)
        if batch.occupancy is None:
            raise DataError(dataset.root, f"a frame of {batch.tokens} has no label", "judge frames that have one")
        seeds = [seed + int(index) for index in indices]
        images, semantics = model.draw(
            captions,
            batch.cameras,
            steps=config.steps,
            seeds=seeds,
            guidance=config.guidance,
            occupancy=batch.occupancy if told else None,
        )
        scenes.errors.extend(model.estimation_errors(batch, seeds=seeds, told=told).tolist())
        for i, sample in enumerate(samples):
            read = _read(reader, sample, images[i])
            drawn = Occupancy(semantics=semantics[i].cpu(), grid=sample.grid, taxonomy=sample.taxonomy)
            consistent.add(sample.token, read, drawn)
            assert sample.occupancy is not None
            labelled.add(sample.token, read, sample.occupancy)
            scenes.photographs.append(sample.images[: images.shape[1], 0])
            scenes.drawn.append(images[i, :, 0].cpu())
            scenes.captions.append(captions[i])
            scenes.warps.append(_warps(sample, images[i].cpu(), drawn))
    return scenes


def _warps(sample: Sample, images: UInt8[Tensor, "t n 3 h w"], drawn: Occupancy) -> tuple[float, float]:
    assert sample.occupancy is not None
    times = len(images)
    pairs = ((images, drawn), (sample.images[:times], sample.occupancy))
    own, photographed = (warp_error(seen, label.occupied, sample.cameras[:times], label.grid) for seen, label in pairs)
    return own, photographed


@torch.no_grad()
def _read(reader: nn.Module, sample: Sample, images: UInt8[Tensor, "t n 3 h w"]) -> UInt8[np.ndarray, "x y z"]:
    """Return the ids that a reader sees in drawn images of a frame."""
    batch = collate([sample])
    device = next(reader.parameters()).device
    seen = Batch(
        tokens=batch.tokens, images=images[None], cameras=batch.cameras, grid=batch.grid, taxonomy=batch.taxonomy
    )
    return predict(reader, seen.to(device)).semantics()[0].cpu().numpy()


@torch.no_grad()
def _scores(judge: WordJudge, images: UInt8[Tensor, "n 3 h w"]) -> np.ndarray:
    return np.concatenate([judge(part).numpy() for part in images.split(_AT_ONCE)])


def _miou(evaluator: Evaluator, protocol: str) -> float:
    value = evaluator.report()[protocol]["miou"]
    return value if isinstance(value, float) else float("nan")
