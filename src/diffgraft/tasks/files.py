"""A user's own pair of files as a task: the target's first rows, by a shuffle, are given to methods, the others held out."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Layout, Points, Task, count_classes, distinct, fingerprints
from ..ecg.folds import hash_of
from ..ecg.records import band_of
from ..errors import BadData
from ..features import features_named
from ..files import array_among_folders
from ..readers.catalog import Read, read
from .downstream import Downstream
from .measures import measures
from .protocol import windowing

LEAST_TEST = 20
"""Held-out samples below which scores mean nothing."""


def files(
    n_target: int = 50,
    seed: int = 0,
    *,
    source: str | None = None,
    target: str,
    test: str | None = None,
    whole: bool = False,
    label_column: str | int | None = None,
    size: int | None = None,
    flip: bool = False,
    skip_broken: bool = False,
    seconds: float | None = None,
    band: list[float] | None = None,
    leads: list[str] | None = None,
    features: str | None = None,
    classifiers: bool = False,
) -> Task:
    """Files or folders, read as the command line reads them.

    Exact copies within the target are dropped before it is split, and rows of the test file that the target holds too. A patient's recordings
    stay on one side of the split; a test file is taken to be of other patients.

    Args:
        n_target: Target samples that methods see.
        seed: Of the split.
        source, target: Files or folders, of any format that is read. Without source data, the plan names a source model.
        test: Held-out target samples; by default those of `target` that methods do not see.
        whole: Methods see all target samples, however many, and a test file is needed.
        label_column: Of tables, by name or position; by default there are no labels.
        size: Side to which images are brought.
        flip: Methods learn from target images mirrored left to right, too.
        skip_broken: Leave out images and recordings that cannot be read.
        seconds, band, leads: Of recordings, length of the windows, lowest and highest frequency in Hz to keep, and which leads; these and the label column
            are for the folders alone where an array stands beside them.
        features: What Frechet distances are taken on: a model, or an encoder of transformers, such as `facebook/dinov2-base`.
        classifiers: Train a classifier of labelled signals on each method's samples, some minutes each; see `Downstream`.

    Raises:
        BadData: A file that cannot be used, too few samples to hold any out, or classifiers of what has no labels or is no signal.
    """
    windows = (("seconds", seconds), ("band", band_of(band)), ("leads", None if leads is None else tuple(leads)))
    pixels = (("size", size), ("skip_broken", skip_broken))

    def read_as_asked(path: str, what: str, like: Layout | None) -> Read:
        others = (Path(other) for other in (source, target, test) if other not in (None, path))
        return _read(path, what, like, pixels if array_among_folders(Path(path), *others) else (("label_column", label_column), *pixels, *windows))

    a = None if source is None else read_as_asked(source, "source", None)
    b = read_as_asked(target, "target", a and a.layout)
    rows = distinct(b.points.x)
    n, copies = len(rows), b.points.n - len(rows)
    few, rest = drawn(rows, b.owners, n if whole else n_target, seed)
    kept = b.points.take(few)
    held_out = b.points.take(rest) if test is None else _unseen(read_as_asked(test, "test", b.layout).points, kept)
    if (kept.n < n_target and not whole) or held_out.n < LEAST_TEST:
        copied = f" ({copies} exact copies dropped)" if copies else ""
        raise BadData(
            f"target data {target}: {n_target} samples to fit and at least {LEAST_TEST} to hold out are needed, "
            f"got {n}{copied}{'' if test is None else f' and {held_out.n} in {test}'}; lower n_target, or give a test file"
        )
    config: dict[str, Any] = {"world": "files", "source": source, "target": target, "test": test, "n_target": kept.n, "seed": seed, "copies_dropped": copies}
    if b.layout.rate is not None:
        config["protocol"] = _protocol(b, few, rest, held_out.n, test)
    owners = b.owners and [b.owners[row] for row in few.tolist()]
    data = Data(source=a and a.points, target=kept, flip=flip, owners=owners)
    exams: dict[str, Any] = {"features": features and features_named(features), "measures": measures(b.layout, kept.x)}
    if classifiers:
        exams["downstream"] = _worth(data, held_out, b.layout, target, rng.split(seed, "downstream"))
    return Task("files", data, held_out, layout=b.layout, config={**config, "features": features}, **exams)


def drawn(rows: Tensor, owners: tuple[str, ...] | None, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of about n samples by a shuffle, and the others; where it is known whose samples are, nobody's are on both sides."""
    order = rows[torch.randperm(len(rows), generator=rng.generator(seed, "target"))]
    if owners is None:
        return order[:n], order[n:]
    theirs: dict[str, list[int]] = {}
    for row in order.tolist():
        theirs.setdefault(owners[row], []).append(row)
    together = [row for mine in theirs.values() for row in mine]
    seen = {owners[row] for row in together[:n]}
    rest = [row for row in together[n:] if owners[row] not in seen]
    return torch.tensor(together[:n], dtype=torch.int64), torch.tensor(rest, dtype=torch.int64)


def _protocol(target: Read, few: Tensor, rest: Tensor, n_test: int, test: str | None) -> dict[str, Any]:
    """How signals became samples, and which of them are held out; the hash is of their places in the data."""
    split = "a file of its own" if test is not None else "by seed" if target.owners is None else "by patient and seed"
    parts = {"methods": few.tolist(), **({"held out": rest.tolist()} if test is None else {})}
    of_rows = hash_of({str(row): part for part, rows in parts.items() for row in rows})
    return {
        "split": split,
        "split_hash": of_rows,
        **{key: value for key, value in windowing(target.layout, "lead").items() if value is not None},
        "test records": n_test,
    }


def _alike(a: Tensor | None, b: Tensor | None) -> bool:
    """Whether labels are of one kind: indices, or rows of as many statements."""
    return a is not None and b is not None and a.shape[1:] == b.shape[1:]


def _worth(data: Data, held_out: Points, layout: Layout, target: str, seed: int) -> Downstream:
    """What samples are worth to a classifier; it is tuned from the source where that has labels of its kind."""
    if data.target.x.ndim != 3:
        shape = tuple(data.target.x.shape[1:])
        what = f"target data {target} holds samples of shape {shape}"
        raise BadData(f"classifiers learn from labelled signals (channels, samples), but {what}; leave classifiers = true out")
    names = layout.labels or tuple(map(str, range(count_classes(data.target))))
    source = data.source if data.source is not None and _alike(data.source.y, data.target.y) else None
    return Downstream(data.target, held_out, names, seed, source=source)


@lru_cache(8)
def _read(path: str, what: str, like: Layout | None, how: tuple[tuple[str, Any], ...]) -> Read:
    return read(path, what, like=like, **dict(how))


def _unseen(test: Points, seen: Points) -> Points:
    """Test samples that are not among those given to methods."""
    known = set(fingerprints(seen.x))
    return test.take(torch.tensor([row for row, print_ in enumerate(fingerprints(test.x)) if print_ not in known], dtype=torch.int64))
