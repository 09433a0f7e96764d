"""NumPy's own files: .npz with `X` and optionally `y`, and .npy, memory-mapped."""

import zipfile
import zlib
from dataclasses import replace
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
NAMING: dict[str, Any] = {
    "columns": lambda names: tuple(str(name) for name in np.atleast_1d(names)),
    "rate": float,
    "unit": str,
    "seconds": float,
    "band": lambda ends: tuple(float(end) for end in np.atleast_1d(ends)),
}
"""Arrays of a .npz that tell of signals, as sample files have them."""
OTHERS = ("X", "y", "seed", "labels", *NAMING)
"""All that sample files have."""
PICKLE, PICKLED = b"\x80", "it holds pickled objects, which are never loaded"


def read_array(path: Path, ask: Ask) -> Found:
    """Samples of a .npz or .npy file; of other arrays than `X` and `y`, what names the channels of signals is read, the rest left alone.

    Raises:
        BadData: Another kind of file, damaged, pickled, no `X`, no numbers; labels or sizes that do not fit.
    """
    suffix = path.suffix.lower()
    with open(path, "rb") as file:
        head = file.read(6)
    if not head.startswith(MAGIC[suffix]):
        raise BadData(f"{PICKLED if head[:1] == PICKLE else f'it is no {suffix} file, whatever its name'}; {REMEDY[suffix]}")
    try:
        if suffix == ".npz":
            x, y, layout, others = _load_npz(path)
        else:
            x, y, layout, others = np.load(path, mmap_mode="c", allow_pickle=False), None, Layout(), []
    except (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, BadData):
            raise
        raise BadData(
            f"{PICKLED if 'allow_pickle' in str(error) or 'Python objects' in str(error) else 'it is damaged or cut off'}; {REMEDY[suffix]}"
        ) from None
    found = from_arrays(x, y, ask)
    if x.ndim != 3 or are_images(x):
        return found
    told = (f"{listed(others)} {'is' if len(others) == 1 else 'are'} left alone; what is read of signals is {', '.join(NAMING)}",) if others else ()
    return _as_known(found._replace(layout=found.layout.filled(layout), warnings=(*found.warnings, *told)), ask)


def _load_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None, Layout, list[str]]:
    """`X`, `y`, what names signals, and the names of all other arrays."""
    with np.load(path, allow_pickle=False) as loaded:
        if "X" not in loaded.files:
            raise BadData(f"expected an array named X, got {listed(loaded.files) or 'nothing'}; write it with numpy.savez(file, X=x, y=y)")
        given = {key: loaded[key] for key in ("y", *NAMING) if key in loaded.files}
        x, y = loaded["X"], given.pop("y", None)
        return x, y, Layout(**{key: NAMING[key](value) for key, value in given.items() if x.ndim == 3}), [key for key in loaded.files if key not in OTHERS]


def _as_known(found: Found, ask: Ask) -> Found:
    """Signals with their channels in the order known from before, by name in any case."""
    own, known, x = found.layout.columns, ask.known.columns, found.x
    if None not in (rates := (found.layout.rate, ask.known.rate)) and rates[0] != rates[1]:
        raise BadData(f"expected signals of {rates[1]:g} Hz, got {rates[0]:g} Hz; resample one of the two")
    ours, theirs = found.layout.unit, ask.known.unit
    if ours is not None and theirs is not None and ours.casefold() != theirs.casefold():
        raise BadData(f"expected signals in {theirs}, got {ours}; bring the two to one unit")
    if own is not None and len(own) != x.shape[1]:
        remedy = "give X as (samples, channels, times)" if len(own) == x.shape[2] else "name each, or leave columns out"
        raise BadData(f"columns names {len(own)} channels, X has {x.shape[1]}; {remedy}")
    if own is None or known is None or own == known:
        return found
    if missing := [name for name in known if _called(name, own) is None]:
        raise BadData(f"expected the channels {listed(known)}, missing {listed(missing)}; give signals of the same channels")
    places = [own.index(_called(name, own) or name) for name in known]
    return found._replace(x=x[:, places], layout=replace(found.layout, columns=known))


def _called(name: str, own: tuple[str, ...]) -> str | None:
    """What a channel is called among others: by its name, or by the only one that is the same in another case."""
    alike = [other for other in own if other.casefold() == name.casefold()]
    return name if name in own else alike[0] if len(alike) == 1 else None


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
