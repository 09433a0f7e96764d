"""NumPy's own files: .npz with `X` and optionally `y`, and .npy, memory-mapped."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Layout
from ..errors import BadData, listed
from .ask import Ask, Found
from .columns import assign, is_position
from .labels import class_names, encode
from .pixels import are_images, from_bytes, sized
from .tables import constant_columns

REMEDY = {".npz": "write it again with numpy.savez(file, X=x)", ".npy": "write it again with numpy.save(file, x)"}
MAGIC = {".npz": b"PK", ".npy": b"\x93NUMPY"}
PICKLE, PICKLED = b"\x80", "it holds pickled objects, which are never loaded"


def read_array(path: Path, ask: Ask) -> Found:
    """Samples of a .npz or .npy file; other arrays than `X` and `y` are left alone.

    Raises:
        BadData: Another kind of file, damaged, pickled, no `X`, no numbers; labels or sizes that do not fit.
    """
    suffix = path.suffix.lower()
    with open(path, "rb") as file:
        head = file.read(6)
    if not head.startswith(MAGIC[suffix]):
        raise BadData(f"{PICKLED if head[:1] == PICKLE else f'it is no {suffix} file, whatever its name'}; {REMEDY[suffix]}")
    try:
        x, y = _load_npz(path) if suffix == ".npz" else (np.load(path, mmap_mode="c", allow_pickle=False), None)
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, BadData):
            raise
        raise BadData(
            f"{PICKLED if 'allow_pickle' in str(error) or 'Python objects' in str(error) else 'it is damaged or cut off'}; {REMEDY[suffix]}"
        ) from None
    return from_arrays(x, y, ask)


def _load_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with np.load(path, allow_pickle=False) as loaded:
        if "X" not in loaded.files:
            raise BadData(f"expected an array named X, got {listed(loaded.files) or 'nothing'}; write it with numpy.savez(file, X=x, y=y)")
        return loaded["X"], loaded["y"] if "y" in loaded.files else None


def from_arrays(x: np.ndarray, y: Any, ask: Ask) -> Found:
    """Samples and labels that are arrays; bytes in the shape of images become images.

    Raises:
        BadData: No numbers; labels, columns or sizes that do not fit.
    """
    if x.dtype.kind not in "biuf":
        raise BadData(f"expected numbers, got an array of {x.dtype}; encode words as numbers")
    if are_images(x):
        images, size = sized(from_bytes(x), ask, True)
        return _labelled(images, y, Layout(size=size), ask)
    if x.ndim == 2 and x.size:
        return _table(x, y, ask)
    samples, size = sized(_float32(x), ask, x.ndim == 4)
    return _labelled(samples, y, Layout(size=size), ask)


def _table(x: np.ndarray, y: Any, ask: Ask) -> Found:
    """Rows of numbers; one column may be the label."""
    sized(torch.empty(0, x.shape[1]), ask, False)
    if ask.label_column is not None and y is not None:
        raise BadData("it holds labels already, y; drop --label-column")
    if ask.label_column is not None and not is_position(ask.label_column):
        raise BadData(f"--label-column {ask.label_column}: its columns have no names; give the position of the column, -1 for the last")
    roles = assign(None, x.shape[1], ask if y is None else _without_label(ask))
    features = _float32(x if roles.label is None else np.ascontiguousarray(x[:, roles.features]))
    warnings = (*roles.warnings, *constant_columns(features, roles.columns))
    layout = Layout(columns=roles.columns, label_column=roles.label_column)
    if roles.label is None:
        return _labelled(features, y, layout, ask)._replace(warnings=warnings)
    values, codes = np.unique(x[:, roles.label], return_inverse=True)
    y, labels = encode(codes, class_names([str(value) for value in values.tolist()], f"column {roles.label}"), ask.like)
    return Found(features, y, Layout(roles.columns, labels, roles.label_column), warnings)


def _without_label(ask: Ask) -> Ask:
    known = ask.known
    return ask if ask.like is None else ask._replace(like=Layout(known.columns, known.labels, None, known.size))


def _labelled(x: Tensor, y: Any, layout: Layout, ask: Ask) -> Found:
    """With labels as they are: indices, rows of statements, or words, which become indices."""
    if ask.label_column is not None and x.ndim > 2:
        raise BadData("--label-column is for tables, these are no rows of numbers; drop --label-column")
    if y is None or y.dtype.kind not in "US" or y.ndim != 1:
        return Found(x, y, layout)
    words, codes = np.unique(y.astype(str), return_inverse=True)
    y, labels = encode(codes, class_names([str(word) for word in words], "y"), ask.like)
    return Found(x, y, Layout(layout.columns, labels, layout.label_column, layout.size))


def _float32(x: np.ndarray) -> Tensor:
    """As float32; the same memory where it is that already."""
    with np.errstate(over="ignore"):
        return torch.from_numpy(x if x.dtype == np.float32 and x.dtype.isnative else x.astype(np.float32))
