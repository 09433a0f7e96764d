"""Windows of recordings kept on disk: found again by a hash of all that they depend on, and checked by a hash of their own.

The key covers the bytes of every file and every setting, so a changed file or another filter never finds old windows.
"""

import hashlib
import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import BadData
from ..files import atomic_file
from .records import Account, Facts, Preparation, Recordings, prepare
from .wfdb import read_header

WAY = 2
"""Of making windows: another number where they come out otherwise, so that older ones are not found."""
DAMAGED = (ValueError, EOFError, KeyError, OSError, zipfile.BadZipFile, zlib.error)


class Prepared(NamedTuple):
    """Windows (n, leads, samples) in mV, float32; whose they are, by place among the recordings; and what was left out, a line each."""

    x: np.ndarray
    kept: tuple[int, ...]
    notes: tuple[str, ...]


def prepared(recordings: Recordings, how: Preparation, folder: Path | None = None) -> Prepared:
    """The windows of all recordings that can be used.

    Args:
        recordings: Of a folder.
        how: The windows wanted.
        folder: Where they are kept for the next time; None keeps none.

    Raises:
        BadData: A file that cannot be read, unless `skip_broken`, or no recording is left.
    """
    path = None if folder is None else folder / f"{key_of(recordings, how)}.npz"
    if path is not None and (found := _load(path)) is not None:
        return found
    account = Account()
    pairs = list(prepare(recordings, how, account))
    account.check(how)
    out = Prepared(np.stack([x for _, x in pairs]), tuple(k for k, _ in pairs), account.lines)
    if path is not None:
        _save(path, out)
    return out


def key_of(recordings: Recordings, how: Preparation) -> str:
    """A hash of the settings and of the bytes of all files, 32 characters."""
    digest = hashlib.sha256(json.dumps([WAY, recordings.kind, asdict(how)]).encode())
    for facts in recordings.facts:
        digest.update(f"\n{facts.id}".encode())
        for path in _files(facts):
            digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()[:32]


def _files(facts: Facts) -> list[Path]:
    """The file of a recording, and those that its header names."""
    if facts.path.suffix != ".hea":
        return [facts.path]
    try:
        names = dict.fromkeys(wire.file for wire in read_header(facts.path).wires)
    except BadData:
        names = {}
    return [facts.path, *(facts.path.parent / name for name in names)]


def _save(path: Path, out: Prepared) -> None:
    with atomic_file(path) as partial:
        np.savez(partial, X=out.x, kept=np.array(out.kept, np.int64), notes=np.array(out.notes, np.str_), hash=np.array(_hash(out)))


def _load(path: Path) -> Prepared | None:
    """What is kept there; None where nothing is or where it is damaged, and then it is made again."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            out = Prepared(file["X"], tuple(file["kept"].tolist()), tuple(file["notes"].tolist()))
            return out if str(file["hash"]) == _hash(out) else None
    except DAMAGED:
        return None


def _hash(out: Prepared) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(out.x).data)
    digest.update(json.dumps([out.x.shape, out.kept, out.notes]).encode())
    return digest.hexdigest()
