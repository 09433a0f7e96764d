"""Samples on disk: an .npz with their labels and names, or a .csv."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Layout, Points
from .errors import BadData
from .files import atomic_file
from .readers.columns import LABEL

if TYPE_CHECKING:
    from pandas import DataFrame

SAVED = ("columns", "labels", "rate", "unit", "seconds", "band")
"""What a sample file tells of the layout."""


def check_samples_file(path: Path, shape: tuple[int, ...] | None) -> None:
    """Make sure, before sampling, that samples of this shape can be written to `path`.

    Raises:
        BadData: Neither .npz nor .csv, or a .csv for samples that are no rows of numbers.
    """
    if path.suffix not in (".npz", ".csv"):
        raise BadData(f"samples are written as .npz or .csv, got --out {path}; give the file one of these endings")
    if path.suffix == ".csv" and shape is not None and len(shape) != 1:
        raise BadData(f"a .csv holds rows of numbers, the samples have shape {shape}; write them to a .npz")


def write_samples(path: Path, pool: Points, seed: int, layout: Layout | None = None) -> None:
    """Write a sample file.

    Args:
        path: A `.npz` with `X` in data units, `y` where labelled, `seed`, and `columns`, `labels`, `rate`, `unit`, `seconds` and `band` where they
            are known; or a `.csv`, one row a sample, the label last and by its name.
        pool: The samples.
        seed: Of the draw.
        layout: What columns and labels are called.
    """
    layout = layout or Layout()
    with atomic_file(path) as partial:
        if path.suffix == ".csv":
            _table(pool, layout).to_csv(partial, index=False)
            return
        names: dict[str, Any] = {key: np.array(value) for key in SAVED if (value := getattr(layout, key)) is not None}
        labels: dict[str, Any] = {} if pool.y is None else {"y": pool.y.numpy()}
        np.savez_compressed(partial, X=pool.x.numpy(), seed=np.int64(seed), **labels, **names)


def _table(pool: Points, layout: Layout) -> "DataFrame":
    """Samples as a table, with the label in the last column; multi-hot labels in as many."""
    from pandas import DataFrame

    columns = list(layout.columns or [f"x{k}" for k in range(pool.x.shape[1])])
    frame = DataFrame(pool.x.numpy(), columns=columns)
    if pool.y is None:
        return frame
    name = layout.label_column if isinstance(layout.label_column, str) else next(word for word in (LABEL, "y", "class_label") if word not in columns)
    if pool.y.ndim == 2:
        return frame.assign(**{f"{name}{k}": column.numpy() for k, column in enumerate(pool.y.T)})
    known = layout.labels or ()
    return frame.assign(**{name: [known[k] if 0 <= k < len(known) else k for k in pool.y.tolist()]})
