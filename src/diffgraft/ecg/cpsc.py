"""CPSC2018 (ICBEB2018) as it was first published: a MATLAB struct a recording, and a table of labels."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadData
from .leads import TWELVE
from .records import Facts, Recordings, Trace
from .statements import NINE, cpsc_statement
from .tables import number, rows_of, sex_of

RATE = 500.0
"""Of all recordings in Hz; the files do not say."""
LABELS = "REFERENCE.csv"
LABEL_COLUMNS = ("Recording", "First_label", "Second_label", "Third_label")


def read_original(folder: Path) -> Recordings:
    """The recordings of a folder and its subfolders, with the labels of each `REFERENCE.csv` that is there.

    Raises:
        BadData: A table of labels that cannot be used. Files are read later.
    """
    files = sorted((file for file in folder.rglob("*.mat") if not file.name.startswith(".")), key=lambda file: file.stem)
    tables = sorted(folder.rglob(LABELS))
    known = {name: statements for table in tables for name, statements in labels_of(table).items()}
    facts = tuple(Facts(file.stem, file, file.stem, statements=known.get(file.stem)) for file in files)
    bare = sum(one.statements is None for one in facts)
    notes = (f"there is no {LABELS}, so these recordings have no labels",) if not tables else ()
    if tables and bare:
        notes = (f"{bare:,} of {len(facts):,} recordings are not in {LABELS} and have no labels",)
    return Recordings("CPSC2018", facts, load_struct, NINE, notes)


def load_struct(facts: Facts) -> Trace:
    """One recording: a struct `ECG` with `sex`, `age` and `data`, twelve leads in mV at 500 Hz in the order of WFDB files.

    Raises:
        BadData: A file of another kind or damaged, or data of another shape.
    """
    name = facts.path.name
    struct = _struct(facts.path)
    if struct is None:
        raise BadData(f"{name} holds no struct ECG with sex, age and data, which CPSC2018 has; give its files, or .mat with .hea beside them")
    data = struct["data"]
    if not (isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind in "iuf" and data.shape[0] == len(TWELVE) and data.size):
        shape = f"{data.shape} of {data.dtype}" if isinstance(data, np.ndarray) else type(data).__name__
        raise BadData(f"{name} holds data {shape}, expected numbers (12 leads, samples); transpose them, or copy it again")
    return Trace(data.astype(np.float32), TWELVE, RATE, number(_text(struct["age"])), sex_of(_text(struct["sex"])))


def _struct(path: Path) -> Any:
    """The struct, or None where there is none of this kind."""
    from scipy.io import loadmat  # not above: every command loads the tasks' names
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path)
    except NotImplementedError:
        raise BadData(f"{path.name} is of MATLAB 7.3, only files up to 7 are read; save it with save(..., '-v7')") from None
    except (MatReadError, ValueError, TypeError, OSError, EOFError, KeyError, IndexError, OverflowError, MemoryError):
        raise BadData(f"{path.name} is no MATLAB file, or damaged; copy it again") from None
    except Exception as error:  # zlib and scipy's readers raise what they please on damaged files
        raise BadData(f"{path.name} is damaged ({type(error).__name__}); copy it again") from None
    struct = content.get("ECG")
    fields = getattr(getattr(struct, "dtype", None), "names", None) or ()
    return struct.flat[0] if {"sex", "age", "data"} <= set(fields) and struct.size else None


def _text(cell: Any) -> str:
    """What a cell of a struct holds, as text."""
    found = np.asarray(cell).ravel()
    return str(found[0]) if found.size else ""


def labels_of(table: Path) -> dict[str, tuple[str, ...]]:
    """Statements of each recording of a `REFERENCE.csv`, the first label first.

    Raises:
        BadData: A table that cannot be used.
    """
    out = {}
    for row in rows_of(table, LABEL_COLUMNS[:2]):
        codes = [code.strip().removesuffix(".0") for code in (row.get(column) or "" for column in LABEL_COLUMNS[1:])]
        try:
            out[row["Recording"].strip()] = tuple(cpsc_statement(code) for code in codes if code and code.lower() != "nan")
        except BadData as error:
            raise BadData(f"{table.name}, recording {row['Recording']}: {error}") from None
    return out
