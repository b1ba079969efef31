"""The denoiser is diffusers' UNet at first; what is added to it does what it should, and weights fit or are refused."""

import json
from dataclasses import replace

import pytest
import torch

from occkit.errors import ConfigError, DataError
from occkit.geometry import VoxelGrid
from occkit.nn.alignment import ConcatAlignmentConfig, Views
from occkit.nn.diffusion import AxisAttention, DenoiserConfig, PromptStates
from occkit.nn.diffusion_weights import is_diffusers_folder, load_diffusers_folder
from occkit.nn.image_codecs import PixelCodecConfig, VaeCodecConfig
from occkit.nn.noise_level import NoiseLevelEmbedding, sinusoids
from occkit.nn.noise_schedules import CosineNoiseConfig, LinearNoiseConfig, NoiseSchedule
from occkit.nn.prompt_encoders import ClipPromptConfig

diffusers = pytest.importorskip("diffusers")
GRID = VoxelGrid(origin=(0.0, -4.0, -1.0), voxel_size=(1.0, 1.0, 1.0), shape=(8, 8, 2))
CONFIG = DenoiserConfig(
    channels=(8, 16),
    attention=(True, False),
    heads=(2, 4),
    layers=1,
    text_width=12,
    norm_groups=4,
    temporal=True,
    across_cameras=True,
)
TEXT = ClipPromptConfig(tokenizer="none", width=12, hidden=16, layers=1, heads=2, vocabulary=30, max_tokens=8)
VAE = VaeCodecConfig(channels=(4, 8), layers=1, latent_channels=4, norm_groups=2, scale=0.5)


def build(config=CONFIG, channels=4):
    torch.manual_seed(0)
    return config.build(latent_channels=channels, alignment=ConcatAlignmentConfig(), num_classes=3, grid=GRID).eval()


def inputs(batch=2, times=2, cameras=3, size=(6, 10)):
    generator = torch.Generator().manual_seed(1)
    views = times * cameras
    pose = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    matrix = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return {
        "noisy": torch.randn(batch, views, 4, *size, generator=generator),
        "step": torch.tensor([3, 700])[:batch],
        "prompts": PromptStates(
            states=torch.randn(batch, 5, 12, generator=generator), mask=torch.arange(5)[None] < torch.tensor([[5], [2]])
        ),
        "num_times": times,
        "occupancy": torch.rand(batch, 1, 3, *GRID.shape, generator=generator),
        "views": Views(
            ego_from_camera=pose.expand(batch, views, 4, 4),
            intrinsics=matrix.expand(batch, views, 3, 3),
            first_from_ego=torch.eye(4).expand(batch, views, 4, 4),
            times=(0,) * views,
        ),
        "present": torch.tensor([True, False])[:batch],
    }


def test_it_is_diffusers_unet_exactly_at_first():
    """Odd sizes too: they do not halve evenly."""
    model, given = build(), inputs()
    with torch.no_grad():
        ours = model(**given)
        told = given["prompts"].repeat(6)
        plain = model.unet(
            given["noisy"].flatten(0, 1),
            given["step"].repeat_interleave(6),
            told.states,
            encoder_attention_mask=told.mask,
        ).sample
    assert torch.equal(ours.flatten(0, 1), plain)


def scrambled(model, part):
    for weight in part.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model


def test_occupancy_reaches_only_samples_that_have_it():
    model = build()
    scrambled(model, model.alignments)
    given = inputs()
    with torch.no_grad():
        before = model(**given)
        after = model(**(given | {"occupancy": 1 - given["occupancy"]}))
    assert not torch.allclose(before[0], after[0], atol=1e-4)
    assert torch.equal(before[1], after[1])


def test_sites_can_be_chosen():
    assert set(build().alignments) == {"level0", "level1", "middle"}
    assert set(build(replace(CONFIG, sites=(1,), middle_site=False)).alignments) == {"level1"}
    with pytest.raises(ConfigError, match="sites"):
        replace(CONFIG, sites=(2,))


@pytest.mark.parametrize(("part", "moved"), [("temporal", [0, 3]), ("across", [0, 1, 2])])
def test_attention_ties_the_views_it_should(part, moved):
    """Views are time by time: camera 0 of both times is views 0 and 3; time 0 is views 0 to 2."""
    model = build()
    scrambled(model, getattr(model, part))
    given = inputs()
    given["occupancy"] = None
    noisy = given["noisy"].clone()
    noisy[:, 0] += 1
    with torch.no_grad():
        change = (model(**given) - model(**(given | {"noisy": noisy}))).abs().amax(dim=(0, 2, 3, 4))
    assert [i for i, value in enumerate(change.tolist()) if value > 1e-6] == moved


def test_every_sample_is_denoised_by_itself():
    model = build()
    for part in (model.temporal, model.across, model.alignments):
        scrambled(model, part)
    given = inputs()
    with torch.no_grad():
        both = model(**given)
        views = Views(
            ego_from_camera=given["views"].ego_from_camera[:1],
            intrinsics=given["views"].intrinsics[:1],
            first_from_ego=given["views"].first_from_ego[:1],
            times=given["views"].times,
        )
        alone = model(
            given["noisy"][:1],
            given["step"][:1],
            given["prompts"].rows(torch.tensor([0])),
            num_times=2,
            occupancy=given["occupancy"][:1],
            views=views,
            present=given["present"][:1],
        )
    assert torch.allclose(both[:1], alone, atol=1e-5)


def test_views_must_be_whole_frames():
    given = inputs()
    with pytest.raises(ValueError, match="6 views are no whole number of cameras at 4 times"):
        build()(**(given | {"num_times": 4}))


def test_axis_attention_knows_the_order():
    torch.manual_seed(0)
    attention = AxisAttention(8, 2)
    x = torch.randn(3, 4, 8)
    assert torch.equal(attention(x), x)
    torch.nn.init.normal_(attention.out.weight)
    assert not torch.allclose(attention(x.flip(1)).flip(1), attention(x), atol=1e-4)


def test_codes_of_places_by_hand():
    code = sinusoids(torch.tensor([0.0, 2.0]), 4)
    assert code[0].tolist() == [0, 0, 1, 1]
    assert code[1].tolist() == pytest.approx([0.909297, 0.0002, -0.416147, 1.0], abs=1e-5)
    level = NoiseLevelEmbedding(5)
    assert level(torch.tensor([0.3])).abs().max() == 0


def test_squares_of_pixels_fold_and_unfold():
    codec = PixelCodecConfig(square=2).build()
    images = torch.randn(2, 3, 4, 6)
    cells = codec.encode(images)
    assert cells.shape == (2, 12, 2, 3)
    assert torch.equal(codec.decode(cells), images)
    with pytest.raises(ConfigError, match="multiples of 2"):
        codec.encode(torch.zeros(1, 3, 5, 6))


def test_pixels_come_to_a_variance_of_one_and_back():
    codec = PixelCodecConfig(square=2, mean=-0.2, scale=2.5).build()
    images = -0.2 + 0.4 * torch.randn(4, 3, 32, 32)
    cells = codec.encode(images)
    assert abs(cells.mean()) < 0.05
    assert abs(cells.std() - 1) < 0.05
    assert torch.allclose(codec.decode(cells), images, atol=1e-6)
    for wrong in ({"mean": 2.0}, {"scale": 0.0}, {"square": 0}):
        with pytest.raises(ConfigError, match="PixelCodec"):
            PixelCodecConfig(**wrong)


def test_the_autoencoder_is_differentiable_and_scaled():
    torch.manual_seed(0)
    codec = VAE.build().eval()
    images = torch.randn(1, 3, 8, 12)
    latents = codec.encode(images).detach().requires_grad_()
    assert latents.shape == (1, 4, 4, 6)
    assert torch.allclose(latents, 0.5 * codec.vae.encode(images).latent_dist.mean)
    codec.decode(latents).sum().backward()
    assert latents.grad.abs().max() > 0


def parts(denoiser=CONFIG, codec=VAE, text=TEXT, noise=None):
    return {
        "denoiser": build(denoiser, channels=4),
        "codec": codec.build(),
        "prompts": text.build(),
        "schedule": NoiseSchedule(noise or LinearNoiseConfig()),
    }


@pytest.fixture
def folder(tmp_path):
    """A model of random weights as diffusers saves one."""
    made = parts()
    for module, name in (
        (made["denoiser"].unet, "unet"),
        (made["codec"].vae, "vae"),
        (made["prompts"].model, "text_encoder"),
    ):
        scrambled(module, module)
        module.save_pretrained(tmp_path / name)
    diffusers.DDIMScheduler(prediction_type="epsilon").save_pretrained(tmp_path / "scheduler")
    return tmp_path


def test_weights_of_a_folder_are_taken_over(folder):
    assert is_diffusers_folder(folder)
    assert not is_diffusers_folder(folder / "unet")
    made = parts()
    assert load_diffusers_folder(folder, **made) == ("unet", "vae", "text_encoder")
    saved = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    own = made["denoiser"].unet.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in saved.state_dict().items())
    pixels = parts() | {"codec": PixelCodecConfig().build()}
    assert load_diffusers_folder(folder, **pixels) == ("unet", "text_encoder")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"denoiser": replace(CONFIG, heads=(4, 4))}, r"attention_head_dim: expected \[4, 4\], got \[2, 4\]"),
        ({"denoiser": replace(CONFIG, channels=(8, 24))}, r"block_out_channels: expected \[8, 24\], got \[8, 16\]"),
        (
            {"denoiser": replace(CONFIG, linear_projection=False)},
            r"proj_in.weight: expected \(8, 8, 1, 1\), got \(8, 8\)",
        ),
        ({"codec": replace(VAE, scale=0.2)}, r"scaling_factor: expected 0\.2, got 0\.5"),
        ({"text": replace(TEXT, layers=2)}, "num_hidden_layers: expected 2, got 1"),
        ({"noise": CosineNoiseConfig()}, "prediction_type: expected velocity, got noise"),
    ],
)
def test_weights_of_other_sizes_are_named(folder, other, message):
    with pytest.raises(DataError, match=message):
        load_diffusers_folder(folder, **parts(**other))


def test_damaged_and_missing_weights_are_named(folder):
    (folder / "scheduler" / "scheduler_config.json").unlink()
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="vae: cannot be loaded"):
        load_diffusers_folder(folder, **parts())
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps([1]))
    with pytest.raises(DataError, match="expected an object"):
        load_diffusers_folder(folder, **parts())
