"""The stand-in for a text encoder, its lexicon, and the tables of prompts."""

import itertools
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from occkit.errors import ConfigError
from occkit.foundation import (
    LANGOCC_PROMPTS,
    STREET_PROMPTS,
    TEMPLATES,
    PromptTable,
    SimulatedTextConfig,
    encode_with_templates,
    taxonomy_prompts,
)
from occkit.foundation.lexicon import LEXICON, meaning_of_prompt
from occkit.nn.open_vocabulary import assign_classes, cosine_scores
from occkit.taxonomy import OCC3D, TAXONOMIES
from occkit.world.words import WORDS

ALL_WORDS = [word for classes in LEXICON.values() for words in classes.values() for word in words]


@pytest.fixture(scope="module")
def text():
    return SimulatedTextConfig().build()


def cosine(text, first, second):
    one, other = text.encode([first, second])
    return float(one @ other)


def test_cosines_say_how_words_are_related(text):
    found = {"class": [], "kind": [], "none": []}
    meanings = {meaning_of_prompt(word).head: meaning_of_prompt(word) for word in ALL_WORDS}
    scores = cosine_scores(text.encode(list(meanings)), text.encode(list(meanings)))
    for (i, one), (j, other) in itertools.combinations(enumerate(meanings.values()), 2):
        relation = "class" if one.name == other.name else "kind" if one.kind == other.kind else "none"
        found[relation].append(float(scores[i, j]))
    for relation, expected in (("class", 0.95), ("kind", 0.85), ("none", 0.75)):
        values = torch.tensor(found[relation])
        assert values.mean() == pytest.approx(expected, abs=0.003)
        assert (values - expected).abs().max() < 0.045
    assert torch.allclose(scores.diagonal(), torch.ones(len(scores)))


def test_other_cosines_can_be_asked_for():
    wide = SimulatedTextConfig(width=256, unrelated=0.2, same_kind=0.5, same_class=0.8).build()
    assert cosine(wide, "car", "taxi") == pytest.approx(0.8, abs=0.06)
    assert cosine(wide, "car", "bus") == pytest.approx(0.5, abs=0.06)
    assert cosine(wide, "car", "tree") == pytest.approx(0.2, abs=0.06)
    assert wide.encode(["car"]).shape == (1, 256)


def test_it_knows_every_word_of_the_world_and_every_prompt(text):
    asked = [word.name for word in WORDS] + [*LANGOCC_PROMPTS.texts, *STREET_PROMPTS.texts]
    asked += [prompt for t in TAXONOMIES.values() if t.name != "nyuv2" for p in t.prompts for prompt in p]
    for prompt in asked:
        assert meaning_of_prompt(prompt).kind is not None, prompt
        assert meaning_of_prompt(prompt).context == "", prompt
    for words in (ALL_WORDS, asked):
        assert text.encode(words).isfinite().all()


def test_a_sentence_is_about_its_subject(text):
    for word in ALL_WORDS:
        head = meaning_of_prompt(word).head
        assert {meaning_of_prompt(template.replace("{}", word)).head for template in TEMPLATES} == {head}
    averaged = encode_with_templates(text, ALL_WORDS)
    assert (averaged * text.encode(ALL_WORDS)).sum(-1).min() > 0.995
    about = {
        "Red Mailbox": "mailbox", "two fire trucks": "fire truck", "a man in a car": "man", "mailboxes": "mailbox",
        "children": "child", "buses near a bus": "bus", "a photo of a dog beside a tree.": "dog", "the grass": "grass",
        "car tree": "tree", "tree car": "car",
    }  # fmt: skip
    for sentence, head in about.items():
        assert meaning_of_prompt(sentence).head == head, sentence
    assert 0.97 < cosine(text, "red mailbox", "mailbox") < 0.99
    assert cosine(text, "mailboxes", "the mailbox") == pytest.approx(1.0)


def test_words_it_does_not_know_are_unrelated_but_themselves(text):
    known = text.encode(ALL_WORDS)
    for word in ("zeppelin", "quux", "Müllwagen", "ice cream stall"):
        scores = cosine_scores(text.encode([word]), known)[0]
        assert (scores - 0.75).abs().max() < 0.07, word
        assert cosine(text, word, f"a photo of a blue {word}.") > 0.95
    assert cosine(text, "zeppelin", "quux") == pytest.approx(0.75, abs=0.15)
    assert cosine(text, "old zeppelins over a road", "zeppelin") > 0.95


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_text_has_a_vector_or_is_refused(prompt):
    text = SimulatedTextConfig().build()
    if any(c.isalnum() for c in prompt):
        vector = text.encode([prompt])
        assert vector.norm() == pytest.approx(1.0, abs=1e-5)
        assert torch.equal(vector[0], text.encode(["car", prompt])[1])
    else:
        with pytest.raises(ValueError, match="prompts: expected"):
            text.encode([prompt])


def test_vectors_follow_the_seed_and_survive_the_process(text):
    words = ["car", "zeppelin", "a photo of a dog"]
    assert torch.equal(text.encode(words), SimulatedTextConfig().build().encode(words))
    assert not torch.allclose(text.encode(words), SimulatedTextConfig(seed=1).build().encode(words), atol=0.05)
    program = "from occkit.foundation import SimulatedTextConfig as S; print(S().build().encode(['zeppelin']).tolist())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert torch.allclose(torch.tensor(eval(done.stdout)), text.encode(["zeppelin"]), atol=1e-7)


def test_settings_are_checked():
    for wrong in ({"unrelated": 0.9}, {"same_class": 1.1}, {"context": 2.0}, {"width": 40}):
        with pytest.raises(ConfigError, match="SimulatedText"):
            replace(SimulatedTextConfig(), **wrong)


def test_langocc_asks_with_76_prompts():
    counts = dict.fromkeys(OCC3D.classes[:17], 0)
    for _, meaning in LANGOCC_PROMPTS.prompts:
        counts[meaning] += 1
    assert counts == {
        "others": 2, "barrier": 4, "bicycle": 1, "bus": 2, "car": 10, "construction_vehicle": 2, "motorcycle": 3,
        "pedestrian": 4, "traffic_cone": 1, "trailer": 4, "truck": 5, "driveable_surface": 2, "other_flat": 6,
        "sidewalk": 3, "terrain": 5, "manmade": 15, "vegetation": 7,
    }  # fmt: skip
    assert len(LANGOCC_PROMPTS.texts) == 76
    assert dict(LANGOCC_PROMPTS.prompts)["sky"] == "others"
    ids = LANGOCC_PROMPTS.class_ids()
    assert ids[LANGOCC_PROMPTS.texts.index("lorry")] == OCC3D.id_of("truck")


def test_plain_words_leave_the_long_tail_out():
    assert len(STREET_PROMPTS.texts) == 24
    assert not {"mailbox", "excavator", "fire hydrant", "trash bin", "stroller", "police car"} & set(
        STREET_PROMPTS.texts
    )
    assert {meaning for _, meaning in STREET_PROMPTS.prompts} == set(OCC3D.classes) - {"free"}


@pytest.mark.parametrize("table", [LANGOCC_PROMPTS, STREET_PROMPTS], ids=lambda t: t.name)
def test_what_the_world_shows_is_named_by_both_tables(text, table):
    """Words that no taxonomy names become what they resemble; all others their own class."""
    named = [word for word in WORDS[1:] if word.occ3d != "others"]
    vectors, prompts = text.encode([word.name for word in named]), encode_with_templates(text, table.texts)
    found = assign_classes(vectors, torch.ones(len(named)), prompts, table.class_ids(), free_id=OCC3D.free_id)
    wrong = [
        (w.name, OCC3D.classes[i]) for w, i in zip(named, found.tolist(), strict=True) if OCC3D.classes[i] != w.occ3d
    ]
    assert wrong == []


def test_tables_are_checked():
    good = {"name": "t", "taxonomy": "occ3d", "prompts": (("car", "car"),)}
    assert PromptTable(**good).class_ids().tolist() == [4]
    for wrong in (
        {"taxonomy": "mars"},
        {"prompts": ()},
        {"prompts": (("car", "car"), ("car", "truck"))},
        {"prompts": (("air", "free"),)},
        {"prompts": ((" ", "car"),)},
    ):
        with pytest.raises(ConfigError, match="prompts t"):
            PromptTable(**(good | wrong))
    assert taxonomy_prompts(TAXONOMIES["semantickitti"]).class_ids().min() == 1
