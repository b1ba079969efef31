"""docs/protocols.md holds a table made from the protocols themselves.

After a change that is meant: `OCCKIT_UPDATE_DOCS=1 python -m pytest tests/metrics/test_protocols_page.py`.
"""

import os
import re
from pathlib import Path

from occkit.metrics import PROTOCOLS
from occkit.taxonomy import TAXONOMIES

PAGE = Path(__file__).parents[2] / "docs" / "protocols.md"
MARKS = re.compile(r"(<!-- table -->\n).*(<!-- end of table -->)", flags=re.DOTALL)
ABSENT = {"nan": "left out", "zero": "0", "one": "1"}


def table() -> str:
    lines = [
        "| protocol | labels | mask | classes in the mean | a class that is absent scores | source |",
        "|---" * 6 + "|",
    ]
    for name, protocol in PROTOCOLS.items():
        taxonomy = TAXONOMIES[protocol.taxonomies[0]]
        rules = protocol.describe(taxonomy)
        every = [taxonomy.classes[i] for i in taxonomy.semantic_ids]
        missing = [c for c in every if c not in rules["classes"]]
        classes = f"{len(rules['classes'])}" + (f" (without {', '.join(missing)})" if missing else "")
        absent = ABSENT[rules["absent_class"]]
        if absent == "left out":
            absent += " if never predicted either, else 0" if rules["absent_when"] == "union" else " even if predicted"
        labels = ", ".join(protocol.taxonomies)
        lines.append(f"| `{name}` | {labels} | {rules['mask']} | {classes} | {absent} | {rules['source']} |")
    return "\n".join(lines)


def test_the_table_is_made_from_the_protocols():
    page = PAGE.read_text(encoding="utf-8")
    wanted = MARKS.sub(lambda m: m.group(1) + table() + "\n" + m.group(2), page)
    if os.environ.get("OCCKIT_UPDATE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert page == wanted or os.environ.get("OCCKIT_UPDATE_DOCS")
