"""Windows kept on disk: the same as without, found again only where nothing changed, made again where they are damaged."""

from dataclasses import replace

import numpy as np
import pytest

from diffgraft.ecg import cache
from diffgraft.ecg.cache import key_of, prepared
from diffgraft.ecg.folders import read_folder
from diffgraft.ecg.leads import EIGHT, TWELVE, twelve
from diffgraft.ecg.records import Preparation
from diffgraft.errors import BadData

HOW = Preparation(seconds=2, band=(0.5, 40))


def write(folder, name, seed, samples=300):
    """A record of WFDB."""
    folder.mkdir(exist_ok=True)
    x = np.round(twelve(np.random.default_rng(seed).normal(size=(8, samples)), EIGHT) * 1000).astype("<i2")
    (folder / f"{name}.dat").write_bytes(x.T.tobytes())
    lines = [f"{name}.dat 16 1000/mV 16 0 {row[0]} {row.sum(dtype=int) % 65536} 0 {lead}" for lead, row in zip(TWELVE, x, strict=True)]
    (folder / f"{name}.hea").write_text("\n".join([f"{name} 12 100 {samples}", *lines]))


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate("abc"):
        write(tmp_path / "d", name, k)
    write(tmp_path / "d", "short", 3, 100)
    return tmp_path / "d"


def same(a, b):
    return np.array_equal(a.x, b.x) and a[1:] == b[1:]


def test_what_is_kept_is_what_was_made(folder, tmp_path, monkeypatch):
    plain = prepared(read_folder(folder), HOW)
    assert plain.x.shape == (3, 12, 200) and plain.kept == (0, 1, 2) and plain.notes == ("1 of 4 recordings left out, shorter than 2 s: 'short'",)
    assert same(prepared(read_folder(folder), HOW, tmp_path / "kept"), plain)
    monkeypatch.setattr(cache, "prepare", lambda *_: pytest.fail("made again"))
    assert same(prepared(read_folder(folder), HOW, tmp_path / "kept"), plain)


def test_the_key_changes_with_every_file_and_setting(folder):
    key = key_of(read_folder(folder), HOW)
    assert key == key_of(read_folder(folder), HOW)
    others = [replace(HOW, seconds=1), replace(HOW, band=None), replace(HOW, short="pad"), replace(HOW, leads=("I", "II")), replace(HOW, resampler="zoom")]
    keys = {key, key_of(read_folder(folder).take([0, 1]), HOW), *(key_of(read_folder(folder), how) for how in others)}
    write(folder, "b", 9)
    assert len(keys | {key_of(read_folder(folder), HOW)}) == 8


@pytest.mark.parametrize("harm", ["cut", "bit", "other"])
def test_damaged_windows_are_made_again(folder, tmp_path, harm):
    plain = prepared(read_folder(folder), HOW, tmp_path / "kept")
    (path,) = (tmp_path / "kept").iterdir()
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif harm == "bit":
        path.write_bytes(path.read_bytes().replace(plain.x[1, 3].tobytes(), plain.x[1, 4].tobytes()))
    else:
        with np.load(path) as file:
            np.savez(path, **{**file, "X": file["X"] + 1})
    assert same(prepared(read_folder(folder), HOW, tmp_path / "kept"), plain)
    assert [p.name for p in (tmp_path / "kept").iterdir()] == [path.name] and same(prepared(read_folder(folder), HOW, tmp_path / "kept"), plain)


def test_nothing_left_is_one_line_and_leaves_nothing(folder, tmp_path):
    with pytest.raises(BadData, match="none of 4 recordings can be used: 4 shorter than 5 s; the longest has 3 s, give others"):
        prepared(read_folder(folder), replace(HOW, seconds=5), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
