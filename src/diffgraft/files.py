"""Files that are either whole or absent: atomic writes, hashes, and outputs that are never overwritten silently."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DiffgraftError, OutputExists, OutputRefused

if TYPE_CHECKING:
    from torch import Tensor, nn

REFUSALS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""What a system says when it lets nothing be written."""


def array_among_folders(path: Path, *others: Path | None) -> bool:
    """Whether one of several data is a finished array, to be taken as it is, and another a folder that is read as it is asked."""
    return path.suffix.lower() in (".npz", ".npy") and any(other is not None and other.is_dir() for other in others)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place, whole, when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        old = path.with_name(f".{path.name}.{os.getpid()}.old")
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_tensors(path: Path, tensors: "dict[str, Tensor]") -> None:
    """Write tensors as safetensors.

    Raises:
        OSError: The system refuses it; the library's own error hides the number.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: a.detach().cpu().contiguous().clone() for name, a in tensors.items()}, path)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def nulled(value: Any) -> Any:
    """A value of JSON with null in the place of nan, which JSON has no word for.

    >>> nulled({"value": 1.0, "floor": float("nan"), "ends": (float("nan"), 2)})
    {'value': 1.0, 'floor': None, 'ends': [None, 2]}
    """
    if isinstance(value, dict):
        return {key: nulled(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [nulled(part) for part in value]
    return None if isinstance(value, float) and value != value else value


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically, nan as null."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(nulled(value), indent=2) + "\n")


def append_line(path: Path, value: Any) -> None:
    """Append a value as one line of JSON, in one write, nan as null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(nulled(value)) + "\n")


def read_lines(path: Path) -> list[Any]:
    """The values of a JSON-lines file; a last line that a kill cut off is left out."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def mend_lines(path: Path) -> None:
    """Drop a last line that a kill cut off, so that the next one starts afresh."""
    if path.exists() and not (text := path.read_text()).endswith("\n"):
        with atomic_file(path) as partial:
            partial.write_text(text[: text.rfind("\n") + 1])


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_weights(model: "nn.Module") -> str:
    """Hash of the names and numbers of all weights."""
    import torch

    digest = hashlib.sha256()
    for name, a in model.state_dict().items():
        digest.update(name.encode())
        digest.update(a.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_writable(folder: Path) -> None:
    """Make sure, before long work, that files can be written to a folder, there already or not.

    Raises:
        OutputRefused: The system refuses it.
    """
    try:
        home = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise OutputRefused(f"nothing can be written to {folder}: {error.strerror or error}; choose another place, or change its permissions") from None


def refusal(error: OSError) -> str | None:
    """One line for a person where the system refused to write; None for any other error."""
    if error.errno not in REFUSALS:
        return None
    remedy = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "change the permissions"
    return f"{error.filename or 'the output'} cannot be written: {error.strerror}; {remedy}, then go on with --resume, or choose another --out"


def claim(path: Path, *, overwrite: bool = False, resume: bool = False) -> None:
    """Make sure that an output may be written to `path`.

    Raises:
        OutputExists: It is there already and neither flag was given.
        OutputRefused: The system refuses it.
    """
    if path.exists() and not resume and not overwrite:
        raise OutputExists(f"output {path} exists already; choose another --out, or pass --overwrite")
    check_writable(path if resume else path.absolute().parent)
    if path.exists() and not resume:
        _remove(path)


@contextmanager
def claimed(path: Path, *, overwrite: bool = False, resume: bool = False) -> Iterator[None]:
    """`claim` for a block; what stood at `path` comes back where the block ends in an error of the user's.

    Raises:
        OutputExists: It is there already and neither flag was given.
        OutputRefused: The system refuses it.
    """
    check_writable(path.absolute().parent)
    old = path.with_name(f".{path.name}.{os.getpid()}.replaced")
    if overwrite and not resume and path.exists():
        os.replace(path, old)
    claim(path, resume=resume)
    try:
        yield
    except DiffgraftError:
        if old.exists():
            _remove(path)
            os.replace(old, path)
        raise
    finally:
        _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
