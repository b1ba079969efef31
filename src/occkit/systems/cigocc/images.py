"""The images' branch alone: what other trainings start from."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import KITTI_GRID, VoxelGrid
from occkit.losses import classes_of_cells, cross_entropy
from occkit.nn.depth import DepthBins
from occkit.samples import Batch, Prediction
from occkit.systems.cigocc.network import scored_depth_loss
from occkit.systems.cigocc.views import MonoDepthConfig, StereoDepthConfig, ViewsConfig
from occkit.taxonomy import TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class CigOccImagesConfig:
    """Middle features that learn the classes of what the LiDAR hits, and depth where they score it.

    CGFormer's image network learns so before all else; the others' begin with weights of ImageNet.
    """

    taxonomy: str = "semantickitti"
    """Name of the classes."""
    grid: VoxelGrid = KITTI_GRID
    """Volume whose labels name the classes."""
    channels: int = 128
    """Width of the middle features."""
    views: ViewsConfig = field(default_factory=ViewsConfig)
    """The branch, as in the network that starts from it."""
    classes: float = 1.0
    """Weight of the cross-entropy of each image cell against the voxel that its nearest LiDAR point hits. CGFormer
    takes the classes of the points themselves."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each id there; None is 1."""
    depth: float = 0.0
    """Weight of the divergence of a scored depth distribution from the LiDAR's."""
    doubled_depth: bool = False
    """Put that target at twice the depth, as CGFormer's code does; for reproduction."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"CigOccImages: taxonomy {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")
        if not self.views.present:
            raise ConfigError("CigOccImages: without images there is nothing to learn; set views.present to True")
        if self.depth and not isinstance(self.views.depth, MonoDepthConfig | StereoDepthConfig):
            raise ConfigError("CigOccImages: only a network's depth can learn; set depth to 0")
        if not (self.classes or self.depth):
            raise ConfigError("CigOccImages: classes and depth are both 0; nothing would learn")

    def build(self) -> "CigOccImages":
        """Return the network, freshly initialised."""
        return CigOccImages(self)


class CigOccImages(nn.Module):
    """See `CigOccImagesConfig`. Source: Yu et al., "CGFormer", NeurIPS 2024, its pre-training."""

    def __init__(self, config: CigOccImagesConfig) -> None:
        super().__init__()
        self.config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        self.views = config.views.build(config.channels)
        self.classify = nn.Conv2d(config.channels, self.taxonomy.num_classes, 1) if config.classes else None

    @property
    def depth_bins(self) -> DepthBins:
        """What `Prediction.depth_logits` are scores of, where a network scores depth."""
        return self.views.bins

    def forward(self, batch: Batch) -> Prediction:
        """Score the classes of image cells, and their depth; the scores of voxels are all zero.

        Raises:
            ConfigError: if the batch has other classes, or lacks an input that the config asks for.
        """
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(
                f"CigOccImages: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}"
            )
        shows = self.views(batch)
        image_logits = None
        if self.classify is not None:
            image_logits = self.classify(shows.context.flatten(0, 1)).unflatten(0, shows.context.shape[:2])
        shape = (batch.size, self.taxonomy.num_classes, *batch.grid.shape)
        return Prediction(
            logits=shows.context.new_zeros(()).expand(shape),
            grid=batch.grid,
            taxonomy=batch.taxonomy,
            depth_logits=shows.depth_logits,
            image_logits=image_logits,
        )

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if the batch lacks the label or the LiDAR depth.
        """
        losses = dict[str, Tensor]()
        if prediction.image_logits is not None:
            losses["classes"] = self.config.classes * self._class_loss(prediction.image_logits, batch)
        if self.config.depth:
            value = scored_depth_loss(prediction, batch, self.views.bins, doubled=self.config.doubled_depth)
            losses["depth"] = self.config.depth * value
        return losses

    def _class_loss(self, scores: Tensor, batch: Batch) -> Tensor:
        if batch.depth is None:
            raise ConfigError(
                f"CigOccImages: classes need LiDAR depth, frame {batch.tokens[0]} (or one beside it) has none; "
                f"set DataConfig.load_depth, and see that its LiDAR file is there"
            )
        if batch.occupancy is None:
            raise ConfigError(f"CigOccImages: frame {batch.tokens[0]} (or one beside it) has no label to learn from")
        count, size = scores.shape[1], (int(scores.shape[3]), int(scores.shape[4]))
        shown = classes_of_cells(batch.depth[:, :count], batch.cameras[:, 0, :count], batch.occupancy, size)
        weights = None if self.config.class_weights is None else scores.new_tensor(self.config.class_weights)
        ignored = self.taxonomy.ignore_id
        return cross_entropy(scores.transpose(1, 2), shown, ignore_id=ignored, weights=weights)
