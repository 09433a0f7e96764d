"""Parquet tables, through pyarrow, which is an extra."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadData, installed
from .columns import Roles
from .tables import CELLS, Chunk


@dataclass(frozen=True)
class Parquet:
    """A parquet table on disk; columns in which pandas keeps its index are left out.

    Args:
        path: The file.
        names: Its columns.
    """

    path: Path
    names: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.names)

    def chunks(self, roles: Roles) -> Iterator[Chunk]:
        """The rows in pieces.

        Raises:
            BadData: A column that holds no numbers, a cell that is missing or not finite (row, from 0, and column named).
        """
        import pyarrow
        from pyarrow.parquet import ParquetFile

        done = 0
        try:  # without a buffer size, pyarrow holds whole groups of rows, of a million by default
            with ParquetFile(self.path, pre_buffer=False, buffer_size=65536) as file:
                for batch in file.iter_batches(max(1000, CELLS // self.width), columns=list(self.names)):
                    x = np.stack([self._numbers(batch.column(k), k, done) for k in roles.features], 1)
                    _check_finite(x, [self.names[k] for k in roles.features], done)
                    yield x, [] if roles.label is None else self._texts(batch.column(roles.label), roles.label, done)
                    done += len(x)
        except pyarrow.ArrowException as error:
            raise BadData(damaged(error)) from None

    def _numbers(self, column: Any, k: int, done: int) -> np.ndarray:
        import pyarrow
        from pyarrow import types

        kind = column.type
        if not (types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind) or types.is_null(kind)):
            row, value = next(((row, str(v)) for row, v in enumerate(column) if v.is_valid), (0, "nothing"))
            name = self.names[k]
            remedy = f"encode the column as numbers, or use it as the label: --label-column {name}"
            raise BadData(f"row {done + row}, column '{name}' holds '{value[:40]}' of type {kind}, expected a number; {remedy}")
        with np.errstate(over="ignore"):
            return column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float32)

    def _texts(self, column: Any, k: int, done: int) -> list[str]:
        texts = [str(value) if value is not None else "" for value in column.to_pylist()]
        if "" in texts:
            raise BadData(f"row {done + texts.index('')}, column '{self.names[k]}' is empty, every row needs its label; fill it, or drop the row")
        return texts


def open_parquet(path: Path) -> Parquet:
    """A parquet table.

    Raises:
        MissingExtra: pyarrow is not installed.
        BadData: No parquet file.
    """
    pyarrow = library()
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            names = [field.name for field in file.schema_arrow]
    except pyarrow.ArrowException as error:
        raise BadData(damaged(error)) from None
    return Parquet(path, tuple(name for name in names if not name.startswith("__index_level_")))


def library() -> Any:
    """The package pyarrow.

    Raises:
        MissingExtra: It is not installed.
    """
    return installed("pyarrow", "parquet")


def _check_finite(x: np.ndarray, names: list[str], done: int) -> None:
    bad = np.argwhere(~np.isfinite(x))
    if len(bad):
        row, k = bad[0]
        raise BadData(f"row {done + row}, column '{names[k]}' is {x[row, k]}, every cell must be a finite number; fill it, or drop the row")


def damaged(error: Exception) -> str:
    """What messages say of a table that pyarrow cannot read."""
    return f"it is damaged or no parquet file ({str(error).splitlines()[0][:80].rstrip('.')}); write it again, or name the file by what it is"
