"""Words put to voxels: what counts as found, where most of it is, and answers on disk."""

from typing import Any

import numpy as np
import pytest
import torch
from knowing import GRID, Frames, Knows
from torch import nn

from occkit.data.answers import read_answers
from occkit.errors import ConfigError, DataError
from occkit.files import read_json
from occkit.training.query import (
    MAX_CHARACTERS,
    Asker,
    FoundByRivals,
    FoundByShare,
    Questions,
    ask_dataset,
    iterate_answers,
)

MAILBOX, HALF = [0.2, 0.1, 1.0, 0.0], [0.6, 0.0, 0.8, 0.0]
TWO_BOXES = {(0, 0, 1): MAILBOX, (3, 3, 1): MAILBOX, (3, 2, 0): HALF, (2, 2, 0): [0.8, 0.0, 0.6, 0.0]}


def frames(*args: Any, **options: Any) -> Any:
    return Frames(*args, **options)


def ask(model: nn.Module, *queries: str, **options: Any) -> Any:
    ((_, answers),) = iterate_answers(model, frames(["a"]), Questions(queries=queries, **options))
    return answers


def found(answers: Any, query: int = 0) -> set[tuple[int, ...]]:
    return {tuple(voxel) for voxel in answers.voxels[answers.found[:, query]].tolist()}


def test_what_fits_better_than_every_rival_is_found() -> None:
    answers = ask(Knows(TWO_BOXES), "mailbox", "house")
    assert found(answers) == {(0, 0, 1), (3, 3, 1), (3, 2, 0)}
    assert len(answers.voxels) == 16 + 2, "only occupied voxels are asked"
    at = answers.voxels.tolist().index([3, 2, 0])
    assert answers.cosines[at].tolist() == pytest.approx([0.8, 0.0])
    assert answers.margins[at].tolist() == pytest.approx([0.8 - 0.6, 0.0 - 0.6])
    assert answers.counts.tolist() == [3, 0]


def test_the_margin_decides_and_other_rivals_may_be_named() -> None:
    model = Knows(TWO_BOXES)
    assert found(ask(model, "mailbox", rule=FoundByRivals(margin=0.3))) == {(0, 0, 1), (3, 3, 1)}
    assert (2, 2, 0) in found(ask(model, "mailbox", rule=FoundByRivals(margin=-0.25)))
    assert found(ask(model, "mailbox", against=("house",))) >= {(0, 0, 1), (3, 3, 1), (3, 2, 0), (2, 2, 0)}


def test_every_rival_counts_however_many_there_are() -> None:
    model = Knows(TWO_BOXES)
    for rivals in (("road", *"abcdefghij"), (*"abcdefghij", "road")):
        assert found(ask(model, "mailbox", against=rivals)) == {(0, 0, 1), (3, 3, 1), (3, 2, 0)}


def test_a_query_is_no_rival_of_itself() -> None:
    model = Knows(TWO_BOXES)
    # Nothing but houses competes with roads, however they are spelt; and mailboxes do not, being asked for.
    for word in ("road", "Road"):
        assert len(found(ask(model, word, "mailbox"))) == 18
    with pytest.raises(ConfigError, match="'road': has no rival but itself"):
        ask(model, "road", against=("Road",))
    assert ask(model, "road", against=("Road",), rule=FoundByShare()).counts[0] >= 1


def test_unknown_words_are_found_nowhere_and_the_best_share_somewhere() -> None:
    model = Knows(TWO_BOXES)
    answers = ask(model, "zebra")
    assert (answers.counts[0], answers.clusters[0]) == (0, 0)
    assert np.isnan(answers.centres).all()
    assert found(ask(model, "mailbox", rule=FoundByShare(share=0.1))) == {(0, 0, 1), (3, 3, 1)}
    assert len(found(ask(model, "mailbox", rule=FoundByShare(share=3 / 18)))) == 3
    # All road is as good as the best of it.
    assert len(found(ask(model, "road", rule=FoundByShare(share=0.001)))) == 14


def test_the_best_cluster_is_that_whose_margins_add_up_to_most() -> None:
    answers = ask(Knows(TWO_BOXES), "mailbox")
    # (3, 3, 1) touches (3, 2, 0) at an edge; (0, 0, 1) stands alone.
    assert answers.clusters.tolist() == [2]
    assert answers.centres[0].tolist() == pytest.approx([3.5, 3.0, 1.0])
    lone = {(0, 0, 1): MAILBOX, (3, 3, 1): HALF, (3, 2, 0): HALF}
    assert ask(Knows(lone), "mailbox").centres[0].tolist() == pytest.approx([0.5, 0.5, 1.5])


def test_an_empty_volume_has_no_answer() -> None:
    for rule in (FoundByRivals(), FoundByShare()):
        answers = ask(Knows(free=True), "mailbox", rule=rule)
        assert (len(answers.voxels), answers.counts.tolist()) == (0, [0])


@pytest.mark.parametrize(
    ("queries", "problem"),
    [
        ((), "at least one"),
        (("",), "is empty"),
        (("  ",), "is empty"),
        (("?!...",), "no letter or digit"),
        (("mail\nbox",), "control characters"),
        (("mail\x1b[31mbox",), "control characters"),
        (("mail\udcffbox",), "control characters"),
        (("x" * (MAX_CHARACTERS + 1),), "at most 200 characters, got 201"),
        (("mailbox", "tree", "mailbox"), "asked for twice"),
    ],
)
def test_what_cannot_be_asked(queries: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Questions(queries=queries)
    if queries:
        with pytest.raises(ConfigError, match=problem):
            Questions(queries=("road",), against=queries)


def test_words_of_any_language_can_be_asked() -> None:
    for query in ("Briefkasten", "почтовый ящик", "صندوق بريد", "邮箱", "route 66", "x" * MAX_CHARACTERS):
        Questions(queries=(query,))


def test_rules_that_cannot_be() -> None:
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="share"):
            FoundByShare(share=share)
    for margin in (3.0, float("nan")):
        with pytest.raises(ConfigError, match="margin"):
            FoundByRivals(margin=margin)


def test_a_model_that_knows_no_words_is_named() -> None:
    with pytest.raises(ConfigError, match="Linear: knows its classes and no other words"):
        Asker(nn.Linear(1, 1), Questions(queries=("mailbox",)))


class Dies(Exception):
    pass


def test_an_interrupted_call_is_continued(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, questions = Knows(TWO_BOXES), Questions(queries=("mailbox",))
    real = model.forward

    def forward(batch: Any) -> Any:
        if batch.tokens[0] == "c":
            raise Dies
        return real(batch)

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(Dies):
        ask_dataset(model, frames(), tmp_path, questions, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz", "queries.json"]
    monkeypatch.undo()
    model.calls = 0
    assert ask_dataset(model, frames(), tmp_path, questions, progress=False) == 1
    assert model.calls == 1
    answers = read_answers(tmp_path / "c.npz", queries=1)
    assert answers.grid == GRID
    assert found(answers) == {(0, 0, 1), (3, 3, 1), (3, 2, 0)}
    described = read_json(tmp_path / "queries.json")
    assert described["queries"] == ["mailbox"]
    assert described["against"] == ["road", "house"]
    assert described["found"] == {"rule": "FoundByRivals", "margin": 0.0}


def test_other_questions_need_another_folder(tmp_path: Any) -> None:
    model = Knows(TWO_BOXES)
    ask_dataset(model, frames(), tmp_path / "a", Questions(queries=("mailbox",)), progress=False)
    others = [
        Questions(queries=("house",)),
        Questions(queries=("mailbox",), against=("house",)),
        Questions(queries=("mailbox",), rule=FoundByShare()),
    ]
    for other in others:
        with pytest.raises(DataError, match="answers to other questions"):
            ask_dataset(model, frames(), tmp_path / "a", other, progress=False)
    trained = Knows(TWO_BOXES)
    trained.register_buffer("weight", torch.ones(1))
    with pytest.raises(DataError, match="or of another model"):
        ask_dataset(trained, frames(), tmp_path / "a", Questions(queries=("mailbox",)), progress=False)
    (tmp_path / "a" / "queries.json").unlink()
    with pytest.raises(DataError, match="no answers"):
        ask_dataset(model, frames(), tmp_path / "a", Questions(queries=("mailbox",)), progress=False)
