"""SigLIP on a tiny network of random weights: words and pixels in one space."""

import importlib
import json

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import SiglipFeaturesConfig, SiglipTextConfig, language_features_config, text_config
from tiny_models import save_siglip

WORDS = ("car", "fire hydrant", "an excavator, seen from the side of a road")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("siglip")
    save_siglip(folder)
    return folder


def pictures(count, height=64, width=96):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(0)).byte()


def extract(folder, images, **options):
    names = [f"cam{i}" for i in range(len(images))]
    return SiglipFeaturesConfig(weights=str(folder), **options).build().extract(images, token="t", cameras=names)


def test_words_are_those_of_transformers(folder):
    library = importlib.import_module("transformers")
    text = text_config(str(folder)).build()
    vectors = text.encode(WORDS)
    assert vectors.shape == (3, text.width) == (3, 32)
    model, tokenizer = library.SiglipModel.from_pretrained(folder).eval(), library.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(list(WORDS), padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        theirs = model.get_text_features(input_ids=tokens["input_ids"]).pooler_output
    assert torch.allclose(vectors, torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5)
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-3)
    one = SiglipTextConfig(weights=str(folder), batch_size=1).build()
    assert torch.allclose(one.encode(WORDS), vectors, atol=1e-6)
    assert one.description == text.description == {"text": "siglip", "weights": str(folder)}
    assert torch.equal(text.encode(["a" * 40]), text.encode(["a" * 40 + "b"])), "cut off at the context"


def test_prompts_are_lower_cased(folder):
    """Whatever the tokenizer does: that of SigLIP 2 on the hub leaves capitals alone."""
    text, shown = SiglipTextConfig(weights=str(folder)).build(), []
    real = text.tokenizer
    text.tokenizer = lambda prompts, **options: shown.extend(prompts) or real(prompts, **options)
    text.encode(["A CAR", "Bus"])
    assert shown == ["a car", "bus"]


def test_a_patch_alone_is_the_image(folder):
    """Of an image of one patch the pooling head sees that patch only: its vector is the image's own."""
    library = importlib.import_module("transformers")
    images = pictures(3, 8, 8)
    model = library.SiglipModel.from_pretrained(folder).eval()
    with torch.no_grad():
        theirs = model.get_image_features(
            pixel_values=(images / 255 - 0.5) / 0.5, interpolate_pos_encoding=True
        ).pooler_output
    maps = extract(folder, images)
    assert maps.shape == (3, 32, 1, 1)
    assert torch.allclose(maps[..., 0, 0], torch.nn.functional.normalize(theirs, dim=-1), atol=1e-5)


def test_features_are_the_values_of_the_pooling_head_by_hand(folder):
    library = importlib.import_module("transformers")
    images = pictures(1, 32, 32)
    vision = library.SiglipModel.from_pretrained(folder).eval().vision_model
    with torch.no_grad():
        patches = vision(pixel_values=(images / 255 - 0.5) / 0.5).last_hidden_state
        attention = vision.head.attention
        weight, bias = attention.in_proj_weight[64:], attention.in_proj_bias[64:]
        values = attention.out_proj(patches @ weight.T + bias)
        expected = values + vision.head.mlp(vision.head.layernorm(values))
    expected = torch.nn.functional.normalize(expected, dim=-1)[0].T.reshape(32, 4, 4)
    assert torch.allclose(extract(folder, images)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "cells"), [((64, 96), (8, 12)), ((45, 50), (6, 6)), ((3, 9), (1, 1)), ((2, 200), (1, 25))]
)
def test_images_of_any_size_have_a_cell_a_patch(folder, size, cells):
    maps = extract(folder, pictures(2, *size))
    assert maps.shape == (2, 32, *cells)
    assert torch.allclose(maps.norm(dim=1), torch.ones(2, *cells), atol=1e-5)
    assert language_features_config(str(folder)).build().map_size(size) == cells


def test_a_batch_of_one_is_as_good_as_a_batch_of_many(folder):
    images = pictures(3, 32, 40)
    one, many = extract(folder, images), extract(folder, images, batch_size=3)
    assert torch.allclose(one, many, atol=1e-5)
    assert not torch.allclose(one[0], one[1], atol=1e-3)
    assert extract(folder, images, size=(16, 8)).shape == (3, 32, 2, 1)
    described = [
        json.dumps(SiglipFeaturesConfig(weights=str(folder), **options).build().description)
        for options in ({}, {"batch_size": 3}, {"size": (16, 8)})
    ]
    assert described[0] == described[1] != described[2]


def test_what_is_missing_or_foreign_is_named(folder, sam_folder, tmp_path):
    for kind in (SiglipTextConfig, SiglipFeaturesConfig):
        with pytest.raises(ConfigError, match=r"no such folder; SigLIP 2 is google/siglip2.*sentencepiece"):
            kind(weights=str(tmp_path / "nowhere")).build()
        with pytest.raises(ConfigError, match=r"of type siglip, got sam; SigLIP 2 is"):
            kind(weights=str(sam_folder)).build()
    save_siglip(tmp_path, vision_use_head=False)
    with pytest.raises(ConfigError, match="no pooling head"):
        SiglipFeaturesConfig(weights=str(tmp_path)).build()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text("{")
    with pytest.raises(ConfigError, match=r"the processor of .* cannot be loaded"):
        SiglipTextConfig(weights=str(tmp_path)).build()
    with pytest.raises(ConfigError, match="SiglipFeatures: batch_size 0"):
        SiglipFeaturesConfig(weights="x", batch_size=0)
    with pytest.raises(ConfigError, match="SiglipText: batch_size 0"):
        SiglipTextConfig(weights="x", batch_size=0)
