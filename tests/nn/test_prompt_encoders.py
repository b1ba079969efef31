"""Texts become tokens; texts that will not do are named for what is wrong with them."""

import pytest
import torch

from occkit.errors import ConfigError
from occkit.nn.prompt_encoders import ClipPromptConfig, WordPromptConfig, clean_prompt, split_words
from tiny_models import save_clip

WORDS = ("a", "street", "with", "car", "cars", "2", "night", "at")


@pytest.fixture
def words():
    torch.manual_seed(0)
    return WordPromptConfig(words=WORDS, width=8, layers=1, heads=2, max_words=6).build().eval()


def test_white_space_is_made_plain():
    assert clean_prompt("  a street\n\twith   cars ") == "a street with cars"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        (7, "is empty"),
        ("x" * 2001, "at most 2,000 characters, got 2,001"),
        ("a street\x00 at night", r"invisible character U\+0000"),
        ("a \u202estreet", r"invisible character U\+202E"),
        ("a \ud800 street", r"invisible character U\+D800"),
    ],
)
def test_texts_that_are_no_prompts(text, message):
    with pytest.raises(ConfigError, match=message):
        clean_prompt(text)


def test_words_are_words_of_any_language():
    assert split_words("Zwei Straßen, 3 cars!") == ["zwei", "straßen", "3", "cars"]


def test_unknown_words_are_named_and_left_out(words):
    assert words.examine("a street with cars") == ()
    (remark,) = words.examine("a rainy street with two parked cars")
    assert "rainy, parked" in remark
    with torch.no_grad():
        assert torch.equal(words(["a rainy street"]).states, words(["a street"]).states)
        assert torch.equal(words(["two cars"]).states, words(["2 cars"]).states), "a number is its digit"


@pytest.mark.parametrize("prompt", ["eine Straße mit 2 Autos", "2 with a", "雨の道"])
def test_a_prompt_of_which_nothing_is_known_is_refused(words, prompt):
    with pytest.raises(ConfigError, match="it knows street, car, cars, night"):
        words.examine(prompt)


def test_an_endless_prompt_is_refused_and_an_endless_caption_cut_off(words):
    long = " ".join(["street"] * 7)
    with pytest.raises(ConfigError, match="has 7 words, this model reads 6"):
        words.examine(long)
    with torch.no_grad():
        assert torch.equal(words([long]).states, words([" ".join(["street"] * 6)]).states)


def test_each_text_is_encoded_by_itself(words):
    with torch.no_grad():
        both = words(["a street at night", ""])
        alone = words(["a street at night"]), words([""])
    assert both.mask.tolist() == [[True] * 5, [True] + [False] * 4]
    assert torch.allclose(both.states[0], alone[0].states[0], atol=1e-6)
    assert torch.allclose(both.states[1, :1], alone[1].states[0], atol=1e-6), "padding is not looked at"
    assert not torch.allclose(both.states[0, 1], words(["night street a at"]).states[0, 1], atol=1e-3)


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError, match="words must be different"):
        WordPromptConfig(words=("a", "a"))
    with pytest.raises(ConfigError, match="heads must divide width"):
        WordPromptConfig(words=WORDS, width=9, heads=2)


def test_clip_reads_its_tokenizer_when_it_is_needed(tmp_path):
    save_clip(tmp_path / "clip")
    sizes = {"width": 32, "hidden": 48, "layers": 1, "heads": 2, "vocabulary": 78, "max_tokens": 24}
    clip = ClipPromptConfig(tokenizer=str(tmp_path / "clip"), **sizes).build().eval()
    with torch.no_grad():
        states = clip(["a car", ""])
    assert states.states.shape == (2, 24, 32)
    assert states.mask is None
    assert clip.examine("a car") == ()
    assert "Latin letter" in clip.examine("車")[0]
    with pytest.raises(ConfigError, match="this model reads 24"):
        clip.examine("a long street " * 4)
    absent = ClipPromptConfig(tokenizer=str(tmp_path / "nothing"), **sizes).build()
    with pytest.raises(ConfigError, match="holds no tokenizer of CLIP"):
        absent.examine("a car")
