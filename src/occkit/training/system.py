"""What training asks of a method: a config that builds it, a forward pass and named losses."""

from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import Cameras
from occkit.nn.depth import DepthBins
from occkit.samples import Batch, Occupancy, Prediction


@runtime_checkable
class System(Protocol):
    """A method: an `nn.Module` that turns a batch into a prediction and says how wrong that was."""

    def forward(self, batch: Batch) -> Prediction:
        """Predict; uses the inputs of the batch and, outside of training, never its labels."""
        ...

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return named scalar losses, each already weighted; training minimises their sum."""
        ...


@runtime_checkable
class SystemConfig(Protocol):
    """A frozen dataclass that holds every choice of a method, and builds it."""

    def build(self) -> nn.Module:
        """Return the module, freshly initialised from torch's random state; it must be a `System`."""
        ...


@runtime_checkable
class RendersDepth(Protocol):
    """A method that can also say how far each pixel of the current images is."""

    def render_depth(self, prediction: Prediction, batch: Batch) -> Tensor:
        """Return z-depth `[b, n, h, w]` at the pixels of the current images, metres, from a prediction of the batch."""
        ...


@runtime_checkable
class ScoresDepth(Protocol):
    """A method one part of which scores how far away the cells of images are (`Prediction.depth_logits`)."""

    @property
    def depth_bins(self) -> DepthBins:
        """What the scores are of."""
        ...


@runtime_checkable
class HasThreshold(Protocol):
    """A method whose voxels are occupied from a density on that somebody has to choose."""

    threshold: float
    """That density; read at each prediction."""

    @property
    def thresholds(self) -> Sequence[float]:
        """Densities worth trying."""
        ...


@runtime_checkable
class AnswersWords(Protocol):
    """A method whose voxels can be compared with any words, trained on or not."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words that name the classes: what a query competes with."""
        ...

    def encode_words(self, words: Sequence[str]) -> Tensor:
        """Return a vector `[p, c]` of length 1 a word or phrase, in the space of the method's text encoder.

        Raises:
            ConfigError: if the method has no encoder for words outside of its vocabulary.
        """
        ...

    def score_words(self, prediction: Prediction, vectors: Tensor) -> Tensor:
        """Return the cosine `[b, p, x, y, z]` of every voxel's vector with those of words, -1..1.

        Whether there is anything in the voxel plays no part.

        Args:
            prediction: of the method itself.
            vectors: `[p, c]`, from `encode_words`.
        """
        ...


@runtime_checkable
class DrawsScenes(Protocol):
    """A method that draws what a text says, as cameras would see it, and the occupancy that belongs to it."""

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
        """Draw scenes at once; the same arguments draw the same.

        Args:
            prompts: what to draw, a text a scene; longer than the method reads, its end is left out.
            cameras: `[b, t, n]`, time 0 is now, at the size of the images.
            steps: denoising steps.
            seeds: what decides everything random in each scene.
            guidance: scale of the text, 1 follows the model; None leaves it to the method.
            occupancy: of the present frames, to draw for; None leaves it to the method.

        Returns:
            Images `[b, t, n, 3, h, w]` and ids `[b, x, y, z]` of the present frames, uint8.
        """
        ...

    def estimation_errors(self, batch: Batch, *, seeds: Sequence[int], told: bool = False) -> Float[Tensor, "b"]:
        """Take noise off the images of a batch, and return how far what is left lies from them; unlike distances of
        drawings, hardly a matter of chance.

        Args:
            batch: photographs, with their texts and labels.
            seeds: what decides the noise of each.
            told: show the method the label; it otherwise knows of the occupancy what it does in drawing.

        Returns:
            The mean squared error of each sample, in units of what is denoised.
        """
        ...


def build_system(config: SystemConfig) -> nn.Module:
    """Build a module and check that it is a `System`.

    Raises:
        ConfigError: if `config.build()` returns something else.
    """
    module = config.build()
    if not isinstance(module, nn.Module) or not isinstance(module, System):
        raise ConfigError(
            f"{type(config).__name__}.build() returned a {type(module).__name__}; expected an nn.Module with "
            "forward(batch) and loss(prediction, batch)"
        )
    return module


def predict(module: nn.Module, batch: Batch) -> Prediction:
    """Call a system's forward pass, hooks included."""
    return cast(Prediction, module(batch))


def losses(module: nn.Module, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
    """Call a system's losses."""
    return cast(System, module).loss(prediction, batch)


def conditional_parameters(module: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of parameters that may go without a gradient in some steps.

    A system says so with a class attribute `conditional_parameters: tuple[str, ...]`; without it every trainable
    parameter must get a gradient in every step, which is also what makes several processes fast.
    """
    names = getattr(module, "conditional_parameters", ())
    return tuple(names) if isinstance(names, tuple) else ()


def resting_parameters(module: nn.Module) -> tuple[str, ...]:
    """Return the name prefixes of parameters that the next step must leave as they are.

    A system that trains its parts one after another says so with a property `resting_parameters: tuple[str, ...]`. A
    gradient of zero would not do: momentum and weight decay move a parameter without one.
    """
    names = getattr(module, "resting_parameters", ())
    return tuple(names) if isinstance(names, tuple) else ()
