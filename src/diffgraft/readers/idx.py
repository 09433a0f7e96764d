"""The IDX format of MNIST: a magic number, the dimensions, then numbers, in big-endian order; compressed or not."""

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from ..errors import BadData
from .arrays import from_arrays
from .ask import Ask, Found

KINDS = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""Type of the numbers by the third byte of the magic number."""


def is_idx(path: Path) -> bool:
    """Whether a file starts with the magic number of IDX."""
    try:
        with _open(path) as file:
            head = file.read(4)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in KINDS and 0 < head[3] < 8


def read_idx(path: Path, ask: Ask) -> Found:
    """Samples of an IDX file, with the labels of the file beside it where there is one.

    Raises:
        BadData: Cut off, too long, or a file of labels alone.
    """
    x = _load(path)
    if x.ndim == 1:
        raise BadData("it holds one number a sample, such as labels; give the file of the samples, the labels beside it are found")
    beside = labels_beside(path)
    y = None if beside is None else _load(beside).copy()
    if y is not None and len(y) != len(x):
        raise BadData(f"it holds {len(x):,} samples, but {beside} {len(y):,} labels; give files that belong together")
    return from_arrays(x, y, ask)


def labels_beside(path: Path) -> Path | None:
    """The labels file of an images file, by its name: `images` becomes `labels` and `idx3` becomes `idx1`."""
    name = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    if "images" not in path.name:
        return None
    plain = name.removesuffix(".gz")
    return next((path.with_name(n) for n in (name, plain, f"{plain}.gz") if path.with_name(n).is_file()), None)


def _open(path: Path) -> BinaryIO:
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else open(path, "rb")


def _load(path: Path) -> np.ndarray:
    try:
        with _open(path) as file:
            return _parse(file, path)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise BadData(f"{path.name} is damaged or cut off; copy it again") from None


def _parse(file: BinaryIO, path: Path) -> np.ndarray:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in KINDS or not magic[3]:
        raise BadData(f"{path.name} is no IDX file: expected the bytes 0, 0, type, dimensions at its start, got {list(magic)}; name it by what it is")
    kind, head = np.dtype(KINDS[magic[2]]), file.read(4 * magic[3])
    shape = tuple(int(n) for n in np.frombuffer(head[: len(head) // 4 * 4], ">u4"))
    expected = math.prod(shape) * kind.itemsize
    found = file.read(expected + 1) if len(head) == 4 * magic[3] else b""
    if len(head) != 4 * magic[3] or len(found) != expected:
        came = "more" if len(found) > expected else f"{len(found):,}"
        raise BadData(f"{path.name} is damaged or cut off: expected {expected:,} bytes for dimensions {shape}, got {came}; copy it again")
    return np.frombuffer(found, kind).reshape(shape)
