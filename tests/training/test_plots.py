"""Curves of runs and pictures of claim cards, from the files that training and claims write."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from occkit.errors import ConfigError, DataError
from occkit.training.claim import AtLeast, Difference, Ratio, judge
from occkit.training.claim_plot import plot_card, read_card, short_name, shown_metrics
from occkit.training.curves import plot_curves, read_curves, running_mean
from occkit.training.plots import encode_figure


def write_run(folder, *, steps=40, tail=""):
    lines = []
    for step in range(1, steps + 1):
        lines.append({"step": step, "loss": 3.0 / step, "losses": {"depth": 1.0 / step, "lovasz_softmax": 2.0 / step}})
        if step % 20 == 0:
            figures = {"miou": step / 100, "iou": 0.5, "miou_15": None}
            lines.append({"step": step, "validation": {"occ3d": figures, "rayiou": {"rayiou": 0.1, "rayiou@1": 0.05}}})
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)
    return folder


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_curves_hold_what_was_written_and_a_cut_off_line_is_left_out(tmp_path):
    curves = read_curves(write_run(tmp_path / "run", tail='{"step": 41, "lo'))
    assert list(curves.losses) == ["loss", "depth", "lovasz_softmax"]
    assert curves.losses["loss"].steps.tolist() == list(range(1, 41))
    assert curves.losses["depth"].values[3] == 0.25
    assert curves.scores["occ3d.miou"].steps.tolist() == [20, 40]
    assert "occ3d.miou_15" not in curves.scores


@pytest.mark.parametrize(
    ("text", "problem"),
    [('{"step": 1}\nnonsense\n{"step": 2}\n', "line 2 is damaged"), ("", "no step"), (None, "has no")],
)
def test_damaged_metrics_are_named(tmp_path, text, problem):
    if text is not None:
        (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(DataError, match=problem):
        read_curves(tmp_path)


def test_running_mean_is_centred_and_keeps_constants():
    values = np.array([0.0, 0, 3, 0, 0])
    assert running_mean(values, 3).tolist() == [0, 1, 1, 1, 0]
    assert running_mean(np.full(7, 2.5), 4).tolist() == [2.5] * 7
    assert running_mean(values, 1) is values


def test_a_panel_a_loss_and_a_protocol_with_a_line_a_run(tmp_path):
    runs = {name: read_curves(write_run(tmp_path / name)) for name in ("a", "b")}
    figure = plot_curves(runs)
    assert titles(figure) == ["loss, sum", "depth", "lovasz softmax", "occ3d.miou, %", "rayiou.rayiou, %"]
    score = figure.axes[3]
    assert [line.get_ydata().tolist() for line in score.lines] == [[20, 40], [20, 40]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    chosen = plot_curves(runs, only=("loss",), log=True, smooth=1)
    assert titles(chosen) == ["loss, sum"]
    assert chosen.axes[0].get_yscale() == "log"
    assert len(chosen.axes[0].lines) == 2  # without smoothing there is no faint line behind
    with pytest.raises(ConfigError, match=r"--only mIoU: the runs have loss, depth"):
        plot_curves(runs, only=("mIoU",))


def test_a_line_in_a_few_words():
    scores = {"a": {"occ3d.miou": [0.2, 0.3], "cost.train_s": [9.0, 9.0]}, "b": {"occ3d.miou": [0.1, 0.1]}}
    lines = (
        Difference(arm="a", baseline="b", metric="occ3d.miou", threshold=-0.03),
        Ratio(arm="a", baseline="b", metric="occ3d.miou", threshold=2),
        AtLeast(arm="a", metric="cost.train_s", threshold=0.4),
    )
    said = [short_name(asdict(judge(line, scores))) for line in lines]
    assert said == ["a \u2212 b, occ3d.miou", "a ÷ b, occ3d.miou", "a, cost.train_s"]


def card():
    lines = [
        Difference(arm="new", baseline="old", metric="occ3d.miou", threshold=0.02),
        Ratio(arm="new", baseline="prior", metric="occ3d.miou", threshold=3),
    ]
    nothing = {"value": None, "interval": None, "threshold": 0.0, "met": False}
    scores = {
        "prior": {"occ3d.miou": [0.05, 0.06], "occ3d.iou": [0.5, 0.5]},
        "old": {"occ3d.miou": [0.2, 0.22], "occ3d.iou": [0.6, 0.6], "occ3d.per_class.car": [0.1, 0.1]},
        "new": {"occ3d.miou": [0.25, 0.26], "occ3d.iou": [0.6, 0.6], "visible.miou": [0.3, 0.3], "visible.iou": [1, 1]},
    }
    judged = [asdict(judge(line, scores)) | nothing for line in lines]
    judged[0] |= {"value": 0.045, "interval": [0.03, 0.06], "threshold": 0.02, "met": True}
    return {"claim": "New beats old.", "seeds": [0, 1], "scores": scores, "pass_lines": judged}


def test_a_card_shows_every_arm_and_every_line(tmp_path):
    assert shown_metrics(card()["scores"], ["occ3d.iou"]) == ["occ3d.iou", "occ3d.miou", "visible.miou"]
    drawn = {"mutual": {"drawn.kernel": [1.0], "told.kernel": [0.5], "told.nearest": [0.1]}, "text": {}}
    assert shown_metrics(drawn, ["drawn.kernel"]) == ["drawn.kernel", "told.kernel"]
    figure = plot_card(card())
    assert titles(figure)[:3] == ["occ3d.miou, %", "occ3d.iou, %", "visible.miou, %"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["prior", "old", "new"]
    difference, ratio = figure.axes[3:]
    assert [t.get_text() for t in difference.texts] == ["4.50 [3.00, 6.00] > 2: holds"]
    assert [t.get_text() for t in ratio.texts] == ["no number > 0: does not hold"]
    (tmp_path / "card.json").write_text(json.dumps(card()))
    for ending, start in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        assert encode_figure(plot_card(read_card(tmp_path / "card.json")), ending).startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"claim": "x"}',
        '{"claim": "x", "seeds": [], "scores": {}, "pass_lines": []}',
        '{"claim": "x", "seeds": [0], "scores": {"a": {}}, "pass_lines": [{"statement": "a is more than 0"}]}',
    ],
)
def test_what_is_no_card_is_refused(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(DataError, match="is no claim card"):
        read_card(tmp_path / "card.json")
