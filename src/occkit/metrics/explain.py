"""Why two protocols give different numbers for the same predictions: one rule is changed at a time, and scored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int64

from occkit.metrics.ray_iou import RayProtocol
from occkit.metrics.voxel_iou import Scores, Trim, VoxelProtocol, mean
from occkit.taxonomy import Taxonomy

# First which voxels, then which classes, then what counts as what: a class that a later rule empties has left by then.
_RULES: tuple[tuple[str, ...], ...] = (
    ("mask",),
    ("trim",),
    ("left_out",),
    ("counted_as_free",),
    ("dropped_labels",),
    ("absent_class", "absent_when"),
    ("eps",),
)


def explain(
    protocols: Sequence[VoxelProtocol],
    counts: Mapping[Trim | None, Int64[np.ndarray, "2 2 c c"]],
    rays: Sequence[tuple[RayProtocol, Int64[np.ndarray, "c columns"]]],
    taxonomy: Taxonomy,
    *,
    frames: int,
) -> str:
    """Return the text of `Evaluator.explain`.

    Args:
        protocols: the first is what the others are compared with.
        counts: sums over all frames, for each trim that a protocol has.
        rays: ray protocols with their sums.
        taxonomy: of the labels.
        frames: how many there were.
    """
    rows = [("protocol", "mask", "classes", "absent class", "evaluated", "mIoU %", "IoU %")]
    rows += [_row(protocol, counts[protocol.trim], taxonomy) for protocol in protocols]
    rows += [_ray_row(protocol, table, taxonomy) for protocol, table in rays]
    parts = [f"{frames} frame{'s' if frames != 1 else ''}, labels {taxonomy.name}", _table(rows)]
    parts += [_path(protocols[0], other, counts, taxonomy) for other in protocols[1:]]
    if rays and protocols:
        parts.append(
            f"{rays[0][0].name} is not comparable with these: it counts rays of a scanner whose label is not free,\n"
            "wants class and distance right, has no mask, and is blind to predictions where the label lets a ray pass."
        )
    notes = [f"  {p.name}: {p.notes}" for p in protocols if p.notes]
    if notes:
        parts.append("\n".join(["Notes", *notes]))
    return "\n\n".join(parts)


def _row(protocol: VoxelProtocol, counts: Int64[np.ndarray, "2 2 c c"], taxonomy: Taxonomy) -> tuple[str, ...]:
    confusion = protocol.confusion(counts, taxonomy)
    return (
        protocol.name,
        protocol.mask,
        f"{len(protocol.classes(taxonomy))} of {len(taxonomy.semantic_ids)}",
        _absent(protocol),
        f"{int(confusion.sum())} voxels",
        _percent(_miou(protocol, counts, taxonomy), protocol.decimals),
        _percent(protocol.completion(confusion, taxonomy)["iou"], protocol.decimals),
    )


def _ray_row(protocol: RayProtocol, counts: Int64[np.ndarray, "c columns"], taxonomy: Taxonomy) -> tuple[str, ...]:
    classes = protocol.classes(taxonomy)
    score = protocol.score(counts, taxonomy)["rayiou"]
    assert score is None or isinstance(score, float)
    return (
        protocol.name,
        "none",
        f"{len(classes)} of {len(taxonomy.semantic_ids)}",
        "nan if neither labelled nor predicted",
        f"{int(counts[:, 0].sum())} rays",
        _percent(score, protocol.decimals),
        "",
    )


def _path(
    start: VoxelProtocol,
    goal: VoxelProtocol,
    counts: Mapping[Trim | None, Int64[np.ndarray, "2 2 c c"]],
    taxonomy: Taxonomy,
) -> str:
    """Walk from one protocol to another, rule by rule."""
    current, scores = start, _class_scores(start, counts[start.trim], taxonomy)
    rows = [("", start.name, _percent(_mean(start, scores, taxonomy)), "", "")]
    for fields in _RULES:
        if all(getattr(current, name) == getattr(goal, name) for name in fields):
            continue
        changed = replace(current, **{name: getattr(goal, name) for name in fields})
        after = _class_scores(changed, counts[changed.trim], taxonomy)
        before, now = _mean(current, scores, taxonomy), _mean(changed, after, taxonomy)
        step = "" if before is None or now is None else f"{100 * (now - before):+.2f}"
        members = _members(current, scores, changed, after, taxonomy)
        rows.append((step, _change(fields, current, changed), _percent(now), "", members))
        current, scores = changed, after
    if len(rows) == 1:
        return f"From {start.name} to {goal.name}\n  no rule differs that changes mIoU"
    rows.append(("", goal.name, _percent(_mean(current, scores, taxonomy)), "", ""))
    return f"From {start.name} to {goal.name}\n" + _table(rows, indent="  ")


def _class_scores(protocol: VoxelProtocol, counts: Int64[np.ndarray, "2 2 c c"], taxonomy: Taxonomy) -> Scores:
    return protocol.per_class(protocol.confusion(counts, taxonomy), taxonomy)


def _mean(protocol: VoxelProtocol, scores: Scores, taxonomy: Taxonomy) -> float | None:
    return mean(scores[name] for name in protocol.classes(taxonomy))


def _miou(protocol: VoxelProtocol, counts: Int64[np.ndarray, "2 2 c c"], taxonomy: Taxonomy) -> float | None:
    return _mean(protocol, _class_scores(protocol, counts, taxonomy), taxonomy)


def _members(
    before: VoxelProtocol, scores: Scores, after: VoxelProtocol, new_scores: Scores, taxonomy: Taxonomy
) -> str:
    """Say which classes left or joined the mean, and at which score."""
    old = {name: scores[name] for name in before.classes(taxonomy) if scores[name] is not None}
    new = {name: new_scores[name] for name in after.classes(taxonomy) if new_scores[name] is not None}
    texts = [
        f"{word} the mean: " + ", ".join(f"{name} ({_percent(side[name], 1)})" for name in names)
        for word, side, names in (
            ("leave", old, [name for name in old if name not in new]),
            ("join", new, [name for name in new if name not in old]),
        )
        if names
    ]
    rescored = [name for name in old if name in new and old[name] != new[name]]
    if rescored and len(rescored) <= 4:
        texts.append(", ".join(f"{n} {_percent(old[n], 1)} -> {_percent(new[n], 1)}" for n in rescored))
    return "; ".join(texts)


def _change(fields: tuple[str, ...], before: VoxelProtocol, after: VoxelProtocol) -> str:
    if fields == ("absent_class", "absent_when"):
        return f"absent class scores {_absent(after)} (was {_absent(before)})"
    if fields == ("trim",):
        trim = after.trim
        cleared = "nothing" if trim is None else f"a {trim.border} m border and what is {trim.height} m above the floor"
        return f"cleared from the prediction: {cleared}"
    words = {
        "mask": "mask",
        "counted_as_free": "counted as free",
        "dropped_labels": "labels not evaluated",
        "left_out": "classes left out of the mean",
        "eps": "added to the union",
    }
    old, new = (_value(getattr(protocol, fields[0])) for protocol in (before, after))
    return f"{words[fields[0]]}: {new} (was {old})"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value) or "none"
    return str(value)


def _absent(protocol: VoxelProtocol) -> str:
    condition = "neither labelled nor predicted" if protocol.absent_when == "union" else "not labelled"
    return f"{protocol.absent_class} if {condition}"


def _percent(value: float | None, decimals: int = 2) -> str:
    return "-" if value is None else f"{100 * value:.{decimals}f}"


def _table(rows: Sequence[tuple[str, ...]], *, indent: str = "") -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(indent + line.rstrip() for line in lines)
