"""Files that are either whole or absent: atomic writes, hashes, and outputs that are never overwritten silently."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import DiffgraftError, OutputExists


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


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def append_line(path: Path, value: Any) -> None:
    """Append a value as one line of JSON, in one write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(json.dumps(value) + "\n")


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


def claim(path: Path, *, overwrite: bool = False, resume: bool = False) -> None:
    """Make sure that an output may be written to `path`.

    Raises:
        OutputExists: It is there already and neither flag was given.
    """
    if not path.exists() or resume:
        return
    if not overwrite:
        raise OutputExists(f"output {path} exists already; choose another --out, or pass --overwrite")
    _remove(path)


@contextmanager
def claimed(path: Path, *, overwrite: bool = False, resume: bool = False) -> Iterator[None]:
    """`claim` for a block; what stood at `path` comes back where the block ends in an error of the user's.

    Raises:
        OutputExists: It is there already and neither flag was given.
    """
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
