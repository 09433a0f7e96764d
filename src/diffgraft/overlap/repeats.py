"""Rows that occur more than once: within a data set, and in both of two, where one was meant to be new to the other."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data import chunks

FIRST = 5
"""Pairs of rows that are named."""


def repeats(source: Tensor, target: Tensor) -> dict[str, dict[str, Any]]:
    """Exact repeats in two data sets, by hashes of 64 bits.

    Args:
        source, target: Samples (n, *) and (m, *); they may be memory-mapped, since they are read in chunks.

    Returns:
        `source` and `target`: how many `rows` repeat an earlier one, and the `first` pairs [earlier, later]; `across`: how
        many target rows the source holds too, and the first pairs [source row, target row]. Rows count from 0.
    """
    a, b = _hashes(source), _hashes(target)
    return {"source": _within(a), "target": _within(b), "across": _across(a, b)}


def _hashes(x: Tensor) -> NDArray[np.int64]:
    """One hash a row, (n,); -0.0 is 0.0."""
    out = np.empty(len(x), np.int64)
    for start, part in chunks(x):
        numbers = (part.flatten(1) + 0.0).cpu().numpy()
        out[start : start + len(part)] = [hash(row.tobytes()) for row in numbers]
    return out


def _within(hashes: NDArray[np.int64]) -> dict[str, Any]:
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    earliest = first[group]
    later = np.flatnonzero(earliest != np.arange(len(hashes)))
    return {"rows": len(later), "first": [[int(earliest[k]), int(k)] for k in later[:FIRST]]}


def _across(a: NDArray[np.int64], b: NDArray[np.int64]) -> dict[str, Any]:
    known, first = np.unique(a, return_index=True)
    place = np.searchsorted(known, b).clip(max=len(known) - 1)
    rows = np.flatnonzero(known[place] == b)
    return {"rows": len(rows), "first": [[int(first[place[k]]), int(k)] for k in rows[:FIRST]]}
