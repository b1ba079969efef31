"""What voxels ask with: the first stage's volume, the middle features lifted along depth, or learned vectors."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.depth import DepthBins
from occkit.nn.lifting import GatherLiftConfig, SplatLiftConfig
from occkit.systems.cigocc.first import FirstVolumes
from occkit.systems.cigocc.views import Shows


@dataclass(frozen=True, kw_only=True)
class ProposalQueriesConfig:
    """What the first stage says of a voxel (CIGOcc)."""

    needs_first = True

    def build(self, bins: DepthBins, channels: int, num_voxels: int) -> "ProposalQueries":
        """Return the queries; neither bins nor sizes matter."""
        del bins, channels, num_voxels
        return ProposalQueries()


class ProposalQueries(nn.Module):
    """See `ProposalQueriesConfig`. Source: Xu et al., "CIGOcc", ICRA 2025, by its figure."""

    def forward(self, shows: Shows, first: FirstVolumes | None, grid: VoxelGrid) -> Float[Tensor, "b v c"]:
        """Return one row a voxel.

        Args:
            shows: what the images show.
            first: what the first stage says.
            grid: the voxels.
        """
        del shows, grid
        assert first is not None
        assert first.queries is not None
        return first.queries


@dataclass(frozen=True, kw_only=True)
class ContextQueriesConfig:
    """The middle features lifted along their depth (CGFormer's context-aware queries)."""

    lift: SplatLiftConfig | GatherLiftConfig = field(default_factory=SplatLiftConfig)
    """From pixels to voxels; without further channels."""
    table: bool = False
    """Add a learned vector a voxel: CGFormer's code has these 33.6 million parameters, its paper's count has not. It
    binds the network to its grid."""

    needs_first = False

    def __post_init__(self) -> None:
        if isinstance(self.lift, GatherLiftConfig) and self.lift.surface_channels:
            raise ConfigError("ContextQueries: set surface_channels of the lift to False; queries have a fixed width")

    def build(self, bins: DepthBins, channels: int, num_voxels: int) -> "ContextQueries":
        """Return the queries for so many channels and voxels."""
        return ContextQueries(self, bins, channels, num_voxels)


class ContextQueries(nn.Module):
    """See `ContextQueriesConfig`. Source: Yu et al., "CGFormer", NeurIPS 2024."""

    def __init__(self, config: ContextQueriesConfig, bins: DepthBins, channels: int, num_voxels: int) -> None:
        super().__init__()
        self.lift = config.lift.build(bins, channels)
        self.table = _table(num_voxels, channels) if config.table else None

    def forward(self, shows: Shows, first: FirstVolumes | None, grid: VoxelGrid) -> Float[Tensor, "b v c"]:
        """Return one row a voxel; arguments as in `ProposalQueries.forward`."""
        del first
        rows = self.lift(shows.context, shows.depth, shows.cameras, grid).flatten(2).transpose(1, 2)
        return rows if self.table is None else rows + _fitting(self.table, grid)


@dataclass(frozen=True, kw_only=True)
class TableQueriesConfig:
    """A learned vector a voxel, the same for every image (VoxFormer); the network is bound to its grid."""

    needs_first = False

    def build(self, bins: DepthBins, channels: int, num_voxels: int) -> "TableQueries":
        """Return the queries for so many channels and voxels."""
        del bins
        return TableQueries(channels, num_voxels)


class TableQueries(nn.Module):
    """See `TableQueriesConfig`. Source: Li et al., "VoxFormer", CVPR 2023."""

    def __init__(self, channels: int, num_voxels: int) -> None:
        super().__init__()
        self.table = _table(num_voxels, channels)

    def forward(self, shows: Shows, first: FirstVolumes | None, grid: VoxelGrid) -> Float[Tensor, "b v c"]:
        """Return one row a voxel; arguments as in `ProposalQueries.forward`."""
        del first
        return _fitting(self.table, grid).expand(shows.context.shape[0], -1, -1)


def _table(num_voxels: int, channels: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(num_voxels, channels) * 0.02)


def _fitting(table: Tensor, grid: VoxelGrid) -> Tensor:
    if len(table) != grid.num_voxels:
        raise ConfigError(
            f"CigOcc: queries were learned for {len(table):,} voxels, the data has {grid.num_voxels:,}; take a recipe "
            "for its grid, or context queries without a table"
        )
    return table


QueryConfig = ProposalQueriesConfig | ContextQueriesConfig | TableQueriesConfig
"""What voxels ask with."""
