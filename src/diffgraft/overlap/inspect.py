"""Before any training: can a density ratio carry the transfer from these source points to these target points?

A ratio method reweighs what the source model makes. So it needs a source that makes something like the target often
enough. Everything is estimated on rows drawn at random, standardised by the source; repeats, constant columns and labels
are looked for in all rows, which may be memory-mapped.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import NULL, Data, Points, Transform
from ..density import label_name
from ..domain import FOLDS, MANY, Features, kernel_ratio, seen_by_classifier
from ..roc import interval
from ..support import extremes, neighbour_distances, outside
from .advice import advise
from .repeats import repeats
from .shifts import column_names, constant_columns, discrete_columns, shifts, summary

ROWS = {"source": 10_000, "target": 5_000}
"""Most rows of a domain that statistics are estimated on, ..."""
NUMBERS = 20_000_000
"""... and fewer where they would hold more numbers than this, ..."""
LEAST_ROWS = 500
"""... but not fewer than this."""
NEIGHBOURS = 5_000
"""Most source points among which neighbours are looked for."""
LABELS = 10
"""Most labels, the commonest of the target, within which the domains are compared, ..."""
LABEL_ROWS = {"source": 2_000, "target": 1_000}
"""... on no more rows than this, ..."""
LEAST_OF_LABEL = 10
"""... and no fewer."""
Names = tuple[str, ...] | None
"""Of labels, in the order of their indices."""
Owners = Sequence[str] | None
"""Of target rows."""


def inspect(
    source: Points,
    target: Points,
    *,
    columns: tuple[str, ...] | None = None,
    labels: tuple[str, ...] | None = None,
    seed: int = 0,
    features: Features | None = None,
    owners: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare two data sets and advise on a method.

    Args:
        source, target: Samples, with labels or without, in data units.
        columns: Names of a table's features, or of a signal's channels.
        labels: Names of the labels, in the order of their indices.
        seed: Of the rows drawn and of the classifier.
        features: From samples (B, *), standardised by the source, to (B, F): what the classifier and the neighbours look at.
            By default tables whole; the classifier sees anything else through its principal components.
        owners: Whose each target sample is, such as names of patients; the classifier is scored on others' than it has seen.

    Returns:
        A report that JSON can hold. Rows and features count from 0.

        - `advice`: "tgdp", "finetune", "more_data" or "source"; `reasons`: why, in sentences (`advice.say` adds what to mind).
        - `sizes`: rows of `source` and `target`, `shape` of a sample, and how many rows were `judged` of either.
        - `labels`: how often each occurs in `source` and `target` (None where a domain has none), `new` ones that the
          source lacks; None without labels.
        - `classifier`: held-out `auc` with its 95 % `auc_interval` (None below 4 target points), `calibration` (mean
          probability, share of target points, count, by tenths) with the `calibration_error`, the mean gap between the two,
          and whether it `sees_labels`: where both domains have them and none is new.
        - `effective_sample_size`: under the clipped ratio, of the `judged` points (`of` so many), as a `share`, and that share
          of all source `points`.
        - `outside`: share of target points outside the source's support by `density` (None for images and wide tables) and by
          `neighbours`, and the `extreme` ones: row, distance (1 is usual at most), the feature with the largest |z|.
        - `shifts`: see `shifts.shifts`, the largest first; `columns`: `constant` ones of either domain, `discrete` ones and
          how many values they take.
        - `duplicates`: see `repeats.repeats`.
        - `within_labels`: `auc` and `auc_interval` within labels, the mean weighed by target points, `target_points` covered,
          and `by_label`; None where no label is common enough.

    Raises:
        BadData: The data cannot be compared, or `columns` do not fit them.
    """
    data = Data(source=source, target=target, owners=owners)
    assert data.source is not None
    source, target = data.source, data.target
    kinds = column_names(source.x.shape[1], columns) if source.x.ndim == 2 or columns else [f"channel {k}" for k in range(source.x.shape[1])]
    names = kinds if source.x.ndim == 2 else []
    a, b = (_some(pool, what, seed) for pool, what in ((source, "source"), (target, "target")))
    report = {
        "sizes": {"source": source.n, "target": target.n, "shape": list(source.x.shape[1:]), "judged": {"source": len(a), "target": len(b)}},
        "labels": _labels(source, target, labels),
        **_estimates(source, target, a, b, kinds, labels, features, data.owners, seed),
        "columns": {
            "constant": {"source": constant_columns(source.x, names), "target": constant_columns(target.x, names)},
            "discrete": discrete_columns(torch.cat([source.x[a], target.x[b]]), names),
        },
        "duplicates": repeats(source.x, target.x),
    }
    advice, reasons = advise(report)
    return {"advice": advice, "reasons": reasons, **report}


def _some(pool: Points, what: str, seed: int) -> Tensor:
    """Rows drawn at random, in their order."""
    most = max(LEAST_ROWS, min(ROWS[what], NUMBERS // pool.x[0].numel()))
    return torch.randperm(pool.n, generator=rng.generator(seed, "rows", what))[:most].sort().values


def _estimates(
    source: Points, target: Points, a: Tensor, b: Tensor, kinds: list[str], labels: Names, features: Features | None, owners: Owners, seed: int
) -> dict[str, Any]:
    """What is estimated on the rows `a` of the source and `b` of the target."""
    few, scarce = source.take(a), target.take(b)
    space = Transform.fit(few.x)
    compared = [summary(pool.x, kinds) for pool in (few, scarce)]
    few, scarce = (Points(space.forward(pool.x), pool.y) for pool in (few, scarce))
    looks = features or seen_by_classifier(few, scarce)
    return {
        **_ratio(few, scarce, source.n, looks, _of(owners, b), seed),
        "outside": _outside(few, scarce, b, kinds, features, seed),
        "shifts": shifts(compared[0][0], compared[1][0], compared[0][1]),
        "within_labels": _within_labels(source, target, space, looks, labels, owners, seed),
    }


def _of(owners: Owners, rows: Tensor) -> Owners:
    return owners and [owners[row] for row in rows.tolist()]


def _ratio(source: Points, target: Points, n_source: int, looks: Features | None, owners: Owners, seed: int) -> dict[str, Any]:
    """The classifier's scores and the effective sample size."""
    sees = _share_labels(source, target) and not _new_labels(source, target)
    if not sees:
        source, target = Points(source.x), Points(target.x)
    notes = kernel_ratio(source, target, rng.split(seed, "ratio"), features=looks, owners=owners).notes
    rows, of = notes["calibration"], min(source.n, MANY)
    gap = sum(count * abs(mean - share) for mean, share, count in rows) / sum(count for *_, count in rows)
    held_out = "auc_interval" in notes
    size = min(notes["effective_sample_size"], of)
    return {
        "classifier": {
            "auc": notes["auc"] if held_out else None,
            "auc_interval": notes.get("auc_interval"),
            "calibration": [list(row) for row in rows],
            "calibration_error": round(gap, 5),
            "sees_labels": sees,
        },
        "effective_sample_size": {"judged": size, "of": of, "share": round(size / of, 5), "points": round(size / of * n_source, 1)},
    }


def _outside(source: Points, target: Points, rows: Tensor, kinds: list[str], features: Features | None, seed: int) -> dict[str, Any]:
    """How much of the target lies where the source has none, and what lies farthest out."""
    some = source.x[torch.randperm(source.n, generator=rng.generator(seed, "near"))[:NEIGHBOURS]]
    distances = neighbour_distances(*((features(x) if features else x).flatten(1).float() for x in (some, target.x)))

    def name(place: int) -> str:
        channel, *at = (int(k) for k in torch.unravel_index(torch.tensor(place), target.x.shape[1:]))
        return kinds[channel] + (f" at {', '.join(map(str, at))}" if at else "")

    density = outside(source, target, seed)
    return {
        "density": None if density is None else round(density, 4),
        "neighbours": round(float((distances > 1).double().mean()), 4),
        "extreme": extremes(target.x, distances, rows, name),
    }


def _share_labels(source: Points, target: Points) -> bool:
    """Whether all points of both domains have labels, of one kind."""
    if source.y is None or target.y is None or source.y.shape[1:] != target.y.shape[1:]:
        return False
    return not bool((source.y == NULL).any() or (target.y == NULL).any())


def _new_labels(source: Points, target: Points, labels: Names = None) -> list[str]:
    """Classes, or single statements of multi-hot rows, that no source point has; a new pair of statements that the source knows is none."""
    known = _single(source.y, labels)
    return [name for name in _single(target.y, labels) if name not in known]


def _single(y: Tensor | None, labels: Names) -> list[str]:
    """Each class or statement that occurs, named alone."""
    if y is None or y.ndim == 1:
        return list(_counts(y, labels) or {})
    at = (y > 0).any(0).nonzero()[:, 0].tolist()
    return [labels[k] if labels and k < len(labels) else str(k) for k in at]


def _counts(y: Tensor | None, labels: Names) -> dict[str, int] | None:
    """How often each label occurs."""
    if y is None:
        return None
    values, counts = y.unique(dim=0, return_counts=True)
    return {"none" if bool((value == NULL).all()) else _called(value, labels): int(n) for value, n in zip(values, counts, strict=True)}


def _called(value: Tensor, labels: Names) -> str:
    """The name of a class, or those of the statements of a row; digits where they have none."""
    at = [int(value)] if value.ndim == 0 else (value > 0).nonzero()[:, 0].tolist()
    return " + ".join(labels[k] for k in at) or "no statement" if labels and max(at, default=0) < len(labels) else label_name(value)


def _labels(source: Points, target: Points, labels: Names) -> dict[str, Any] | None:
    if source.y is None and target.y is None:
        return None
    new = [] if source.y is None else _new_labels(source, target, labels)
    return {"source": _counts(source.y, labels), "target": _counts(target.y, labels), "new": new}


def _within_labels(source: Points, target: Points, space: Transform, looks: Features | None, labels: Names, owners: Owners, seed: int) -> dict[str, Any] | None:
    """Whether the domains differ within labels."""
    if not _share_labels(source, target):
        return None
    assert target.y is not None
    values, counts = target.y.unique(dim=0, return_counts=True)
    found: dict[str, Any] = {}
    covered = 0
    for k in counts.argsort(descending=True, stable=True)[:LABELS].tolist():
        value = values[k]
        name = label_name(value)
        parts = ((pool, _rows_of(pool, value, what, rng.split(seed, "label", name))) for pool, what in ((source, "source"), (target, "target")))
        (a, _), (b, mine) = ((Points(space.forward(pool.x[rows])), rows) for pool, rows in parts)
        if min(a.n, b.n) >= LEAST_OF_LABEL:
            found[_called(value, labels)] = {
                "auc": kernel_ratio(a, b, rng.split(seed, "within", name), features=looks, owners=_of(owners, mine)).notes["auc"],
                "source": a.n,
                "target": b.n,
            }
            covered += int(counts[k])
    if not found:
        return None
    sizes = [(part["source"], part["target"]) for part in found.values()]
    auc = sum(part["auc"] * part["target"] for part in found.values()) / sum(n for _, n in sizes)
    ends = [round(end, 4) for end in interval(auc, sizes, FOLDS)]
    return {"auc": round(auc, 4), "auc_interval": ends, "target_points": covered, "by_label": found}


def _rows_of(pool: Points, value: Tensor, what: str, seed: int) -> Tensor:
    """Some rows of one label."""
    assert pool.y is not None
    rows = (pool.y == value if pool.y.ndim == 1 else (pool.y == value).all(1)).nonzero()[:, 0]
    return rows[torch.randperm(len(rows), generator=rng.generator(seed, what))[: LABEL_ROWS[what]]]
