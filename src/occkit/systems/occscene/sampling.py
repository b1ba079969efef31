"""Drawing a scene from text: at every few steps perception reads the estimate, and the next steps know what it read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.nn.noise_schedules import SCHEDULERS
from occkit.samples import Batch
from occkit.systems.occscene.network import OccScene
from occkit.systems.occscene.views import colour_images, perceived, views_of
from occkit.training.system import predict

MAX_SEED = 2**63 - 1
"""Largest seed."""
MAX_FRAMES = 64
"""Most frames that are drawn together."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How to draw."""

    scheduler: str = "ddim"
    """Way of sampling: ddim, ddpm, dpm++, euler, euler-ancestral or unipc."""
    steps: int = 50
    """Denoising steps."""
    guidance: float = 3.0
    """Scale of the text: 1 follows the model, more follows the prompt harder. Stable Diffusion's habit is 7.5."""
    occupancy_guidance: float = 1.0
    """Scale of the occupancy: 1 follows the model, more follows the occupancy harder at one more pass a step."""
    reads: bool = True
    """Let perception read the estimates on the way; without, the images follow the text alone."""
    every: int = 1
    """Read the estimate at every so many steps."""
    readable: float = 0.02
    """Not before this much of the image (`a_t`) is there."""
    average: float = 0.0
    """Share of what was read before that is kept at each reading: less flicker."""
    temperature: float = 1.0
    """Divides perception's scores; above 1 it is shown as less sure."""

    def __post_init__(self) -> None:
        if self.scheduler not in SCHEDULERS:
            raise ConfigError(f"scheduler {self.scheduler!r}: there is {', '.join(SCHEDULERS)}")
        if self.steps < 1 or self.every < 1:
            raise ConfigError(f"steps and every must be at least 1, got {self.steps} and {self.every}")
        if not (0 <= self.guidance <= 100 and 0 <= self.occupancy_guidance <= 100):
            scales = (self.guidance, self.occupancy_guidance)
            raise ConfigError(f"guidance and occupancy_guidance must lie in 0..100, got {scales}")
        if not 0 <= self.average < 1 or not 0 <= self.readable <= 1 or not self.temperature > 0:
            raise ConfigError(f"average must lie in 0..1, readable in 0..1, temperature above 0: {self}")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A scene that was drawn."""

    images: UInt8[Tensor, "t n 3 h w"]
    """RGB; time 0 is now and time grows into the past."""
    probabilities: Float[Tensor, "v k x y z"]
    """Of the classes: of the present frame, or of each frame where the model has a volume for each."""

    @property
    def semantics(self) -> UInt8[Tensor, "v x y z"]:
        """The most likely ids."""
        return self.probabilities.argmax(dim=1).to(torch.uint8)


def generate(
    model: OccScene,
    prompt: str,
    cameras: Cameras,
    *,
    sampling: SamplingConfig,
    seed: int,
    occupancy: Float[Tensor, "v k x y z"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Drawn:
    """Draw what a prompt says, as cameras would see it. The same arguments give the same bytes on the same machine.

    Args:
        model: in evaluation mode.
        prompt: what to draw.
        cameras: `[t, n]`, time 0 is now; their size is that of the images. Any number of frames: a model that was
            trained with fewer ties them together by the occupancy, and by attention that never saw so many.
        sampling: how.
        seed: decides everything random.
        occupancy: class probabilities to draw for, known from the beginning; None reads them from the estimates.
        progress: called with steps done and all steps, after each.

    Raises:
        ConfigError: if prompt, size, number of frames, scheduler, steps or occupancy do not suit the model.
    """
    drawn = generate_batch(
        model,
        (prompt,),
        cameras.map(lambda tensor: tensor[None]),
        sampling=sampling,
        seeds=(seed,),
        occupancy=None if occupancy is None else occupancy[None],
        progress=progress,
    )
    return drawn[0]


@torch.no_grad()
def generate_batch(
    model: OccScene,
    prompts: Sequence[str],
    cameras: Cameras,
    *,
    sampling: SamplingConfig,
    seeds: Sequence[int],
    occupancy: Float[Tensor, "b v k x y z"] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Drawn]:
    """Draw several scenes at once, each as `generate` draws it but for rounding.

    Args:
        model: in evaluation mode.
        prompts: one a scene.
        cameras: `[b, t, n]`.
        sampling: how.
        seeds: one a scene.
        occupancy: see `generate`.
        progress: see `generate`.

    Raises:
        ConfigError: as `generate`.
    """
    for prompt, seed in zip(prompts, seeds, strict=True):
        model.prompts.examine(prompt)
        if not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"seed: expected 0 to {MAX_SEED}, got {seed}")
    check_cameras(model, cameras.map(lambda tensor: tensor[0]), sampling)
    loop = _Loop(model, prompts, cameras, sampling, occupancy)
    # Without an alignment nothing would come of what is read.
    reads = sampling.reads and occupancy is None and len(model.denoiser.alignments) > 0
    scheduler = model.schedule.scheduler(sampling.scheduler, sampling.steps)
    random = [torch.Generator().manual_seed(seed) for seed in seeds]
    noisy = torch.stack([torch.randn(loop.shape, generator=of_scene) for of_scene in random]).to(loop.device)
    noisy = noisy * float(scheduler.init_noise_sigma)
    for i, time in enumerate(scheduler.timesteps):
        step = time.round().long().clamp(0, model.schedule.steps - 1).to(loop.device)
        # Some schedulers keep another scale than the model's.
        seen = scheduler.scale_model_input(noisy, time)
        guess = loop.predict(seen, step)
        readable = float(model.schedule.signal[int(step)]) > sampling.readable
        if reads and i % sampling.every == 0 and readable:
            loop.read(seen, guess, step)
        options = {} if sampling.scheduler == "unipc" else {"generator": random}
        noisy = scheduler.step(guess, time, noisy, **options).prev_sample
        if progress is not None:
            progress(i + 1, sampling.steps)
    images = colour_images(model.codec.decode(noisy.flatten(0, 1))).round().unflatten(0, tuple(cameras.batch_shape))
    said = loop.scores(images, None).softmax(dim=2).float().cpu()
    shown = images.to(torch.uint8).cpu()
    return [Drawn(images=shown[b], probabilities=said[b]) for b in range(len(prompts))]


def check_cameras(model: OccScene, cameras: Cameras, sampling: SamplingConfig) -> None:
    """See that a model can draw for cameras in some way, before anything is drawn.

    Raises:
        ConfigError: naming the size, the number of frames or of steps that do not suit it.
    """
    shared = model.config.clip.volumes == "shared"
    times, needed = int(cameras.batch_shape[0]), 1 + (getattr(model.config.perception, "num_past", 0) if shared else 0)
    if not needed <= times <= MAX_FRAMES:
        raise ConfigError(f"frames: this model draws {needed} to {MAX_FRAMES} together, got {times}")
    factor = model.codec.factor
    if cameras.height % factor or cameras.width % factor:
        size = f"{cameras.height} x {cameras.width}"
        raise ConfigError(f"cameras: the model draws sizes that are multiples of {factor}, not {size}")
    if sampling.steps > model.schedule.steps:
        raise ConfigError(f"steps: expected 1 to {model.schedule.steps}, the noise levels, got {sampling.steps}")


class _Loop:
    """What stays the same while scenes are drawn, and the occupancy, which does not."""

    def __init__(
        self,
        model: OccScene,
        prompts: Sequence[str],
        cameras: Cameras,
        sampling: SamplingConfig,
        occupancy: Tensor | None,
    ) -> None:
        config = model.config
        self.batch, times, count = (int(size) for size in cameras.batch_shape)
        self.model, self.sampling = model, sampling
        self.clip = replace(config.clip, num_past=times - 1)
        self.device = next(model.parameters()).device
        factor = model.codec.factor
        self.shape = (times * count, model.codec.channels, cameras.height // factor, cameras.width // factor)
        self.cameras = cameras.map(lambda tensor: tensor.to(self.device))
        self.views = views_of(self.cameras, self.clip)
        self.texts = model.prompts((*prompts, ""))
        volumes = (self.batch, self.clip.num_volumes, model.taxonomy.num_classes, *config.grid.shape)
        self.known = occupancy is not None
        self.occupancy = torch.zeros(volumes, device=self.device)
        if occupancy is not None:
            if tuple(occupancy.shape) != volumes:
                given = tuple(occupancy.shape[1:])
                raise ConfigError(f"occupancy: expected {volumes[1:]} as the model has, got {given}")
            self.occupancy = occupancy.to(self.device)

    def predict(self, noisy: Tensor, step: Tensor) -> Tensor:
        """Return the model's prediction, guided: text against none, occupancy against none.

        `e = e(none, X0) + g_t (e(text, X0) - e(none, X0)) + g_o (e(text, X) - e(text, X0))`, where `X0` is the unknown
        occupancy if it is guided too, and X itself if not.
        """
        scale, other = self.sampling.guidance, self.sampling.occupancy_guidance
        plain = other == 1.0 or not self.known
        asked = [(True, self.known and plain)]
        asked += [] if scale == 1.0 and plain else [(False, self.known and plain)]
        asked += [] if plain else [(True, True)]
        answers = self._ask(noisy, step, asked)
        if len(asked) == 1:
            return answers[0]
        text, none = answers[0], answers[1]
        guided = none + scale * (text - none)
        return guided if plain else guided + other * (answers[2] - text)

    def _ask(self, noisy: Tensor, step: Tensor, asked: list[tuple[bool, bool]]) -> list[Tensor]:
        """Return the predictions with the prompts or without, with the occupancy or without, all in one pass."""
        count, own = len(asked), torch.arange(self.batch)
        none = torch.full_like(own, self.batch)  # the last of the texts is empty
        which = torch.cat([own if prompted else none for prompted, _ in asked]).to(self.device)
        present = torch.tensor([known for _, known in asked], device=self.device).repeat_interleave(self.batch)
        answers = self.model.denoiser(
            noisy.repeat(count, 1, 1, 1, 1),
            step.expand(count * self.batch),
            self.texts.rows(which),
            num_times=self.clip.num_frames,
            occupancy=self.occupancy.repeat(count, 1, 1, 1, 1, 1),
            views=self.views.map(lambda v: v.repeat(count, 1, 1, 1)),
            present=present,
        )
        return list(answers.split(self.batch))

    def read(self, noisy: Tensor, guess: Tensor, step: Tensor) -> None:
        """Let perception look at the estimate, and keep what it says."""
        steps = step.expand(self.batch)
        clean = self.model.schedule.estimate(guess, noisy, steps)
        images = colour_images(self.model.codec.decode(clean.flatten(0, 1)))
        images = images.unflatten(0, (self.batch, self.clip.num_frames, -1))
        scores = self.scores(images, self.model.schedule.level(steps))
        read = (scores / self.sampling.temperature).softmax(dim=2)
        kept = self.sampling.average if self.known else 0.0
        self.occupancy = kept * self.occupancy + (1 - kept) * read
        self.known = True

    def scores(self, images: Float[Tensor, "b t n 3 h w"], level: Tensor | None) -> Float[Tensor, "b v k x y z"]:
        """Return perception's scores of images, RGB 0..255."""
        batch = Batch(
            tokens=tuple(f"drawn-{i}" for i in range(self.batch)),
            images=images,
            cameras=self.cameras,
            grid=self.model.config.grid,
            taxonomy=self.model.taxonomy,
            noise_level=level,
        )
        return predict(self.model.perception, perceived(batch, self.clip)).logits.unflatten(0, (self.batch, -1))
