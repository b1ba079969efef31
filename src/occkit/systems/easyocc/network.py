"""The network of EasyOcc: what OccNeRF keeps when nothing is rendered."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import OCC3D_GRID, VoxelGrid
from occkit.losses import VoxelLossConfig, voxel_losses
from occkit.nn.camera_volume import CameraVolumeConfig
from occkit.samples import Batch, Prediction
from occkit.taxonomy import TAXONOMIES, Taxonomy


@dataclass(frozen=True, kw_only=True)
class EasyOccConfig:
    """The streamlined network and its one loss, on whatever labels the data shows (`DataConfig.labels`)."""

    taxonomy: str = "occ3d"
    """Name of the classes to predict."""
    grid: VoxelGrid = OCC3D_GRID
    """Volume that the network is meant for; plain, because labels end where it does."""
    network: CameraVolumeConfig = field(default_factory=CameraVolumeConfig)
    """From images to scores."""
    loss: VoxelLossConfig = field(default_factory=lambda: VoxelLossConfig(mask_camera_in_training=False))
    """Cross-entropy and Lovász on all voxels: those without a point are free. The weights are ours: the paper is
    silent. `mask_camera_in_training` learns from those alone that a ray of the frame passes or hits."""

    def __post_init__(self) -> None:
        if self.taxonomy not in TAXONOMIES:
            raise ConfigError(f"EasyOccConfig.taxonomy: {self.taxonomy!r} is none of {', '.join(TAXONOMIES)}")

    def build(self) -> "EasyOcc":
        """Return the network, freshly initialised."""
        return EasyOcc(self)


class EasyOcc(nn.Module):
    """See `EasyOccConfig`. Source: Hayes et al., "EasyOcc", arXiv 2509.26087, the right half of its figure."""

    def __init__(self, config: EasyOccConfig) -> None:
        super().__init__()
        self.config = config
        self.taxonomy: Taxonomy = TAXONOMIES[config.taxonomy]
        self.network = config.network.build(config.grid.shape, self.taxonomy.num_classes)

    def forward(self, batch: Batch) -> Prediction:
        """Predict from the current images.

        Raises:
            ConfigError: if the batch has other classes than the network.
        """
        if batch.taxonomy.name != self.taxonomy.name:
            raise ConfigError(
                f"EasyOcc: made for the classes of {self.taxonomy.name}, the data has {batch.taxonomy.name}"
            )
        logits = self.network(batch.images[:, 0], batch.cameras[:, 0], batch.grid)
        return Prediction(logits=logits, grid=batch.grid, taxonomy=batch.taxonomy)

    def loss(self, prediction: Prediction, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses by name.

        Raises:
            ConfigError: if a frame has no label, or no camera mask where the config asks for one.
        """
        if batch.occupancy is None:
            raise ConfigError(
                f"EasyOcc: frame {batch.tokens[0]} (or one beside it) has no label to learn from; make pseudo-labels "
                "with occkit label, and set DataConfig.labels to their folder"
            )
        return voxel_losses(self.config.loss, prediction.logits, batch.occupancy, self.taxonomy)
