import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from occkit.viewer.chart import Series, line_chart, nice_ticks
from occkit.viewer.report import (
    Bar,
    Bars,
    Chart,
    Commands,
    Figure,
    Key,
    Report,
    Row,
    Section,
    Table,
    Text,
    render_report,
    write_report,
)

PICTURE = np.zeros((8, 12, 3), dtype=np.uint8)
VOID = {"meta", "img", "line", "polyline", "circle", "br"}
REPORT = Report(
    title="A <b>title</b>",
    lead="lead & more",
    figures_of_merit=(("18.4 %", "mIoU", "prior 5.1 %"),),
    sections=(
        Section(
            title="All kinds",
            blocks=(
                Text(paragraphs=("one", "two")),
                Table(columns=("protocol", "mIoU"), rows=(("occ3d", "18.4"),), note="percent"),
                Bars(
                    bars=(
                        Bar(name="car", colour=(0, 130, 245), value=0.5, reference=0.25),
                        Bar(name="bus", colour=(255, 230, 40), value=None),
                    )
                ),
                Key(entries=(("car", (0, 130, 245)),)),
                Figure(picture=PICTURE, caption="a picture"),
                Row(figures=(Figure(picture=PICTURE, caption="a photo", photo=True),), small=True),
                Chart(lines=(Series(name="loss", x=[0, 1, 2], y=[3.0, 2.0, 1.0]),), x_label="step", y_label="loss"),
                Commands(lines=(("train", "occkit train <x>"),)),
            ),
        ),
    ),
    footer="seed 0",
)


class Checker(HTMLParser):
    """Counts elements, and insists that each is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.count, self.links = [], {}, []

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def check(page):
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert checker.open == []
    return checker


def test_page_is_whole_and_stands_alone():
    page = render_report(REPORT)
    found = check(page)
    assert all(link.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for link in found.links)
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert "script" not in found.count
    assert found.count["img"] == 2
    assert found.count["table"] == 1
    assert found.count["svg"] == 1
    assert found.count["pre"] == 1


def test_key_shows_name_and_colour():
    assert 'style="background:#0082f5"></i>car' in render_report(REPORT)


def test_text_is_never_markup():
    page = render_report(REPORT)
    assert "<title>A &lt;b&gt;title&lt;/b&gt;</title>" in page
    assert "lead &amp; more" in page
    assert "occkit train &lt;x&gt;" in page


def test_bars_show_percent_and_the_reference():
    page = render_report(REPORT)
    assert "width:50.00%" in page
    assert "left:25.00%" in page
    assert "<b>50.0</b>" in page
    assert "<b>n/a</b>" in page


def test_file_is_written_whole(tmp_path):
    path = tmp_path / "out" / "report.html"
    write_report(path, REPORT)
    assert path.read_text() == render_report(REPORT)
    write_report(path, replace(REPORT, title="again"))
    assert "<h1>again</h1>" in path.read_text()
    assert len(list(path.parent.iterdir())) == 1


def test_every_row_of_a_table_has_all_columns():
    with pytest.raises(ValueError, match="2 cells"):
        Table(columns=("a", "b"), rows=(("1",),))


def test_chart_draws_points_in_order_and_skips_what_is_not_finite():
    svg = line_chart(
        [Series(name="loss", x=[0, 1, 2, 3], y=[4.0, float("nan"), 2.0, 1.0], marks=True)], x_label="step", y_label="l"
    )
    places = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert len(places) == 3
    assert [p[0] for p in places] == sorted(p[0] for p in places)
    assert [p[1] for p in places] == sorted(p[1] for p in places)  # falling values run down the page
    assert svg.count("<circle") == 3


def test_chart_of_nothing_is_refused_and_of_one_point_is_not():
    with pytest.raises(ValueError, match="no series"):
        line_chart([Series(name="x", x=[], y=[])], x_label="x", y_label="y")
    check(line_chart([Series(name="x", x=[3], y=[0.0])], x_label="x", y_label="y"))


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0.3, 0.9, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]), (5, 5, [5])],
)
def test_ticks_are_round(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)
