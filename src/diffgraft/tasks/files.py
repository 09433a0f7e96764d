"""A user's own data: arrays on disk, checked as they are read."""

import zipfile
from pathlib import Path

import numpy as np

from ..data import Points, points
from ..errors import BadData


def read(path: str | Path, what: str = "the") -> Points:
    """Samples, and labels where there are some, from a file.

    Args:
        path: `.npz` with `X` and optionally `y`, or `.npy`.
        what: How messages name the data: "source", "target".

    Raises:
        BadData: Missing, of another kind, damaged, pickled, not finite, of one sample only.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"{what} data {path}: no such file; give a .npz (X, optional y) or .npy file")
    if path.suffix not in (".npz", ".npy"):
        raise BadData(f"{what} data {path}: expected .npz (X, optional y) or .npy, got '{path.suffix}'; convert it with numpy.savez(file, X=x)")
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {key: loaded[key] for key in loaded.files} if path.suffix == ".npz" else {"X": loaded}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = "it holds pickled objects, which are never loaded" if "pickle" in str(error) else "it is damaged or not of this format"
        raise BadData(f"{what} data {path}: {reason}; write it again with numpy.savez(file, X=x)") from None
    if "X" not in arrays:
        raise BadData(f"{what} data {path}: expected an array named X, got {', '.join(arrays) or 'nothing'}; write it with numpy.savez(file, X=x, y=y)")
    return points((arrays["X"], arrays["y"]) if "y" in arrays else arrays["X"], f"{what} ({path})")
