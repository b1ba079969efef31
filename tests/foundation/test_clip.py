"""CLIP through transformers, on a tiny network of random weights that lies in a folder as a real one does."""

import json
import shutil

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import (
    NO_TEMPLATES,
    ClipFeaturesConfig,
    ClipTextConfig,
    encode_with_templates,
)
from tiny_models import save_clip

WORDS = ("car", "fire hydrant", "an excavator, seen from the side of a road")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


def pictures(count, height=64, width=96, seed=0):
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(seed)).byte()


def extract(folder, images, **options):
    names = [f"cam{i}" for i in range(len(images))]
    return ClipFeaturesConfig(weights=str(folder), **options).build().extract(images, token="t", cameras=names)


def test_words_are_vectors_of_length_one(folder):
    text = ClipTextConfig(weights=str(folder)).build()
    vectors = text.encode(WORDS)
    assert vectors.shape == (3, text.width) == (3, 16)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3))
    assert (vectors @ vectors.T)[0, 1] < 0.999
    assert text.description == {"text": "clip", "weights": str(folder)}


def test_a_prompt_does_not_depend_on_its_neighbours(folder):
    one, many = (ClipTextConfig(weights=str(folder), batch_size=size).build() for size in (1, 8))
    assert torch.allclose(one.encode(WORDS), many.encode(WORDS), atol=1e-6)
    assert torch.allclose(many.encode(WORDS)[1], many.encode(WORDS[1:2])[0], atol=1e-6)


def test_the_answer_is_that_of_transformers(folder):
    library = pytest.importorskip("transformers")
    model, tokenizer = (getattr(library, n).from_pretrained(folder) for n in ("CLIPModel", "CLIPTokenizer"))
    for word in WORDS[:2]:
        with torch.no_grad():
            answer = model.eval().get_text_features(**tokenizer(word, return_tensors="pt"))
        expected = torch.nn.functional.normalize(answer.pooler_output, dim=-1)
        assert torch.allclose(ClipTextConfig(weights=str(folder)).build().encode([word]), expected, atol=1e-5)


def test_a_sentence_longer_than_the_context_is_cut_off(folder):
    text = ClipTextConfig(weights=str(folder)).build()
    assert torch.equal(text.encode(["a" * 30]), text.encode(["a" * 30 + "b"]))


def test_templates_are_averaged(folder):
    text = ClipTextConfig(weights=str(folder)).build()
    assert torch.allclose(encode_with_templates(text, WORDS, templates=NO_TEMPLATES), text.encode(WORDS), atol=1e-6)
    sentences = ("a {}", "{} there")
    found = encode_with_templates(text, ["car", "bus"], templates=sentences)
    mean = text.encode(["a car", "car there"]).mean(0)
    assert torch.allclose(found[0], mean / mean.norm(), atol=1e-6)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize(
    ("size", "cells"), [((32, 32), (4, 4)), ((64, 96), (8, 12)), ((45, 50), (6, 6)), ((3, 9), (1, 1))]
)
def test_images_of_any_size_have_a_cell_a_patch(folder, size, cells):
    maps = extract(folder, pictures(2, *size))
    assert maps.shape == (2, 16, *cells)
    assert torch.allclose(maps.norm(dim=1), torch.ones(2, *cells), atol=1e-5)
    assert ClipFeaturesConfig(weights=str(folder)).build().map_size(size) == cells


def test_images_can_be_scaled(folder):
    images = pictures(1)
    assert extract(folder, images, size=(40, 16)).shape == (1, 16, 5, 2)
    assert torch.equal(extract(folder, images, size=(64, 96)), extract(folder, images))


def test_a_batch_of_one_is_as_good_as_a_batch_of_many(folder):
    images = pictures(5)
    one, many = extract(folder, images), extract(folder, images, batch_size=3)
    assert torch.allclose(one, many, atol=1e-5)
    assert not torch.allclose(one[0], one[1], atol=1e-2)
    assert torch.allclose(one[2:3], extract(folder, images[2:3]), atol=1e-5)


def test_features_are_the_last_values_by_hand(folder):
    """Of a network of one layer what reaches that layer is embedded patches, and no patch sees another."""
    library = pytest.importorskip("transformers")
    folder = folder / "one"
    save_clip(folder, layers=1)
    images = pictures(1, 32, 32)
    changed = images.clone()
    changed[..., 8:16, 16:24] = 255 - changed[..., 8:16, 16:24]
    before, after = extract(folder, images), extract(folder, changed)
    differs = (before - after).abs().amax(1)[0] > 1e-4
    assert differs.nonzero().tolist() == [[1, 2]]
    vision = library.CLIPModel.from_pretrained(folder).eval()
    mean, std = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
    normal = (images / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    model = vision.vision_model
    with torch.no_grad():
        patches = model.pre_layrnorm(model.embeddings(normal))[:, 1:]
        layer = model.encoder.layers[0]
        values = layer.self_attn.out_proj(layer.self_attn.v_proj(layer.layer_norm1(patches)))
        expected = vision.visual_projection(model.post_layernorm(values))
    expected = torch.nn.functional.normalize(expected, dim=-1)[0].T.reshape(16, 4, 4)
    assert torch.allclose(before[0], expected, atol=1e-5)


def test_what_is_missing_or_foreign_is_named(folder, tmp_path):
    for kind in (ClipTextConfig, ClipFeaturesConfig):
        with pytest.raises(ConfigError, match=r"nowhere.*clip-vit-base-patch16.*save_pretrained"):
            kind(weights=str(tmp_path / "nowhere")).build()
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "clip" / "tokenizer.json").unlink()
    (tmp_path / "clip" / "tokenizer_config.json").write_text("{")
    assert ClipFeaturesConfig(weights=str(tmp_path / "clip")).build().width == 16, "pixels need no tokenizer"
    with pytest.raises(ConfigError, match=r"the processor of .* cannot be loaded.*CLIPTokenizer"):
        ClipTextConfig(weights=str(tmp_path / "clip")).build()
    config = json.loads((tmp_path / "clip" / "config.json").read_text())
    (tmp_path / "clip" / "config.json").write_text(json.dumps(config | {"model_type": "sam"}))
    with pytest.raises(ConfigError, match=r"expected a config\.json of type clip, got sam"):
        ClipFeaturesConfig(weights=str(tmp_path / "clip")).build()


def test_settings_are_checked(folder):
    with pytest.raises(ConfigError, match="batch_size 0"):
        ClipTextConfig(weights="x", batch_size=0)
    with pytest.raises(ConfigError, match="must be at least 1"):
        ClipFeaturesConfig(weights="x", size=(0, 8))
    text = ClipTextConfig(weights=str(folder)).build()
    for absurd in ([], [""], ["car", " ?! "], "car"):
        with pytest.raises(ValueError, match="prompts: expected"):
            text.encode(absurd)
    for wrong in ((), ("a photo",), ("{} {}",)):
        with pytest.raises(ConfigError, match="templates: expected"):
            encode_with_templates(text, ["car"], templates=wrong)


def test_the_description_says_what_changes_the_features(folder):
    one = ClipFeaturesConfig(weights=str(folder), batch_size=1).build().description
    assert one == ClipFeaturesConfig(weights=str(folder), batch_size=4).build().description
    assert one != ClipFeaturesConfig(weights=str(folder), size=(32, 32)).build().description
