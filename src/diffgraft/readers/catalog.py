"""Reads a user's data, of whatever kind a file is."""

import errno
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..data import Layout, Points, points
from ..ecg.layouts import CONVERSION, PTBXL
from ..errors import BadData
from .arrays import read_array
from .ask import Ask, Found
from .idx import is_idx, read_idx
from .tables import read_table

KINDS = ".npz (X, optional y), .npy, .csv, .parquet, IDX, a folder of images or of ECG recordings, or a data set of images of the Hugging Face hub"
"""What can be read, as messages and help name it."""
TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


class Read(NamedTuple):
    """Data as they were read: the samples, what their numbers are called, what a person should know, and whose each sample is, where that is known."""

    points: Points
    layout: Layout
    warnings: tuple[str, ...] = ()
    owners: tuple[str, ...] | None = None


def read(
    path: str | Path,
    what: str = "the",
    *,
    like: Layout | None = None,
    label_column: str | int | None = None,
    size: int | None = None,
    skip_broken: bool = False,
    seconds: float | None = None,
    band: tuple[float, float] | None = None,
    leads: Sequence[str] | None = None,
) -> Read:
    """Samples, and labels where there are some, of a file or folder.

    Tables and large arrays are memory-mapped, so that a million rows need little memory.

    Args:
        path: `.npz` with `X` and optionally `y`, `.npy`, `.csv` with a header or without, `.parquet`, IDX with its labels
            beside it, a folder of images whose subfolders are labels, or a data set of images as the Hugging Face hub keeps it
            (parquet or arrow). Images become values in [-1, 1]. A folder of ECG recordings becomes windows in mV.
        what: How messages name the data: "source", "target".
        like: The layout of data of the same kind: their columns, label column, label names and size, and the leads, rate, seconds and band of
            recordings are used here.
        label_column: The column of a table that holds the label, by name or position (-1 the last), or of the metadata of recordings.
        size: Images are cut to a square and brought to size x size pixels.
        skip_broken: Leave out images and recordings that are missing or cannot be read, with a warning that names some.
        seconds: Of recordings, length of the windows, the first of each; 10 by default.
        band: Of recordings, lowest and highest frequency in Hz to keep; by default they are not filtered.
        leads: Of recordings, which leads, in which order; by default all twelve, which every recording then has to have.

    Raises:
        BadData: Missing, empty, of another kind, damaged, pickled, not finite, of one sample only, unlike `like`.
        MissingExtra: A package that reads this kind is not installed.
    """
    path = Path(path)
    name = f"{what} data {path}"
    try:
        found = _read(path, Ask(like, label_column, size, skip_broken, seconds, band, None if leads is None else tuple(leads)))
    except BadData as error:
        raise BadData(f"{name}: {error}") from None
    except OSError as error:
        raise BadData(f"{name}: {_system_fault(error)}") from None
    if (seconds, band, leads) != (None, None, None) and found.layout.seconds is None:
        raise BadData(f"{name}: --seconds, --band and --leads are for folders of ECG recordings; drop them")
    given = found.x if found.y is None else (found.x, found.y)
    return Read(points(given, f"{what} ({path})"), found.layout, tuple(f"{name}: {warning}" for warning in found.warnings), found.owners)


def _read(path: Path, ask: Ask) -> Found:
    """The reader that fits; libraries that only one of them needs are loaded with it."""
    if ask.size is not None and ask.size < 1:
        raise BadData(f"--size takes a number of pixels from 1, got {ask.size}")
    kind = path.name.lower()
    if not path.exists():
        raise BadData(f"no such file; give {KINDS}")
    if path.is_dir():
        return _read_folder(path, ask)
    if kind.endswith((".hea", ".mat", ".dat")) or path.name in (PTBXL, CONVERSION):
        raise BadData(f"ECG recordings are read by their folder, not file by file; give {path.parent}, or other arrays as .npz")
    if path.is_file() and not path.stat().st_size:
        raise BadData("it is empty; copy or write it again")
    if kind.endswith((".npz", ".npy")):
        return read_array(path, ask)
    if kind.endswith(TEXT):
        from .delimited import open_delimited

        return read_table(open_delimited(path, ask), ask)
    if kind.endswith((".parquet", ".pq", ".arrow")):
        from .image_tables import holds_pictures, read_image_tables
        from .parquet import open_parquet

        if holds_pictures(path):
            return read_image_tables([path], ask)
        return read_table(open_parquet(path), ask)
    if path.is_file() and is_idx(path):
        return read_idx(path, ask)
    raise BadData(f"expected {KINDS}, got '{path.suffix or path.name}'; convert it, tables to .csv, arrays with numpy.savez(file, X=x)")


def _read_folder(path: Path, ask: Ask) -> Found:
    from .folders import read_folder
    from .image_tables import read_image_tables, tables_in

    tables = tables_in(path)
    return read_image_tables(tables, ask) if tables else read_folder(path, ask)


def _system_fault(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return f"no space left in {tempfile.gettempdir()}, where rows are kept while they are read; free some, or set TMPDIR to another folder"
    return f"it cannot be read: {error.strerror or error}; check its permissions and its disk"
