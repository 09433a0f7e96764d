"""Tables, read in pieces: features to a memory-mapped file, labels to indices."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch

from ..data import Layout
from ..errors import BadData, listed
from .ask import Ask, Found, column_name
from .columns import Roles, assign
from .labels import class_names, encode
from .spool import Spool

CELLS = 2_000_000
"""Cells of a table that are held at once."""

Chunk = tuple[np.ndarray, Sequence[str]]
"""Features (n, D) as float32, and the label of each row as text; no labels where there is no such column."""


class Table(Protocol):
    """A table on disk."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of its columns, if they have some."""
        ...

    @property
    def width(self) -> int:
        """How many columns there are."""
        ...

    def chunks(self, roles: Roles) -> Iterator[Chunk]:
        """The rows; raises BadData where a cell cannot be used."""
        ...


def read_table(table: Table, ask: Ask) -> Found:
    """Features and labels of a table.

    Raises:
        BadData: See `columns.assign` and the table's own checks; no rows; labels that are no classes; a size.
    """
    if ask.size is not None:
        raise BadData("--size is for images, this is a table; drop --size")
    roles = assign(table.names, table.width, ask)
    codes: list[np.ndarray] = []
    order: dict[str, int] = {}
    with Spool((len(roles.features),)) as spool:
        for rows, texts in table.chunks(roles):
            spool.add(rows)
            codes.append(np.array([order.setdefault(text, len(order)) for text in texts], np.int64))
        x = spool.tensor()
    if not len(x):
        raise BadData("it has no rows; add samples")
    layout = Layout(columns=roles.columns, label_column=roles.label_column)
    warnings = (*roles.warnings, *constant_columns(x, roles.columns))
    if roles.label is None:
        return Found(x, None, layout, warnings)
    names = class_names(list(order), label_name(roles))
    y, labels = encode(np.concatenate(codes), names, ask.like)
    return Found(x, y, Layout(layout.columns, labels, layout.label_column), warnings)


def label_name(roles: Roles) -> str:
    """How messages call the label column."""
    return f"column '{roles.label_column}'" if isinstance(roles.label_column, str) else f"column {roles.label_column}"


def constant_columns(x: torch.Tensor, columns: tuple[str, ...] | None) -> tuple[str, ...]:
    """A warning that names the features (n, D) that never change; none where all do."""
    if x.ndim != 2 or not x.numel():
        return ()
    still = (x.amin(0) == x.amax(0)).nonzero()[:, 0].tolist()
    if not still:
        return ()
    which = column_name(columns, still[0]) if len(still) == 1 else f"columns {listed(still if columns is None else [columns[k] for k in still])}"
    return (f"{which} never change{'s' if len(still) == 1 else ''}; nothing can be learned there, drop {'it' if len(still) == 1 else 'them'} if you can",)
