"""OccScene: a denoiser and a perception network that see through each other's eyes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from occkit.errors import ConfigError, DataError
from occkit.geometry import Cameras, VoxelGrid
from occkit.nn.alignment import AlignmentConfig, DualAlignmentConfig, Views
from occkit.nn.diffusion import DenoiserConfig, PromptStates
from occkit.nn.diffusion_weights import is_diffusers_folder, load_diffusers_folder
from occkit.nn.image_codecs import CodecConfig, PixelCodecConfig
from occkit.nn.noise_level import HearsNoise, NoiseLevelEmbedding
from occkit.nn.noise_schedules import CosineNoiseConfig, Gate, NoiseConfig, NoiseSchedule
from occkit.nn.prompt_encoders import PromptConfig
from occkit.samples import Batch, Occupancy, Prediction
from occkit.systems.occscene.offline import OfflineScenes
from occkit.systems.occscene.stages import (
    CLEAN,
    ESTIMATE,
    NULL,
    TRUTH,
    AlignConfig,
    ApartConfig,
    ClipConfig,
    MutualConfig,
    OfflineConfig,
    StageConfig,
)
from occkit.systems.occscene.views import (
    colour_images,
    describe_label,
    label_volumes,
    labelled,
    perceived,
    signed_images,
    views_of,
    with_images,
)
from occkit.taxonomy import TAXONOMIES, Taxonomy
from occkit.training.checkpoint import RECIPE_FILE, read_recipe, read_tensors
from occkit.training.start import load_fitting, newest_weights
from occkit.training.system import SystemConfig, build_system, conditional_parameters, losses, predict

_ALIGNMENTS = "denoiser.alignments."
_COMPARED_AT = (0.2, 0.4, 0.6, 0.8, 0.95)
"""Shares of all noise levels at which estimates are compared with what they estimate."""


@dataclass(frozen=True, kw_only=True)
class OccSceneConfig:
    """Every choice of the generator, the perception network in its loop, and this stage of their training."""

    perception: SystemConfig
    """The network that reads images: any system of the toolbox whose only inputs are images."""
    prompts: PromptConfig
    """The text encoder."""
    codec: CodecConfig = field(default_factory=PixelCodecConfig)
    """Between images and what is denoised."""
    noise: NoiseConfig = field(default_factory=CosineNoiseConfig)
    """Noise levels."""
    denoiser: DenoiserConfig
    """The UNet."""
    alignment: AlignmentConfig | None = field(default_factory=DualAlignmentConfig)
    """How the occupancy comes into the UNet; None leaves it out: text alone."""
    clip: ClipConfig = field(default_factory=ClipConfig)
    """What is drawn together."""
    noise_level: bool = True
    """Tell perception how noisy its images were, if it can be told (`nn.noise_level.HearsNoise`)."""
    stage: StageConfig = field(default_factory=MutualConfig)
    """What learns from what."""

    def __post_init__(self) -> None:
        for name, kind in (("grid", VoxelGrid), ("taxonomy", str)):
            if not isinstance(getattr(self.perception, name, None), kind):
                raise ConfigError(f"OccSceneConfig.perception: a {type(self.perception).__name__} states no {name}")
        if self.denoiser.text_width != self.prompts.width:
            raise ConfigError(
                f"OccSceneConfig: denoiser.text_width is {self.denoiser.text_width}, prompts.width {self.prompts.width}"
            )
        past = getattr(self.perception, "num_past", 0)
        if past > (0 if self.clip.volumes == "each" else self.clip.num_past):
            raise ConfigError(
                f"OccSceneConfig.perception: looks at {past} past frames; draw them too (clip.num_past) and let all "
                'look at one volume (clip.volumes="shared")'
            )
        if self.alignment is None and isinstance(self.stage, AlignConfig):
            raise ConfigError("OccSceneConfig.stage: without an alignment there is nothing to align")

    @property
    def grid(self) -> VoxelGrid:
        """Volume of the occupancy: perception's."""
        return cast(VoxelGrid, getattr(self.perception, "grid", None))

    @property
    def taxonomy(self) -> str:
        """Name of the classes: perception's."""
        return cast(str, getattr(self.perception, "taxonomy", None))

    def build(self) -> "OccScene":
        """Return the network, freshly initialised, with what this stage does not train frozen."""
        return OccScene(self)


class OccScene(nn.Module):
    """See `OccSceneConfig`. As a system it is its perception network; drawing is `sampling.generate`.

    Source: Li et al., "OccScene", 2024 (opening and figures); where these are silent see `docs/occscene.md`.
    """

    def __init__(self, config: OccSceneConfig) -> None:
        super().__init__()
        self.config, self.stage = config, config.stage
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        self.schedule = NoiseSchedule(config.noise)
        self.perception = build_system(config.perception)
        self.codec = config.codec.build()
        self.prompts = config.prompts.build()
        self.denoiser = config.denoiser.build(
            latent_channels=self.codec.channels,
            alignment=config.alignment,
            num_classes=self.taxonomy.num_classes,
            grid=config.grid,
        )
        if config.noise_level and isinstance(self.perception, HearsNoise):
            self.perception.noise_embedding = NoiseLevelEmbedding(self.perception.noise_channels)
        self.scenes = OfflineScenes(self.stage, self.perception) if isinstance(self.stage, OfflineConfig) else None
        trains = self.stage.trains
        self.codec.requires_grad_(False)
        self.prompts.requires_grad_(trains.prompts and self.prompts.trainable)
        self.denoiser.requires_grad_(trains.denoiser)
        self.denoiser.alignments.requires_grad_(trains.alignment)
        self.perception.requires_grad_(trains.perception)

    @property
    def conditional_parameters(self) -> tuple[str, ...]:
        """Prefixes of what learns nothing in steps whose draw leaves it out."""
        perception = tuple(f"perception.{name}" for name in conditional_parameters(self.perception))
        # Without a sample that is estimated, nobody is told of a noise level; without occupancy, alignments have none.
        return ("perception.noise_embedding.", _ALIGNMENTS, *perception)

    def train(self, mode: bool = True) -> "OccScene":
        """Set the mode; what is frozen stays in evaluation mode, running statistics included."""
        super().train(mode)
        if not self.stage.trains.perception:
            self.perception.eval()
        return self

    def forward(self, batch: Batch) -> Prediction:
        """Return what perception says of the batch's images; nothing else is looked at.

        While the denoiser alone learns, and nothing of what perception says is used, it is not asked: scores are zero.
        """
        if self.training and isinstance(self.stage, ApartConfig) and not self.stage.perception:
            shape = (batch.size, self.taxonomy.num_classes, *self.config.grid.shape)
            return Prediction(
                logits=torch.zeros(shape, device=batch.images.device), grid=batch.grid, taxonomy=self.taxonomy
            )
        learns = torch.is_grad_enabled() and (self.stage.trains.perception or not self.training)
        with torch.set_grad_enabled(learns):
            return predict(self.perception, replace(batch, inputs=None))

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses of this stage by name.

        `generation` is the denoiser's, `clean_*` are perception's on the photographs, `occupancy_*` on estimates.

        Raises:
            ConfigError: if the batch has another grid than the network, too few frames, or no label to learn from.
        """
        self._check(batch)
        found: dict[str, Tensor] = {}
        clean = self.stage.clean if isinstance(self.stage, MutualConfig) else 1.0
        if self.stage.trains.perception and clean:
            told = losses(self.perception, prediction, batch)
            found |= {f"clean_{name}": clean * value for name, value in told.items()}
        if isinstance(self.stage, OfflineConfig):
            return found | self._offline_losses(batch, self.stage)
        if isinstance(self.stage, ApartConfig):
            if self.stage.noised and self.stage.perception:
                found |= self._noised_losses(batch, self.stage)
            if not self.stage.generation:
                return found
        return found | self._generation(prediction, batch)

    def _generation(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Noise the images of a batch, denoise them with what is known of their occupancy, and compare."""
        stage, count, times = self.stage, batch.size, self.config.clip.num_frames
        assert not isinstance(stage, OfflineConfig)
        images = signed_images(batch.images[:, :times].flatten(1, 2))
        with torch.no_grad():
            clean = self.codec.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        step = self.schedule.draw(count, clean.device)
        noise = torch.randn_like(clean)
        noisy = self.schedule.add_noise(clean, noise, step)
        text = self._read(batch, stage.drop_prompt)
        found: dict[str, Tensor] = {}
        occupancy = views = present = None
        if not isinstance(stage, ApartConfig):
            views = views_of(batch.cameras, self.config.clip)
            assert batch.occupancy is not None
            source = stage.sources.draw(labelled(batch.occupancy))
            occupancy, found = self._occupancy(prediction, batch, source, noisy, step, text, views)
            present = (source != NULL).to(clean.device)
        guess = self.denoiser(noisy, step, text, num_times=times, occupancy=occupancy, views=views, present=present)
        error = F.mse_loss(guess, self.schedule.target(clean, noise, step))
        return {"generation": error} | found

    def _occupancy(
        self,
        prediction: Prediction,
        batch: Batch,
        source: Int64[Tensor, "b"],
        noisy: Float[Tensor, "b v c h w"],
        step: Int64[Tensor, "b"],
        text: PromptStates,
        views: Views,
    ) -> tuple[Float[Tensor, "b t k x y z"], dict[str, Tensor]]:
        """Return the occupancy that each sample is shown, and the losses of those that were estimated."""
        shape = (self.config.clip.num_volumes, self.taxonomy.num_classes, *batch.grid.shape)
        shown: list[Tensor] = [noisy.new_zeros(()).expand(shape)] * batch.size
        found: dict[str, Tensor] = {}
        rows = {kind: (source == kind).nonzero()[:, 0].tolist() for kind in (TRUTH, CLEAN, ESTIMATE)}
        if rows[TRUTH]:
            label = batch.take(rows[TRUTH]).occupancy
            assert label is not None
            for row, volumes in zip(rows[TRUTH], label_volumes(label, self.taxonomy, self.config.clip), strict=True):
                shown[row] = volumes
        if rows[CLEAN]:
            with torch.no_grad():
                if self.config.clip.num_volumes == 1:
                    said = [self._volumes(prediction.logits[row : row + 1]) for row in rows[CLEAN]]
                else:
                    frames = perceived(batch.take(rows[CLEAN]), self.config.clip)
                    said = self._volumes(predict(self.perception, frames).logits).split(1)
            for row, volumes in zip(rows[CLEAN], said, strict=True):
                shown[row] = volumes[0]
        if rows[ESTIMATE]:
            index = torch.tensor(rows[ESTIMATE], device=noisy.device)
            part = batch.take(rows[ESTIMATE])
            logits, found = self._estimate(
                part, noisy[index], step[index], text.rows(index), views.map(lambda v: v[index]), total=batch.size
            )
            if isinstance(self.stage, MutualConfig) and not self.stage.generation_teaches_perception:
                logits = logits.detach()
            for row, volumes in zip(rows[ESTIMATE], self._volumes(logits).unbind(), strict=True):
                shown[row] = volumes
        # Classes last in memory, as whoever reads it wants them.
        return torch.stack([volumes.movedim(1, -1) for volumes in shown]).movedim(-1, 2), found

    def _estimate(
        self,
        batch: Batch,
        noisy: Float[Tensor, "b v c h w"],
        step: Int64[Tensor, "b"],
        text: PromptStates,
        views: Views,
        *,
        total: int,
    ) -> tuple[Float[Tensor, "n k x y z"], dict[str, Tensor]]:
        """Perceive what a first pass, without an occupancy, estimates; its losses are weighed by the noise level."""
        stage = self.stage
        mutual = stage if isinstance(stage, MutualConfig) else None
        teaches = mutual is not None and mutual.perception_teaches_generation > 0
        with torch.set_grad_enabled(torch.is_grad_enabled() and teaches):
            images = self._imagine(noisy, step, text, views, direct=mutual is not None and mutual.perceives == "noisy")
            if mutual is not None:
                flows = mutual.perception_teaches_generation * (self.schedule.signal_at(step) >= mutual.readable)
                still = images.detach()
                images = still + flows[:, None, None, None, None] * (images - still)  # the gradient alone is less
        seen = with_images(batch, images, self.schedule.level(step))
        with torch.set_grad_enabled(torch.is_grad_enabled() and mutual is not None):
            frames = perceived(seen, self.config.clip)
            prediction = predict(self.perception, frames)
        found: dict[str, Tensor] = {}
        if mutual is not None and mutual.occupancy:
            every = self.config.clip.num_volumes
            current = prediction if every == 1 else prediction.take(range(0, len(prediction.logits), every))
            found = self._gated(current, replace(seen, inputs=None), step, mutual.gate, mutual.occupancy / total)
        return prediction.logits, found

    def _imagine(
        self,
        noisy: Float[Tensor, "b v c h w"],
        step: Int64[Tensor, "b"],
        text: PromptStates,
        views: Views,
        *,
        direct: bool,
    ) -> Float[Tensor, "b v 3 h w"]:
        """Return the images, RGB 0..255, that a first pass takes for what is under the noise; or those under it."""
        clean = noisy
        if not direct:
            shape = (len(noisy), self.config.clip.num_volumes, self.taxonomy.num_classes, *self.config.grid.shape)
            absent = torch.zeros(len(noisy), dtype=torch.bool, device=noisy.device)
            guess = self.denoiser(
                noisy,
                step,
                text,
                num_times=self.config.clip.num_frames,
                occupancy=noisy.new_zeros(()).expand(shape),
                views=views,
                present=absent,
            )
            clean = self.schedule.estimate(guess, noisy, step)
        return colour_images(self.codec.decode(clean.flatten(0, 1))).unflatten(0, noisy.shape[:2])

    def _noised_losses(self, batch: Batch, stage: ApartConfig) -> dict[str, Tensor]:
        """Return perception's losses on photographs with noise at the levels at which the denoiser sees them."""
        rows = (torch.rand(batch.size) < stage.noised).nonzero()[:, 0].tolist()
        if not rows:
            return {}
        part = batch.take(rows)
        images = signed_images(part.images.flatten(1, 2))
        with torch.no_grad():
            clean = self.codec.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
            step = self.schedule.draw(len(rows), images.device)
            noisy = self.schedule.add_noise(clean, torch.randn_like(clean), step)
            noisy = colour_images(self.codec.decode(noisy.flatten(0, 1))).unflatten(0, images.shape[:2])
        seen = replace(with_images(part, noisy, self.schedule.level(step)), inputs=None)
        return self._gated(predict(self.perception, seen), seen, step, stage.gate, 1.0 / batch.size)

    def _offline_losses(self, batch: Batch, stage: OfflineConfig) -> dict[str, Tensor]:
        """Return perception's losses on scenes that were made before."""
        assert self.scenes is not None
        scenes = self.scenes.of(self, batch, self._texts(batch))
        if scenes is None:
            return {}
        told = losses(self.perception, predict(self.perception, scenes), scenes)
        share = stage.weight * scenes.size / batch.size
        return {f"drawn_{name}": share * value for name, value in told.items()}

    def _gated(
        self, prediction: Prediction, batch: Batch, step: Int64[Tensor, "b"], gate: Gate, weight: float
    ) -> dict[str, Tensor]:
        """Return perception's losses on each sample, weighed by its noise level, and summed."""
        gates = weight * self.schedule.gate(step, gate)
        found: dict[str, Tensor] = {}
        for row, (said, factor) in enumerate(zip(prediction.unbind(), gates, strict=True)):
            for name, value in losses(self.perception, said, batch.take([row])).items():
                key = f"occupancy_{name}"
                found[key] = found.get(key, value.new_zeros(())) + factor * value
        return found

    def _read(self, batch: Batch, drop: float) -> PromptStates:
        """Return the texts of a batch, encoded, a share of them empty."""
        lines = self._texts(batch)
        dropped: Bool[Tensor, "b"] = torch.rand(batch.size) < drop
        texts = ["" if gone else line for gone, line in zip(dropped.tolist(), lines, strict=True)]
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.prompts.trainable and self.stage.trains.prompts):
            return self.prompts(texts)

    def _texts(self, batch: Batch) -> tuple[str, ...]:
        """Return a line of text a frame: its caption, or what its label holds."""
        if batch.captions is not None:
            return batch.captions
        label = batch.occupancy
        if label is None:
            raise ConfigError(f"OccScene: frame {batch.tokens[0]} (or one beside it) has neither text nor label")
        return tuple(describe_label(label, i, self.taxonomy) for i in range(batch.size))

    def _volumes(self, logits: Float[Tensor, "n k x y z"]) -> Float[Tensor, "b t k x y z"]:
        """Return class probabilities, the volumes of a clip together."""
        return logits.movedim(1, -1).softmax(dim=-1).movedim(-1, 1).unflatten(0, (-1, self.config.clip.num_volumes))

    def _check(self, batch: Batch) -> None:
        if batch.grid != self.config.grid:
            raise ConfigError(f"OccScene: made for the grid {self.config.grid}, the data has {batch.grid}")
        if batch.images.shape[1] < self.config.clip.num_frames:
            raise ConfigError(
                f"OccScene: draws {self.config.clip.num_past} past frames, the batch has {batch.images.shape[1] - 1}; "
                "set DataConfig.num_past"
            )
        if batch.occupancy is None and not (isinstance(self.stage, ApartConfig) and not self.stage.perception):
            raise ConfigError(f"OccScene: frame {batch.tokens[0]} (or one beside it) has no label to learn from")

    def draw(
        self,
        prompts: Sequence[str],
        cameras: Cameras,
        *,
        steps: int,
        seeds: Sequence[int],
        guidance: float | None = None,
        occupancy: Occupancy | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw scenes, else with the defaults of `sampling.SamplingConfig`; see `training.system.DrawsScenes`.

        Raises:
            ConfigError: as `sampling.generate`.
        """
        from occkit.systems.occscene.sampling import SamplingConfig, generate_batch  # which draws with this class

        sampling = SamplingConfig(steps=steps)
        if guidance is not None:
            sampling = replace(sampling, guidance=guidance)
        known = None if occupancy is None else label_volumes(occupancy, self.taxonomy, self.config.clip)
        drawn = generate_batch(self, prompts, cameras, sampling=sampling, seeds=seeds, occupancy=known)
        return torch.stack([one.images for one in drawn]), torch.stack([one.semantics[0] for one in drawn])

    @torch.no_grad()
    def estimation_errors(self, batch: Batch, *, seeds: Sequence[int], told: bool = False) -> Float[Tensor, "b"]:
        """Return how far the estimates of noised images lie from them; see `training.system.DrawsScenes`.

        Mean squared error of `z_0`, averaged over noise levels from 20 % to 95 %. The occupancy, if there is a way for
        it to come in, is what perception reads in a first estimate, as in training, or the label.

        Raises:
            ConfigError: as `loss`.
        """
        batch = batch.to(next(self.parameters()).device)
        self._check(batch)
        times, views = self.config.clip.num_frames, views_of(batch.cameras, self.config.clip)
        images = signed_images(batch.images[:, :times].flatten(1, 2))
        clean = self.codec.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        text, present = self.prompts(list(self._texts(batch))), torch.ones_like(clean[:, 0, 0, 0, 0], dtype=torch.bool)
        found = clean.new_zeros(batch.size)
        for share in _COMPARED_AT:
            step = torch.full((batch.size,), round(share * self.schedule.steps) - 1, device=clean.device)
            noise = torch.stack([torch.randn(clean.shape[1:], generator=one) for one in generators]).to(clean)
            noisy, shown = self.schedule.add_noise(clean, noise, step), None
            if told and batch.occupancy is not None:
                shown = label_volumes(batch.occupancy, self.taxonomy, self.config.clip)
            elif self.config.alignment is not None:
                imagined = self._imagine(noisy, step, text, views, direct=False)
                seen = perceived(with_images(batch, imagined, self.schedule.level(step)), self.config.clip)
                shown = self._volumes(predict(self.perception, seen).logits)
            guess = self.denoiser(noisy, step, text, num_times=times, occupancy=shown, views=views, present=present)
            found += (self.schedule.estimate(guess, noisy, step) - clean).square().flatten(1).mean(dim=1)
        return found / len(_COMPARED_AT)

    def start_from(self, folder: Path) -> tuple[str, ...]:
        """Take over a run of this system, a run of the perception network, or a folder of Stable Diffusion.

        Alignments of another config begin anew: parameters of the same name mean something else in another kind.

        Raises:
            DataError: naming what does not fit.
        """
        if is_diffusers_folder(folder):
            parts = load_diffusers_folder(
                folder, denoiser=self.denoiser, codec=self.codec, prompts=self.prompts, schedule=self.schedule
            )
            prefixes = {"unet": "denoiser.unet.", "vae": "codec.", "text_encoder": "prompts."}
            return tuple(n for n in self.state_dict() if n.startswith(tuple(prefixes[part] for part in parts)))
        if not (folder / RECIPE_FILE).is_file():
            raise DataError(
                folder, f"has neither {RECIPE_FILE} nor unet/config.json", "give a run, or a Stable Diffusion folder"
            )
        path = newest_weights(folder)
        earlier, tensors = read_recipe(folder).system, read_tensors(path)
        own = isinstance(earlier, OccSceneConfig)
        if own and earlier.alignment != self.config.alignment:
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_ALIGNMENTS)}
        taken = load_fitting(self, tensors, path, prefix="" if own else "perception.")
        if self.scenes is not None:
            self.scenes.remember(self.perception)
        return taken
