"""A report as one HTML file: pictures inside, no script, nothing fetched; for paper, phone and the dark."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from occkit.files import write_bytes
from occkit.viewer.canvas import Picture, encode
from occkit.viewer.chart import Series, line_chart


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs."""

    paragraphs: tuple[str, ...]
    """Plain text; nothing in it is markup."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column names the row and whose other columns are figures."""

    columns: tuple[str, ...]
    """Headings, the first one included."""
    rows: tuple[tuple[str, ...], ...]
    """As many cells as columns."""
    note: str = ""
    """A remark below."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"Table: every row needs {len(self.columns)} cells")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One class in a list of bars."""

    name: str
    """Of the class."""
    colour: tuple[int, int, int]
    """RGB 0..255."""
    value: float | None
    """0..1; None for a class that does not count."""
    reference: float | None = None
    """0..1; drawn as a tick: what a prediction without looking reaches."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Scores of classes, as bars with their figures in percent."""

    bars: tuple[Bar, ...]
    """In the order shown."""
    note: str = ""
    """A remark below, to say what the bar and the tick are."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """What the colours of pictures mean."""

    entries: tuple[tuple[str, tuple[int, int, int]], ...]
    """Name and RGB 0..255."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture with a caption."""

    picture: Picture
    """`[h, w, 3]` uint8."""
    caption: str
    """What is seen; also read to who cannot see it."""
    photo: bool = False
    """Store as JPEG: for pictures that are mostly camera image."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures side by side, below each other on a narrow screen."""

    figures: tuple[Figure, ...]
    """From left to right."""
    small: bool = False
    """Three side by side instead of two, where there is room."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line chart."""

    lines: tuple[Series, ...]
    """What to draw."""
    x_label: str
    """With its unit."""
    y_label: str
    """With its unit."""
    caption: str = ""
    """A remark below."""


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Command lines to copy."""

    lines: tuple[tuple[str, str], ...]
    """What it does, and the command."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """A line that leads to a file beside the page."""

    text: str
    """What is there."""
    file: str
    """Its path from the page's folder."""


Block = Text | Table | Bars | Key | Figure | Row | Chart | Commands | Link


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    title: str
    """Heading."""
    blocks: tuple[Block, ...]
    """In reading order."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A page."""

    title: str
    """First line."""
    lead: str
    """What this is, in a sentence or two."""
    figures_of_merit: tuple[tuple[str, str, str], ...] = ()
    """The few numbers to see first: value, name, what to hold beside it."""
    sections: tuple[Section, ...] = ()
    """In reading order."""
    footer: str = ""
    """Last line: versions, seeds, times."""


def write_report(path: Path, report: Report) -> None:
    """Write a report as one self-contained HTML file, whole or not at all.

    Raises:
        DataError: if the file cannot be written.
    """
    write_bytes(path, render_report(report).encode())


def render_report(report: Report) -> str:
    """Return the HTML document."""
    merits = "".join(
        f'<div class="merit"><b>{_safe(value)}</b><span>{_safe(name)}</span><small>{_safe(beside)}</small></div>'
        for value, name, beside in report.figures_of_merit
    )
    sections = "".join(
        f"<section><h2>{_safe(section.title)}</h2>{''.join(_block(block) for block in section.blocks)}</section>"
        for section in report.sections
    )
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_safe(report.title)}</title><style>{_STYLE}</style></head><body><main>"
        f'<header><h1>{_safe(report.title)}</h1><p class="lead">{_safe(report.lead)}</p></header>'
        + (f'<div class="merits">{merits}</div>' if merits else "")
        + sections
        + (f"<footer>{_safe(report.footer)}</footer>" if report.footer else "")
        + "</main></body></html>\n"
    )


def _safe(text: str) -> str:
    return html.escape(text, quote=True)


def _block(block: Block) -> str:
    if isinstance(block, Text):
        return "".join(f"<p>{_safe(paragraph)}</p>" for paragraph in block.paragraphs)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Bars):
        return _bars(block)
    if isinstance(block, Key):
        entries = "".join(f"<span>{_swatch(colour)}{_safe(name)}</span>" for name, colour in block.entries)
        return f'<div class="key-of-colours">{entries}</div>'
    if isinstance(block, Figure):
        return _figure(block)
    if isinstance(block, Row):
        kind = "row small" if block.small else "row"
        return f'<div class="{kind}">{"".join(_figure(figure) for figure in block.figures)}</div>'
    if isinstance(block, Chart):
        note = f"<figcaption>{_safe(block.caption)}</figcaption>" if block.caption else ""
        return f"<figure>{line_chart(block.lines, x_label=block.x_label, y_label=block.y_label)}{note}</figure>"
    if isinstance(block, Link):
        return f'<p><a href="{_safe(quote(block.file))}">{_safe(block.text)}</a></p>'
    steps = "".join(f"<p>{_safe(what)}</p><pre><code>{_safe(line)}</code></pre>" for what, line in block.lines)
    return f'<div class="commands">{steps}</div>'


def _cells(row: Sequence[str], tag: str) -> str:
    first, rest = row[0], row[1:]
    return f'<{tag} class="name">{_safe(first)}</{tag}>' + "".join(f"<{tag}>{_safe(cell)}</{tag}>" for cell in rest)


def _table(table: Table) -> str:
    rows = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in table.rows)
    note = f'<p class="note">{_safe(table.note)}</p>' if table.note else ""
    head = f"<thead><tr>{_cells(table.columns, 'th')}</tr></thead>"
    return f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>{note}'


def _bars(block: Bars) -> str:
    rows: list[str] = []
    for bar in block.bars:
        figure = "n/a" if bar.value is None else f"{100 * bar.value:.1f}"
        width = 0.0 if bar.value is None else 100 * bar.value
        tick = "" if bar.reference is None else f'<i class="tick" style="left:{100 * bar.reference:.2f}%"></i>'
        rows.append(
            f'<div class="bar">{_swatch(bar.colour)}<span>{_safe(bar.name)}</span>'
            f'<span class="track"><i class="fill" style="width:{width:.2f}%"></i>{tick}</span><b>{figure}</b></div>'
        )
    note = f'<p class="note">{_safe(block.note)}</p>' if block.note else ""
    return f'<div class="bars">{"".join(rows)}</div>{note}'


def _swatch(colour: tuple[int, int, int]) -> str:
    return '<i class="swatch" style="background:#{:02x}{:02x}{:02x}"></i>'.format(*colour)


def _figure(figure: Figure) -> str:
    height, width = figure.picture.shape[:2]
    kind = "jpeg" if figure.photo else "png"
    data = base64.b64encode(encode(figure.picture, jpeg=figure.photo)).decode()
    caption = _safe(figure.caption)
    return (
        f'<figure><img width="{width}" height="{height}" alt="{caption}" src="data:image/{kind};base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


_STYLE = """
:root{color-scheme:light dark;--paper:#fbfbfa;--ink:#1f2328;--soft:#667079;--rule:#dfe2e5;--plate:#f0f1f2;
--line-0:#1f6feb;--line-1:#d1582a;--line-2:#2c8a4b;--line-3:#8a4fbf;--line-4:#a97a00}
@media(prefers-color-scheme:dark){:root{--paper:#15181c;--ink:#e4e7ea;--soft:#9aa4ad;--rule:#31373d;--plate:#20252a;
--line-0:#6aa6ff;--line-1:#ff9a68;--line-2:#6fce8f;--line-3:#c59bf0;--line-4:#e3b94a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",sans-serif;
font-variant-numeric:tabular-nums}
main{max-width:1120px;margin:0 auto;padding:3.5rem 1.5rem 4rem}
h1{font-size:2.1rem;line-height:1.2;font-weight:650;letter-spacing:-.02em;margin:0 0 .6rem}
h2{font-size:1.25rem;font-weight:620;letter-spacing:-.01em;margin:3rem 0 .8rem;padding-top:1.1rem;
border-top:1px solid var(--rule)}
p{max-width:46rem;margin:.5rem 0}
a{color:var(--line-0)}
.lead{font-size:1.1rem;color:var(--soft)}
.merits{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:1rem;margin:1.8rem 0 0}
.merit{background:var(--plate);border-radius:10px;padding:1rem 1.1rem;display:flex;flex-direction:column}
.merit b{font-size:1.9rem;line-height:1.15;font-weight:640;letter-spacing:-.02em}
.merit small,.note,figcaption,footer{color:var(--soft);font-size:.88rem}
figure{margin:1.2rem 0}
img{display:block;max-width:100%;height:auto;border-radius:6px;border:1px solid var(--rule)}
figcaption{margin-top:.45rem;max-width:46rem}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr));gap:0 1.4rem}
.row.small{grid-template-columns:repeat(auto-fill,minmax(min(300px,100%),1fr));gap:0 .8rem}
.row figure{margin:.8rem 0}
.row.small figure{margin:.35rem 0}
.row img{width:100%}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.95rem;margin:.8rem 0}
th,td{text-align:right;padding:.36rem .9rem;border-bottom:1px solid var(--rule);white-space:nowrap}
th{font-weight:600;color:var(--soft)}
.name{text-align:left;padding-left:0;white-space:normal;min-width:11rem}
.bars{columns:2;column-gap:2.5rem;margin:.8rem 0;max-width:60rem}
.bar{display:grid;grid-template-columns:14px 11.5rem 1fr 3rem;gap:.6rem;align-items:center;break-inside:avoid;
font-size:.93rem;line-height:1.75}
.bar b{text-align:right;font-weight:550}
.swatch{width:14px;height:14px;border-radius:3px;border:1px solid var(--rule)}
.key-of-colours{display:flex;flex-wrap:wrap;gap:.25rem 1.3rem;font-size:.9rem;margin:.6rem 0 1.2rem}
.key-of-colours span{display:inline-flex;align-items:center;gap:.5rem}
.track{position:relative;height:8px;border-radius:4px;background:var(--plate)}
.fill{position:absolute;inset:0 auto 0 0;border-radius:4px;background:var(--line-0)}
.tick{position:absolute;top:-3px;bottom:-3px;width:2px;background:var(--ink)}
.chart{width:100%;max-width:760px;display:block}
.chart text{fill:var(--soft);font-size:12px}
.chart .rule{stroke:var(--rule);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.line-0{stroke:var(--line-0)}.line-1{stroke:var(--line-1)}.line-2{stroke:var(--line-2)}.line-3{stroke:var(--line-3)}.line-4{stroke:var(--line-4)}
.mark{fill:var(--paper);stroke-width:2}
.keys{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;font-size:.88rem;color:var(--soft)}
.key::before{content:"";display:inline-block;width:1.1em;height:3px;margin-right:.5em;vertical-align:middle;
background:var(--line-0)}
.key-1::before{background:var(--line-1)}.key-2::before{background:var(--line-2)}.key-3::before{background:var(--line-3)}
.key-4::before{background:var(--line-4)}
pre{background:var(--plate);border-radius:8px;padding:.7rem 1rem;overflow-x:auto;margin:.3rem 0 1rem;max-width:60rem}
code{font:.9rem/1.5 ui-monospace,"SF Mono",Menlo,Consolas,monospace}
footer{margin-top:3.5rem;padding-top:1rem;border-top:1px solid var(--rule)}
@media(max-width:640px){main{padding:1.8rem 1rem 3rem}h1{font-size:1.6rem}.bars{columns:1}
.bar{grid-template-columns:14px 9.5rem 1fr 2.6rem}}
@media print{body{background:#fff;color:#000}section{break-inside:avoid}}
"""
