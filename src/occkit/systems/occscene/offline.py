"""Scenes made before perception learns from them: the controls that mutual learning must exceed.

A finished generator drew them, or they are photographs without a label, labelled by perception as it was.
"""

import hashlib
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from occkit.samples import Batch
from occkit.systems.occscene.stages import OfflineConfig
from occkit.systems.occscene.views import label_volumes, labelled
from occkit.training.system import predict

if TYPE_CHECKING:
    from occkit.systems.occscene.network import OccScene


class OfflineScenes(nn.Module):
    """Draws or labels scenes of frames when they are first asked for, and remembers them.

    The teacher, a copy of perception as it was, is part of what a run saves: after a resumption it labels as before.
    """

    def __init__(self, config: OfflineConfig, perception: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.teacher = deepcopy(perception).requires_grad_(False) if config.labels == "pseudo" else None
        self._scenes: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def train(self, mode: bool = True) -> "OfflineScenes":
        """The teacher never learns."""
        return super().train(False)

    def remember(self, perception: nn.Module) -> None:
        """Let the teacher be what perception is now."""
        if self.teacher is not None:
            self.teacher.load_state_dict(perception.state_dict())

    def of(self, model: "OccScene", batch: Batch, texts: tuple[str, ...]) -> Batch | None:
        """Return scenes of some of a batch's frames, as a batch with labels; None if chance took none.

        Args:
            model: draws.
            batch: frames; those without a labelled voxel are passed over where scenes follow labels, those with one
                where scenes are photographs.
            texts: of each frame.
        """
        assert batch.occupancy is not None
        has_label = labelled(batch.occupancy)
        usable = has_label | (self.teacher is not None) if self.config.images == "drawn" else ~has_label
        rows = (usable & (torch.rand(batch.size) < self.config.share)).nonzero()[:, 0].tolist()
        versions = torch.randint(self.config.versions, (batch.size,)).tolist()
        if not rows:
            return None
        frames = batch.take(rows)
        scenes = [self._scene(model, frames.take([place]), texts[row], versions[row]) for place, row in enumerate(rows)]
        assert frames.occupancy is not None
        return replace(
            frames,
            images=torch.stack([images for images, _ in scenes]).to(batch.images.device),
            occupancy=replace(
                frames.occupancy,
                semantics=torch.stack([semantics for _, semantics in scenes]).to(batch.images.device),
            ),
            # Of a scene that follows no label nobody has measured a depth.
            depth=None if frames.depth is None else frames.depth * (self.teacher is None),
            inputs=None,
        )

    def _scene(self, model: "OccScene", frame: Batch, text: str, version: int) -> tuple[Tensor, Tensor]:
        key = (frame.tokens[0], version)
        if key not in self._scenes:
            self._scenes[key] = self._draw(model, frame, text, seed=_seed(*key))
        return self._scenes[key]

    @torch.no_grad()
    def _draw(self, model: "OccScene", frame: Batch, text: str, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return images `[t, n, 3, h, w]` and ids `[x, y, z]`, uint8, on the CPU."""
        if self.config.images == "photographs":
            return frame.images[0].cpu(), self._label(frame)
        from occkit.systems.occscene.sampling import SamplingConfig, generate  # which draws with the network

        assert frame.occupancy is not None
        clip = model.config.clip
        known = None
        if self.teacher is None:
            known = label_volumes(frame.occupancy, model.taxonomy, clip)[0]
        was_training = model.training
        model.eval()
        try:
            drawn = generate(
                model,
                text,
                frame.cameras.map(lambda t: t[0, : clip.num_frames]),
                sampling=SamplingConfig(steps=self.config.steps, guidance=self.config.guidance, reads=False),
                seed=seed,
                occupancy=known,
            )
        finally:
            model.train(was_training)
        if self.teacher is None:
            return drawn.images, frame.occupancy.semantics[0].cpu()
        images = drawn.images[None].to(frame.images.device)
        return drawn.images, self._label(replace(frame, images=images))

    def _label(self, frame: Batch) -> Tensor:
        assert self.teacher is not None
        return predict(self.teacher, replace(frame, inputs=None, noise_level=None)).semantics()[0].cpu()


def _seed(token: str, version: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{token} {version}".encode()).digest()[:6], "big")
