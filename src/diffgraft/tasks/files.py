"""A user's own pair of files as a task: the target's first rows, by a shuffle, are given to methods, the others held out."""

from functools import lru_cache

import torch

from .. import rng
from ..data import Data, Layout, Points, Task, distinct
from ..errors import BadData
from ..readers.catalog import Read, read

LEAST_TEST = 20
"""Held-out samples below which scores mean nothing."""


def files(
    n_target: int = 50,
    seed: int = 0,
    *,
    source: str,
    target: str,
    test: str | None = None,
    label_column: str | int | None = None,
    size: int | None = None,
) -> Task:
    """Two files, read as the command line reads them.

    Exact copies within the target are dropped before it is split, and rows of the test file that the target holds too.

    Args:
        n_target: Target samples that methods see.
        seed: Of the split.
        source, target: Files or folders, of any format that is read.
        test: Held-out target samples; by default those of `target` that methods do not see.
        label_column: Of tables, by name or position; by default there are no labels.
        size: Side to which images are brought.

    Raises:
        BadData: A file that cannot be used, or too few samples to hold any out.
    """
    a = _read(source, "source", label_column, size, None)
    b = _read(target, "target", label_column, size, a.layout)
    pool, copies = distinct(b.points)
    pool = pool.take(torch.randperm(pool.n, generator=rng.generator(seed, "target")))
    kept = pool.take(torch.arange(min(n_target, pool.n)))
    held_out = pool.take(torch.arange(kept.n, pool.n)) if test is None else _unseen(_read(test, "test", label_column, size, b.layout).points, kept)
    if kept.n < n_target or held_out.n < LEAST_TEST:
        copied = f" ({copies} exact copies dropped)" if copies else ""
        raise BadData(
            f"target data {target}: {n_target} samples to fit and at least {LEAST_TEST} to hold out are needed, "
            f"got {pool.n}{copied}{'' if test is None else f' and {held_out.n} in {test}'}; lower n_target, or give a test file"
        )
    config = {"world": "files", "source": source, "target": target, "test": test, "n_target": n_target, "seed": seed, "copies_dropped": copies}
    return Task("files", Data(source=a.points, target=kept), held_out, layout=b.layout, config=config)


@lru_cache(8)
def _read(path: str, what: str, label_column: str | int | None, size: int | None, like: Layout | None) -> Read:
    return read(path, what, like=like, label_column=label_column, size=size)


def _unseen(test: Points, seen: Points) -> Points:
    """Test samples that are not among those given to methods."""
    _, index = torch.cat([seen.x, test.x]).flatten(1).unique(dim=0, return_inverse=True)
    return test.take((~torch.isin(index[seen.n :], index[: seen.n])).nonzero()[:, 0])
