"""Text tables: .csv and .tsv, compressed or not, with a header or without, split by comma, semicolon or tab."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from ..errors import BadData
from .ask import Ask, column_name
from .columns import Roles, is_header
from .labels import MISSING, number
from .tables import CELLS, Chunk

DELIMITERS = "\t;,"
LARGEST = float(np.finfo(np.float32).max)
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Delimited:
    """A text table on disk.

    Args:
        path: The file.
        delimiter: What splits its cells.
        names: The header, or None.
        width: Cells in a row.
        skip: Lines before the first row.
        labelled: Whether a label column was asked for; messages propose one where not.
    """

    path: Path
    delimiter: str
    names: tuple[str, ...] | None
    width: int
    skip: int
    labelled: bool = False

    def chunks(self, roles: Roles) -> Iterator[Chunk]:
        """The rows in pieces.

        Raises:
            BadData: A row of another length, a cell that is empty, text, or not finite (row and column named).
        """
        done = 0
        try:
            for frame in self._frames(roles):
                x = frame[roles.features].to_numpy(np.float32)
                texts = [] if roles.label is None else frame[roles.label].to_list()
                if not np.isfinite(x).all() or not all(isinstance(text, str) and text.strip() for text in texts):
                    raise BadData(self._fault(roles, done))
                yield x, texts
                done += len(x)
        except UnicodeDecodeError:
            raise BadData(NO_TEXT) from None
        except DAMAGED as error:
            raise BadData(damaged(error)) from None
        except (pd.errors.ParserError, ValueError) as error:
            if isinstance(error, BadData):
                raise
            raise BadData(self._fault(roles, done, str(error))) from None

    def _frames(self, roles: Roles) -> Iterator[pd.DataFrame]:
        kinds = {k: str if k == roles.label else np.float32 for k in range(self.width)}
        settings = {
            "sep": self.delimiter,
            "header": None,
            "skiprows": self.skip,
            "skipinitialspace": True,
            "encoding": "utf-8",
            "keep_default_na": False,
            "compression": "gzip" if _is_packed(self.path) else None,
        }
        missing = {k: list(MISSING) for k in roles.features}
        with (
            np.errstate(over="ignore"),
            pd.read_csv(self.path, dtype=kinds, na_values=missing, chunksize=max(1000, CELLS // self.width), **settings) as frames,
        ):
            yield from frames

    def _fault(self, roles: Roles, start: int, error: str = "") -> str:
        """What is wrong with the first bad row at or after the row `start`, found by reading the file again, slowly."""
        with records(self.path, self.delimiter) as rows:
            after_header = islice(rows, 0 if self.names is None else 1, None)
            for line, cells in islice(after_header, start, None):
                if fault := self._row_fault(roles, line, cells):
                    return fault
        if "EOF inside string" in error:
            return "a quote that opens is never closed; the file may be cut off, write it again"
        return f"it cannot be parsed: {error.splitlines()[0] if error else 'unknown reason'}; write it again as plain comma-separated numbers"

    def _row_fault(self, roles: Roles, line: int, cells: list[str]) -> str:
        if len(cells) != self.width:
            other = "the header" if self.names is not None else "the first row"
            return f"row {line} of the file has {len(cells)} cells, {other} has {self.width}; give every row one cell a column"
        for k, cell in enumerate(cells):
            cell, where = cell.strip(), f"row {line} of the file, {column_name(self.names, k)}"
            value = number(cell)
            if k == roles.label:
                if not cell:
                    return f"{where} is empty, every row needs its label; fill it, or drop the row"
            elif value is None:
                return f"{where} holds the text '{cell[:40]}', expected a number; {self._remedy(k)}"
            elif cell in MISSING:
                return f"{where} is {f'{cell!r}' if cell else 'empty'}, every cell must be a finite number; fill it, or drop the row"
            elif not abs(value) <= LARGEST:
                return f"{where} holds {cell}, every cell must be a finite number; fix it, or drop the row"
        return ""

    def _remedy(self, k: int) -> str:
        if self.labelled:
            return "encode the column as numbers, or drop it"
        return f"encode the column as numbers, or use it as the label: --label-column {k if self.names is None else self.names[k]}"


NO_TEXT = "it is no UTF-8 text; save it as CSV in UTF-8, or name the file by what it is"


def damaged(error: Exception) -> str:
    """The message on a file whose bytes are not all there."""
    return f"it is damaged or cut off ({str(error).rstrip('.') or type(error).__name__}); copy or write it again"


def open_delimited(path: Path, ask: Ask) -> Delimited:
    """A text table, with its delimiter and header found.

    Raises:
        BadData: No text, no rows.
    """
    try:
        delimiter = next((d for d in DELIMITERS[:-1] if any(len(cells) > 1 for _, cells in _head(path, d))), DELIMITERS[-1])
        head = _head(path, delimiter)
    except (UnicodeDecodeError, csv.Error):
        raise BadData(NO_TEXT) from None
    except DAMAGED as error:
        raise BadData(damaged(error)) from None
    if not head:
        raise BadData("it is empty; give a file with at least two rows")
    labelled = ask.label_column is not None
    (line, first), second = head[0], head[1][1] if len(head) > 1 else None
    if not is_header([cell.strip() for cell in first], second, ask):
        return Delimited(path, delimiter, None, len(first), 0, labelled)
    if second is None:
        raise BadData("it holds a header and no rows; add samples")
    if len(first) != len(second):
        raise BadData(f"row {head[1][0]} of the file has {len(second)} cells, the header has {len(first)}; give every row one cell a column")
    return Delimited(path, delimiter, tuple(cell.strip() for cell in first), len(first), line, labelled)


def _head(path: Path, delimiter: str) -> list[tuple[int, list[str]]]:
    with records(path, delimiter) as rows:
        return list(islice(rows, 2))


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


@contextmanager
def records(path: Path, delimiter: str) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """Rows that are not blank, each with the number of its last line, counted from 1."""
    opener = gzip.open if _is_packed(path) else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        yield ((reader.line_num, cells) for cells in reader if len(cells) > 1 or any(cell.strip() for cell in cells))
