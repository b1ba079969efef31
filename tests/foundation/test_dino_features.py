"""DINOv2, with registers and without, and DINOv3 on tiny networks of random weights."""

import importlib
import json

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import DinoFeaturesConfig, vision_features_config
from tiny_models import save_dino

FAMILIES = {"Dinov2": {}, "Dinov2WithRegisters": {"num_register_tokens": 3}, "DINOv3ViT": {"num_register_tokens": 4}}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp(request.param)
    save_dino(folder, request.param, **FAMILIES[request.param])
    return folder


def pictures(count, height=32, width=32):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def extract(folder, images, **options):
    names = [f"cam{i}" for i in range(len(images))]
    return DinoFeaturesConfig(weights=str(folder), **options).build().extract(images, token="t", cameras=names)


def test_features_are_the_patches_and_neither_class_nor_registers(folder):
    library = importlib.import_module("transformers")
    images, model = pictures(1, 16, 24), library.AutoModel.from_pretrained(folder).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        tokens = model(pixel_values=(images / 255 - mean) / std).last_hidden_state
    assert tokens.shape[1] == 1 + getattr(model.config, "num_register_tokens", 0) + 6
    expected = torch.nn.functional.normalize(tokens[0, -6:], dim=-1).T.reshape(32, 2, 3)
    assert torch.allclose(extract(folder, images)[0], expected, atol=1e-5)


@pytest.mark.parametrize(("size", "cells"), [((45, 50), (6, 6)), ((3, 5), (1, 1)), ((2, 200), (1, 25))])
def test_images_of_any_size_have_a_cell_a_patch(folder, size, cells):
    maps = extract(folder, pictures(2, *size))
    assert maps.shape == (2, 32, *cells)
    assert torch.allclose(maps.norm(dim=1), torch.ones(2, *cells), atol=1e-5)


def test_a_batch_of_one_is_as_good_as_a_batch_of_many(folder):
    images = pictures(3)
    one, many = extract(folder, images), extract(folder, images, batch_size=3)
    assert torch.allclose(one, many, atol=1e-5)
    assert not torch.allclose(one[0], one[1], atol=1e-3)
    built = vision_features_config(str(folder)).build()
    assert (built.width, built.map_size((32, 32))) == (32, (4, 4))
    assert json.loads(json.dumps(built.description)) == {"features": "dino", "weights": str(folder), "size": None}


def test_what_is_missing_or_foreign_is_named(sam_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"DinoFeatures: .*no such folder; DINOv2 is facebook/dinov2-base"):
        DinoFeaturesConfig(weights=str(tmp_path / "nowhere")).build()
    with pytest.raises(ConfigError, match=r"of type dinov2 or .* or dinov3_vit, got sam; DINOv2 is"):
        DinoFeaturesConfig(weights=str(sam_folder)).build()
    save_dino(tmp_path, "DINOv3ViT")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"cannot be loaded: .*safetensors; DINOv2 is"):
        DinoFeaturesConfig(weights=str(tmp_path)).build()
