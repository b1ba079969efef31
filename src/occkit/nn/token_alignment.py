"""Occupancy cut into tokens, mixed, added to a diffusion latent: what dual alignment shares with its nearest rival."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.camera_encoding import CameraEncodingConfig, Views


@dataclass(frozen=True, kw_only=True)
class TokensConfig:
    """How lifted occupancy becomes tokens, and tokens what is added to the latent."""

    width: int = 64
    """Channels of a token."""
    patch: int = 1
    """Rows and columns of the latent in one token; 2 where the latent has thousands of places."""
    depths: int = 1
    """Tokens along the ray of a place; they share the depth bins out."""
    sees_latent: bool = False
    """Add the latent, cut into the same patches, to the tokens before they are mixed. Not in OccScene's figure, where
    the latent comes in afterwards; without it the same occupancy always adds the same."""
    zero: bool = True
    """Start the last layer at zero: the latent is at first left as it is. False is an ablation."""

    def __post_init__(self) -> None:
        for name in ("width", "patch", "depths"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Tokens: {name} must be at least 1, got {getattr(self, name)}")


class TokenAlignment(nn.Module):
    """`L + unpatch(zero(mix(patches(X))))`, X from `CameraEncoding`.

    Source: Li et al. 2024 (OccScene), figure of Mamba-based Dual Alignment: patch embeddings, zero convolution, sum.
    The figure adds the result to the patches of the latent; only their difference is added here, so that a latent
    survives untouched at first.
    """

    def __init__(
        self,
        config: TokensConfig,
        encoding: CameraEncodingConfig,
        mixer: nn.Module,
        *,
        latent_channels: int,
        num_classes: int,
        grid: VoxelGrid,
    ) -> None:
        """Put the parts together.

        Args:
            config: sizes of tokens.
            encoding: how occupancy is lifted.
            mixer: from and to tokens `[b, v, rows, columns, depths, width]`.
            latent_channels: of the latent.
            num_classes: of the occupancy.
            grid: of the occupancy.

        Raises:
            ConfigError: if the depth bins cannot be shared out among the depth tokens.
        """
        super().__init__()
        if encoding.depths % config.depths:
            raise ConfigError(f"Tokens: {config.depths} do not share out {encoding.depths} depth bins evenly")
        self.patch = config.patch
        self.encoding = encoding.build(num_classes=num_classes, grid=grid)
        kernel = (encoding.depths // config.depths, config.patch, config.patch)
        self.embed = nn.Conv3d(encoding.channels, config.width, kernel, stride=kernel)
        self.latent = None
        if config.sees_latent:
            self.latent = nn.Conv2d(latent_channels, config.width, config.patch, stride=config.patch)
        self.mixer = mixer
        self.out = nn.Linear(config.depths * config.width, config.width)
        if config.zero:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)
        self.unpatch = nn.ConvTranspose2d(config.width, latent_channels, config.patch, stride=config.patch, bias=False)

    def forward(
        self,
        latent: Float[Tensor, "b v c h w"],
        occupancy: Float[Tensor, "b t k x y z"],
        views: Views,
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c h w"]:
        """Return the latent with what the occupancy says of it; see `occkit.nn.alignment`.

        Raises:
            ValueError: if the patches do not divide the latent, or occupancy and views do not fit.
        """
        size = check_latent(latent, views, self.patch)
        encoded = self.encoding(occupancy, views, size, present)
        tokens = self.embed(encoded.flatten(0, 1)).unflatten(0, latent.shape[:2])  # [b, v, c, k, i, j]
        tokens = tokens.permute(0, 1, 4, 5, 3, 2)
        if self.latent is not None:
            patches = self.latent(latent.flatten(0, 1)).unflatten(0, latent.shape[:2])
            tokens = tokens + patches.movedim(2, -1)[:, :, :, :, None]
        mixed = self.out(self.mixer(tokens).flatten(-2))
        residual = self.unpatch(mixed.flatten(0, 1).movedim(-1, 1))
        return latent + residual.unflatten(0, latent.shape[:2]).to(latent.dtype)


def check_latent(latent: Float[Tensor, "b v c h w"], views: Views, patch: int) -> tuple[int, int]:
    """Return rows and columns of the latent.

    Raises:
        ValueError: if it has more or fewer images than there are views, or patches do not divide it.
    """
    height, width = int(latent.shape[3]), int(latent.shape[4])
    if latent.shape[1] != len(views.times):
        raise ValueError(f"latent: expected {len(views.times)} images, one a view, got {tuple(latent.shape)}")
    if height % patch or width % patch:
        raise ValueError(f"latent: patches of {patch} x {patch} do not divide {height} x {width}; use a smaller patch")
    return height, width
