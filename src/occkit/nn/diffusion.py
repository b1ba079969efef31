"""The denoiser: diffusers' UNet with text, beside it what ties its images to a volume, to each other and in time.

Where a stage of the encoder begins, and before the middle, an alignment adds what an occupancy volume says
(`nn/alignment.py`). After each stage attention may look along the frames of a camera, and along the cameras of a frame.
All of that starts as exactly nothing: a pretrained UNet is still itself.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from occkit.errors import ConfigError
from occkit.geometry import VoxelGrid
from occkit.nn.alignment import AlignmentConfig, Views
from occkit.nn.noise_level import sinusoids
from occkit.nn.noise_schedules import import_diffusers


@dataclass(frozen=True, kw_only=True)
class PromptStates:
    """What a prompt encoder says, a vector a token."""

    states: Float[Tensor, "b l d"]
    """Of each token."""
    mask: Bool[Tensor, "b l"] | None = None
    """False where there is no token; None where all count."""

    def repeat(self, times: int) -> "PromptStates":
        """Return each prompt `times` times in a row."""
        mask = None if self.mask is None else self.mask.repeat_interleave(times, dim=0)
        return PromptStates(states=self.states.repeat_interleave(times, dim=0), mask=mask)

    def rows(self, index: Tensor) -> "PromptStates":
        """Return some of the prompts."""
        return PromptStates(states=self.states[index], mask=None if self.mask is None else self.mask[index])


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """A UNet over images or latents; the defaults are Stable Diffusion 2.1-base's."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    """Width of each level; each halves the resolution of the one before."""
    attention: tuple[bool, ...] = (True, True, True, False)
    """Levels that look at the text; the middle always does."""
    heads: tuple[int, ...] = (5, 10, 20, 20)
    """Attention heads of each level."""
    layers: int = 2
    """Residual blocks of each level."""
    text_width: int = 1024
    """Width of a prompt's tokens."""
    norm_groups: int = 32
    """Groups of the normalisation; they divide every width."""
    linear_projection: bool = True
    """Into attention and out of it by linear layers, as Stable Diffusion 2 does; False is version 1's convolutions."""
    sites: tuple[int, ...] | None = None
    """Levels of the encoder where the occupancy comes in; None is all of them."""
    middle_site: bool = True
    """Let it come in before the middle, too."""
    temporal: bool = False
    """Attention along the frames of a camera, after each level."""
    across_cameras: bool = False
    """Attention along each row through all cameras of a frame, after each level."""
    checkpointing: bool = False
    """Compute the levels again in the backward pass: less memory, a third more time."""

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.attention) == len(self.heads) > 0:
            raise ConfigError(f"Denoiser: channels, attention and heads must have one length, at least 1: {self}")
        if any(width % self.norm_groups for width in self.channels):
            raise ConfigError(f"Denoiser: norm_groups {self.norm_groups} must divide every width of {self.channels}")
        if any(width % heads for width, heads in zip(self.channels, self.heads, strict=True)):
            raise ConfigError(f"Denoiser: heads {self.heads} must divide the widths {self.channels}")
        if any(not 0 <= site < len(self.channels) for site in self.sites or ()):
            raise ConfigError(f"Denoiser: sites {self.sites} are none of the levels 0 to {len(self.channels) - 1}")

    def build(
        self, *, latent_channels: int, alignment: AlignmentConfig | None, num_classes: int, grid: VoxelGrid
    ) -> "Denoiser":
        """Return the network, freshly initialised.

        Args:
            latent_channels: of what is denoised.
            alignment: how the occupancy comes in; None leaves it out.
            num_classes: of the occupancy, free included.
            grid: of the occupancy.

        Raises:
            ConfigError: if diffusers is not installed.
        """
        return Denoiser(self, latent_channels, alignment, num_classes, grid)


class Denoiser(nn.Module):
    """See `DenoiserConfig`.

    Source: Rombach et al., "High-Resolution Image Synthesis with Latent Diffusion Models", CVPR 2022; implementation of
    diffusers. Where the occupancy comes in: Li et al., "OccScene", 2024, by its figure; the levels are our choice.
    """

    def __init__(
        self,
        config: DenoiserConfig,
        latent_channels: int,
        alignment: AlignmentConfig | None,
        num_classes: int,
        grid: VoxelGrid,
    ) -> None:
        super().__init__()
        self.config = config
        self.unet: Any = build_unet(config, latent_channels)
        widths = (config.channels[0], *config.channels[:-1])  # a level begins with the width of the one before
        levels = range(len(widths)) if config.sites is None else config.sites
        self.alignments = nn.ModuleDict()
        if alignment is not None:
            places = {f"level{i}": widths[i] for i in sorted(levels)}
            if config.middle_site:
                places["middle"] = config.channels[-1]
            for name, width in places.items():
                self.alignments[name] = alignment.build(latent_channels=width, num_classes=num_classes, grid=grid)
        self.temporal = nn.ModuleDict()
        self.across = nn.ModuleDict()
        sizes = list(zip(config.channels, config.heads, strict=True))
        named = [(f"down{i}", *size) for i, size in enumerate(sizes)] + [("middle", *sizes[-1])]
        for name, width, heads in named + [(f"up{i}", *size) for i, size in enumerate(reversed(sizes))]:
            if config.temporal:
                self.temporal[name] = AxisAttention(width, heads)
            if config.across_cameras:
                self.across[name] = AxisAttention(width, heads)

    def forward(
        self,
        noisy: Float[Tensor, "b v c h w"],
        step: Int64[Tensor, "b"],
        prompts: PromptStates,
        *,
        num_times: int = 1,
        occupancy: Float[Tensor, "b t k x y z"] | None = None,
        views: Views | None = None,
        present: Bool[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b v c h w"]:
        """Return what the schedule says is to be predicted.

        Args:
            noisy: images or latents, `v` of them drawn together: time by time, camera by camera.
            step: noise level of each sample.
            prompts: one a sample.
            num_times: frames among the views.
            occupancy: class probabilities; None leaves the alignments out, as if they were not there.
            views: where the images look from; needed with an occupancy.
            present: false where the occupancy is not known.
        """
        batch, count = noisy.shape[:2]
        if count % num_times:
            raise ValueError(f"num_times: {count} views are no whole number of cameras at {num_times} times")
        unet, sample = self.unet, noisy.flatten(0, 1)
        told = prompts.repeat(count)
        text: dict[str, Any] = {"encoder_hidden_states": told.states, "encoder_attention_mask": _bias(told, sample)}
        level = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=step.repeat_interleave(count)))

        if occupancy is not None and (present is None or bool(present.any())):
            # Classes last in memory, as each of the alignments reads them, is turned around once and not by each.
            occupancy = occupancy.movedim(2, -1).contiguous().movedim(-1, 2)

        def align(name: str, x: Tensor) -> Tensor:
            if occupancy is None or views is None or name not in self.alignments:
                return x
            return self.alignments[name](x.unflatten(0, (batch, count)), occupancy, views, present).flatten(0, 1)

        def mix(name: str, x: Tensor) -> Tensor:
            x = x.unflatten(0, (batch, num_times, count // num_times))
            if name in self.temporal:
                x = self.temporal[name](x.permute(0, 2, 4, 5, 1, 3)).permute(0, 4, 1, 5, 2, 3)
            if name in self.across:
                # [b, t, h, n, w, c] -> the row of all cameras as one sequence
                rows = x.permute(0, 1, 4, 2, 5, 3)
                x = self.across[name](rows.flatten(3, 4)).unflatten(3, rows.shape[3:5]).permute(0, 1, 3, 5, 2, 4)
            return x.flatten(0, 2)

        sample = unet.conv_in(sample)
        skips: list[Tensor] = [sample]
        for i, block in enumerate(unet.down_blocks):
            sample = align(f"level{i}", sample)
            looks = text if self.config.attention[i] else {}
            sample, of_block = block(hidden_states=sample, temb=level, **looks)
            sample = mix(f"down{i}", sample)
            skips += of_block
        sample = mix("middle", unet.mid_block(align("middle", sample), level, **text))
        for i, block in enumerate(unet.up_blocks):
            taken = len(block.resnets)
            skips, of_block = skips[:-taken], tuple(skips[-taken:])
            looks = text if self.config.attention[-1 - i] else {}
            size = tuple(skips[-1].shape[2:]) if skips else None
            sample = block(
                hidden_states=sample, temb=level, res_hidden_states_tuple=of_block, upsample_size=size, **looks
            )
            sample = mix(f"up{i}", sample)
        sample = unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))
        return sample.unflatten(0, (batch, count))


def build_unet(config: DenoiserConfig, latent_channels: int) -> Any:
    """Return diffusers' UNet of a config, freshly initialised.

    Raises:
        ConfigError: if diffusers is not installed.
    """
    downs = tuple("CrossAttnDownBlock2D" if looks else "DownBlock2D" for looks in config.attention)
    ups = tuple("CrossAttnUpBlock2D" if looks else "UpBlock2D" for looks in reversed(config.attention))
    unet = import_diffusers().UNet2DConditionModel(
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=config.channels,
        down_block_types=downs,
        up_block_types=ups,
        layers_per_block=config.layers,
        attention_head_dim=config.heads,  # by this name diffusers means their number
        cross_attention_dim=config.text_width,
        norm_num_groups=config.norm_groups,
        use_linear_projection=config.linear_projection,
    )
    if config.checkpointing:
        unet.enable_gradient_checkpointing()
    return unet


class AxisAttention(nn.Module):
    """Self-attention along one axis; `x + W attention(norm(x) + place)`, with W at 0 in the beginning.

    The place is a sinusoidal code of the index, so that a length that was never trained is still read.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.ask = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "*b l c"]) -> Float[Tensor, "*b l c"]:
        """Return the sequences after they looked at themselves."""
        flat = x.reshape(-1, *x.shape[-2:])
        places = sinusoids(torch.arange(flat.shape[1], device=x.device).float(), flat.shape[2]).to(x.dtype)
        parts = self.ask(self.norm(flat) + places).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return x + self.out(seen.transpose(1, 2).flatten(2)).reshape(x.shape)


def _bias(prompts: PromptStates, like: Tensor) -> Tensor | None:
    """Return what attention adds to its scores so that it does not look where there is no token."""
    if prompts.mask is None:
        return None
    return ((~prompts.mask).to(like.dtype) * -10_000.0)[:, None]
