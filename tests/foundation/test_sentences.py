"""Sentence encoders on tiny networks of random weights."""

import importlib
import json

import pytest
import torch

from occkit.errors import ConfigError
from occkit.foundation import SentenceTextConfig, text_config
from tiny_models import save_sentence_encoder

WORDS = ["car", "bus", "a", "red"]


@pytest.fixture(scope="module", params=["Bert", "MPNet"])
def folder(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp(request.param)
    save_sentence_encoder(folder, WORDS, family=request.param)
    return folder


def test_vectors_are_means_over_tokens(folder):
    library = importlib.import_module("transformers")
    text = text_config(str(folder)).build()
    assert text.width == 16
    model, tokenizer = (getattr(library, name).from_pretrained(folder) for name in ("AutoModel", "AutoTokenizer"))
    for prompt in ("car", "a red bus"):
        with torch.no_grad():
            hidden = model.eval()(**tokenizer(prompt, return_tensors="pt")).last_hidden_state[0]
        assert len(hidden) == len(prompt.split()) + 2
        expected = torch.nn.functional.normalize(hidden.mean(0), dim=0)
        assert torch.allclose(text.encode([prompt])[0], expected, atol=1e-5)


def test_a_prompt_does_not_depend_on_its_neighbours(folder):
    one, many = (SentenceTextConfig(weights=str(folder), batch_size=size).build() for size in (1, 8))
    prompts = ["car", "a red bus", "a a a a red red car"]
    vectors = many.encode(prompts)
    assert torch.allclose(vectors, one.encode(prompts), atol=1e-5)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3))
    assert not torch.allclose(vectors[0], vectors[1], atol=1e-2)
    assert one.description == many.description
    assert json.dumps(one.description)


def test_long_prompts_are_cut_off(folder):
    text = SentenceTextConfig(weights=str(folder), max_tokens=5).build()
    assert torch.equal(text.encode(["a red car"]), text.encode(["a red car bus"]))
    assert text.description["max_tokens"] == 5
    assert SentenceTextConfig(weights=str(folder)).build().max_tokens <= 32


def test_weights_without_a_pooler_are_whole(tmp_path):
    save_sentence_encoder(tmp_path, WORDS, pooling=False)
    assert SentenceTextConfig(weights=str(tmp_path)).build().encode(["car"]).shape == (1, 16)


def test_what_is_missing_or_foreign_is_named(sam_folder, tmp_path):
    with pytest.raises(ConfigError, match=r"SentenceText: .*no such folder; all-MiniLM-L6-v2 is"):
        SentenceTextConfig(weights=str(tmp_path / "nowhere")).build()
    with pytest.raises(ConfigError, match=r"text: .*clip or siglip or bert or mpnet, got sam"):
        text_config(str(sam_folder))
    save_sentence_encoder(tmp_path, WORDS)
    (tmp_path / "1_Pooling").mkdir()
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.write_text('{"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true}')
    SentenceTextConfig(weights=str(tmp_path)).build()
    pooling.write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    with pytest.raises(ConfigError, match="pool by pooling_mode_cls_token, not by means"):
        SentenceTextConfig(weights=str(tmp_path)).build()
    for options in ({"batch_size": 0}, {"max_tokens": 2}):
        with pytest.raises(ConfigError, match="SentenceText"):
            SentenceTextConfig(weights="x", **options)
