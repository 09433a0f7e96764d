"""Bad files through the command line: one line that names the fault and the remedy, status 2, and nothing lost that was there."""

import errno
import gzip
import os
import pickle
import struct
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image
from safetensors import SafetensorError

import diffgraft as dg
from diffgraft import cli, console, store
from diffgraft.data import Layout, Prior
from diffgraft.errors import BadData, OutputExists
from diffgraft.files import claimed
from diffgraft.nets.catalog import build
from diffgraft.readers import catalog, spool
from diffgraft.readers.catalog import read

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process; status and what it wrote."""

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["diffgraft", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run):
    """Status 2, one line on the fault beside warnings, no traceback."""

    def refused(*args, says):
        status, out, err = run(*args)
        lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
        assert status == 2 and out == "" and len(lines) == 1, (status, out, err)
        assert lines[0].startswith("diffgraft: ") and says in lines[0] and ";" in lines[0], lines[0]
        return lines[0]

    return refused


def model(folder, layout=None, n_classes=0):
    torch.manual_seed(0)
    net = dg.Net(build("mlp", (3,), dg.vp(), n_classes, width=8, depth=1), dg.vp(), shape=(3,))
    net.layout = layout or Layout()
    net.prior = Prior.fit(torch.arange(n_classes)) if n_classes else None
    store.save(net, folder)
    return folder


def npz(**arrays):
    def write(path):
        np.savez(path, **arrays)

    return write


def cut(write, by=9):
    def cut(path):
        write(path)
        path.write_bytes(path.read_bytes()[:-by])

    return cut


def npy(path):
    np.save(path, X)


def idx(path, shape=(3, 2, 2), data=bytes(12), magic=(0, 0, 8)):
    path.write_bytes(bytes([*magic, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data)


def parquet(**columns):
    def write(path):
        pytest.importorskip("pyarrow")
        pd.DataFrame(columns).to_parquet(path)

    return write


def pair(path):
    path.mkdir()
    Image.new("L", (4, 4)).save(path / "a.png")
    Image.new("L", (5, 4)).save(path / "b.png")


def corrupt(path):
    path.mkdir()
    (path / "sub").mkdir()
    for k in range(5):
        Image.effect_noise((20, 20), 50).save(path / "sub" / f"{k}.png")
    for k in range(4):
        file = path / "sub" / f"{k}.png"
        file.write_bytes(file.read_bytes()[:100] if k else b"no image")


def mixed(path):
    pair(path)
    (path / "cat").mkdir()
    Image.new("L", (4, 4)).save(path / "cat" / "c.png")


def notes(path):
    path.mkdir()
    (path / "notes.txt").write_text("-")


def recording(path):
    (path / "files").mkdir(parents=True)
    (path / "files" / "a.hea").write_text("-")


def deep(mode, value):
    def write(path):
        path.mkdir()
        for name in "ab":
            Image.fromarray(np.full((4, 4), value, mode)).save(path / f"{name}.tif")

    return write


BAD = {
    "missing": ("no.csv", None, [], "no such file; give .npz"),
    "empty csv": ("d.csv", b"", [], "it is empty"),
    "empty npz": ("d.npz", b"", [], "it is empty"),
    "blank csv": ("d.csv", b"\n \n", [], "it is empty"),
    "empty gz": ("d.csv.gz", gzip.compress(b""), [], "it is empty"),
    "header alone": ("d.csv", "a,b\n", [], "a header and no rows"),
    "kind unknown": (
        "d.xlsx",
        b"PK",
        [],
        "IDX, a folder of images or of ECG recordings, or a data set of images of the Hugging Face hub, got '.xlsx'",
    ),
    "one recording of many": ("a.hea", "a 12 500 5000", [], "ECG recordings are read by their folder, not file by file; give"),
    "the table of recordings": ("ptbxl_database.csv", "ecg_id", [], "ECG recordings are read by their folder, not file by file; give"),
    "truncated npy": ("d.npy", cut(npy), [], "damaged or cut off"),
    "truncated npz": ("d.npz", cut(npz(X=X), 200), [], "damaged or cut off"),
    "npz of a changed byte": ("d.npz", lambda p: (npz(X=X)(p), p.write_bytes(p.read_bytes().replace(X.tobytes()[8:16], bytes(8)))), [], "damaged or cut off"),
    "truncated gz": ("d.csv.gz", gzip.compress(b"a,b\n" + os.urandom(30000).hex().encode())[:-20], [], "d.csv.gz: "),
    "truncated gz late": ("d.csv.gz", gzip.compress("".join(f"{k},{k * k % 1009}\n" for k in range(40000)).encode())[:-20], [], "damaged or cut off"),
    "csv named npy": ("d.npy", "a,b\n1,2\n3,4\n", [], "it is no .npy file, whatever its name"),
    "csv named npz": ("d.npz", "a,b\n1,2\n3,4\n", [], "it is no .npz file"),
    "npy named csv": ("d.csv", lambda p: (np.save(p.with_suffix(".npy"), X), p.with_suffix(".npy").rename(p)), [], "no UTF-8 text"),
    "csv named parquet": ("d.parquet", "a,b\n1,2\n", [], "no parquet file"),
    "latin-1": ("d.csv", "größe,b\n1,2\n3,4\n".encode("latin-1"), [], "no UTF-8 text"),
    "pickled npy": ("d.npy", lambda p: np.save(p, np.array([{}, {}])), [], "pickled objects, which are never loaded"),
    "pickled npz": ("d.npz", npz(X=np.array([{}, {}])), [], "pickled objects, which are never loaded"),
    "pickle named npy": ("d.npy", pickle.dumps([1, 2]), [], "pickled objects, which are never loaded"),
    "no X": ("d.npz", npz(a=X, b=X), [], "expected an array named X, got 'a', 'b'"),
    "words in X": ("d.npz", npz(X=np.array([["a", "b"]] * 3)), [], "expected numbers, got an array of <U1"),
    "complex": ("d.npz", npz(X=X * 1j), [], "expected numbers, got an array of complex64"),
    "nan in npz": ("d.npz", npz(X=np.where(X[4, 2] == X, np.nan, X)), [], "got nan in row 4, column 2"),
    "too large for float32": ("d.npz", npz(X=np.where(X[4, 2] == X, 1e39, X.astype(float))), [], "got inf in row 4, column 2"),
    "nan in csv": ("d.csv", "a,b\n1,2\n\n3,nan\n", [], "row 4 of the file, column 'b' is 'nan'"),
    "empty cell": ("d.csv", "a,b\n1,2\n3,\n", [], "row 3 of the file, column 'b' is empty"),
    "inf in csv": ("d.csv", "1,2\n3,4\n-inf,5\n", [], "row 3 of the file, column 0 holds -inf"),
    "too large in csv": ("d.csv", "a,b\n1,2\n3,1e39\n", [], "row 3 of the file, column 'b' holds 1e39"),
    "nan in parquet": ("d.parquet", parquet(a=[1.0, 2, 3], b=[1.0, 2, None]), [], "row 2, column 'b' is nan"),
    "too few cells": ("d.csv", "a,b,c\n1,2,3\n4,5\n", [], "row 3 of the file has 2 cells, the header has 3"),
    "too many cells": ("d.csv", "1,2,3\n4,5,6\n4,5,6,7\n", [], "row 3 of the file has 4 cells, the first row has 3"),
    "one cell more than the header": ("d.csv", "a,b\n1,2,3\n4,5,6\n", [], "row 2 of the file has 3 cells, the header has 2"),
    "open quote": ("d.csv", 'a,b\n1,"2\n', [], "never closed"),
    "text": (
        "d.csv",
        "a,kind\n1,2\n3,red\n",
        [],
        "row 3 of the file, column 'kind' holds the text 'red', expected a number; encode the column as numbers, or use it",
    ),
    "text that Python takes for a number": ("d.csv", "a,b\n1,2\n3,1_000\n", [], "row 3 of the file, column 'b' holds the text '1_000'"),
    "text in parquet": ("d.parquet", parquet(a=[1.0, 2], kind=["red", "white"]), [], "row 0, column 'kind' holds 'red'"),
    "two columns of a name": ("d.csv", "a,b,a\n1,2,3\n4,5,6\n", [], "got 'a' more than once"),
    "column without a name": ("d.csv", ",a,b\n0,2,3\n1,5,6\n", [], "column 0 has no name in the header"),
    "one sample": ("d.csv", "a,b\n1,2\n", [], "at least 2 samples, got 1"),
    "no such label": ("d.csv", "a,quality\n1,2\n3,4\n", ["--label-column", "qualty"], "no such column; did you mean 'quality'?"),
    "no such position": ("d.csv", "a,b\n1,2\n3,4\n", ["--label-column", "2"], "give a position from -2 to 1"),
    "a name without a header": ("d.csv", "1,2\n3,4\n", ["--label-column", "b"], "it has no header; give the position"),
    "only a label": ("d.csv", "b\n1\n2\n", ["--label-column", "b"], "its only column is the label"),
    "label missing": ("d.csv", "a,b\n1,x\n2, \n", ["--label-column", "b"], "row 3 of the file, column 'b' is empty, every row needs its label"),
    "label missing in parquet": ("d.parquet", parquet(a=[1.0, 2], b=["x", None]), ["--label-column", "b"], "row 1, column 'b' is empty"),
    "label missing, row short": ("d.csv", "a,b\n1,x\n2\n", ["--label-column", "b"], "row 3 of the file has 1 cells"),
    "labels are no classes": (
        "d.csv",
        "a,b\n" + "".join(f"1,{k}\n" for k in range(1234)),
        ["--label-column", "b"],
        "a label column with 1,234 distinct values is no class (column 'b')",
    ),
    "labels are fractions": ("d.csv", "a,b\n1,2\n2,2.5\n", ["--label-column", "b"], "holds whole numbers or names, got 2.5 (column 'b')"),
    "labels are fractions in npy": ("d.npy", npy, ["--label-column", "1"], "holds whole numbers or names"),
    "labels twice": ("d.npz", npz(X=X, y=np.arange(7)), ["--label-column", "1"], "it holds labels already"),
    "a name in npy": ("d.npy", npy, ["--label-column", "b"], "its columns have no names"),
    "labels of images": ("d.npz", npz(X=np.zeros((3, 4, 4), np.uint8)), ["--label-column", "1"], "is for tables"),
    "size of a table": ("d.csv", "1,2\n3,4\n", ["--size", "8"], "--size is for images"),
    "size of rows": ("d.npz", npz(X=X), ["--size", "8"], "--size is for images"),
    "size of signals": ("d.npz", npz(X=np.ones((7, 2, 9))), ["--size", "8"], "--size is for images"),
    "idx cut off": ("d-images-idx3-ubyte", lambda p: idx(p, data=bytes(11)), [], "expected 12 bytes for dimensions (3, 2, 2), got 11"),
    "idx too long": ("d-images-idx3-ubyte", lambda p: idx(p, data=bytes(13)), [], "got more"),
    "idx cut in its head": ("d.bin", b"\0\0\x08\x03\0\0", [], "damaged or cut off"),
    "idx gz cut off": ("d.gz", lambda p: (idx(p), p.write_bytes(gzip.compress(p.read_bytes() + os.urandom(50000))[:-9000])), [], "damaged or cut off"),
    "idx of labels": ("d-labels-idx1-ubyte", lambda p: idx(p, (12,)), [], "give the file of the samples"),
    "idx with other labels": ("d-images-idx3-ubyte", lambda p: (idx(p), idx(p.with_name("d-labels-idx1-ubyte"), (12,))), [], "12 labels"),
    "idx with labels cut off": (
        "d-images-idx3-ubyte",
        lambda p: (idx(p), idx(p.with_name("d-labels-idx1-ubyte"), (13,))),
        [],
        "d-labels-idx1-ubyte is damaged",
    ),
    "folder without images": ("d", notes, [], "it holds no images"),
    "recordings of another format": (
        "d",
        lambda p: (p.mkdir(), (p / "a.XML").write_text("<a/>")),
        [],
        "no ECG recordings (.hea with .dat or .mat), but files of kind '.xml'; give images, subfolders are labels, or recordings; bring those of other formats",
    ),
    "empty folder": ("d", Path.mkdir, [], "no ECG recordings (.hea with .dat or .mat), nor any other file; give images"),
    "unlike sizes": ("d", pair, [], "a.png has 4 x 4 pixels, b.png 5 x 4; bring all to one by --size"),
    "corrupt images": ("d", corrupt, [], "4 of 5 images cannot be read: 'sub/0.png', 'sub/1.png', 'sub/2.png' and 1 more"),
    "images beside subfolders": ("d", mixed, [], "it holds images beside its subfolders, 'a.png', 'b.png'"),
    "labels of a folder": ("d", pair, ["--label-column", "a"], "the labels of images are their subfolders"),
    "ECG folder": ("d", recording, [], "a.hea is no WFDB header, expected a record's name and its number of signals; copy it again"),
    "deeper than 16 bits": ("d", deep(np.int32, 70000), [], "a.tif holds values from 70000 to 70000"),
    "floating-point images": ("d", deep(np.float32, 0.5), [], "a.tif holds floating-point pixels"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_ends_in_one_line(refused, tmp_path, case):
    name, write, options, says = BAD[case]
    path = tmp_path / name
    if callable(write):
        write(path)
    elif write is not None:
        path.write_bytes(write if isinstance(write, bytes) else write.encode())
    model(tmp_path / "m")
    before = sorted(tmp_path.rglob("*"))
    line = refused("pretrain", "--data", path, "--out", tmp_path / "m", "--overwrite", *options, says=says)
    assert str(path) in line and len(line) < 400
    assert sorted(tmp_path.rglob("*")) == before and dg.load(tmp_path / "m")


NAMED = Layout(("a", "b", "c"), ("red", "white"), "kind")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,d\n1,2,3\n4,5,6\n", "missing 'c', unknown 'd'; rename, add or drop columns; a label is named by --label-column"),
        ("a,b\n1,2\n4,5\n", "missing 'c'; rename"),
        ("a,b,c,e,kind\n1,2,3,4,red\n4,5,6,7,red\n", "unknown 'e'; rename"),
        ("1,2\n3,4\n", "expected 3 features, 'a', 'b', 'c', got 2 columns"),
        ("a,b,c,kind\n1,2,3,red\n4,5,6,blue\n", "the target's labels go up to 2, the source model knows 0 to 1"),
    ],
)
def test_data_unlike_the_source_end_in_one_line(refused, tmp_path, text, says):
    (tmp_path / "t.csv").write_text(text)
    model(tmp_path / "s", NAMED, n_classes=2)
    model(tmp_path / "m")
    before = {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    refused(
        "fit",
        "--source",
        tmp_path / "s",
        "--target-data",
        tmp_path / "t.csv",
        "--method",
        "time_ratio_weighted",
        "--out",
        tmp_path / "m",
        "--overwrite",
        "--quiet",
        says=says,
    )
    assert {path: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_model_may_be_fitted_in_its_own_place(run, tmp_path):
    model(tmp_path / "s")
    np.savez(tmp_path / "t.npz", X=X)
    args = ("fit", "--source", tmp_path / "s", "--target-data", tmp_path / "t.npz", "--method", "source", "--out", tmp_path / "s", "--overwrite")
    assert run(*args)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "t.npz"]


@pytest.mark.parametrize(("error", "stays"), [(BadData("bad"), "old"), (KeyboardInterrupt(), "new"), (None, "new")])
def test_what_is_replaced_comes_back_after_an_error_of_the_user_only(tmp_path, error, stays):
    out = tmp_path / "m"
    out.mkdir()
    (out / "old").write_text("")

    def replace():
        with claimed(out, overwrite=True):
            assert not out.exists()
            out.mkdir()
            (out / "new").write_text("")
            if error:
                raise error

    with pytest.raises(type(error)) if error else nullcontext():
        replace()
    assert [path.name for path in out.iterdir()] == [stays]
    with pytest.raises(OutputExists), claimed(out):
        pass
    with claimed(out, resume=True):
        assert [path.name for path in out.iterdir()] == [stays]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


# What the system refuses


def test_a_file_that_may_not_be_read_ends_in_one_line(refused, tmp_path, monkeypatch):
    np.savez(tmp_path / "d.npz", X=X)

    def deny(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(catalog, "read_array", deny)
    refused("pretrain", "--data", tmp_path / "d.npz", "--out", tmp_path / "m", says="it cannot be read: Permission denied; check its permissions")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_locked_file_ends_in_one_line(refused, tmp_path):
    np.savez(tmp_path / "d.npz", X=X)
    (tmp_path / "d.npz").chmod(0)
    refused("pretrain", "--data", tmp_path / "d.npz", "--out", tmp_path / "m", says="Permission denied")


@pytest.mark.parametrize("kind", ["csv", "folder"])
def test_a_full_disk_ends_in_one_line(refused, tmp_path, monkeypatch, kind):
    (tmp_path / "d.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "i").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "i" / "a.png")

    def full(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(spool.Spool, "add", full)
    data = tmp_path / ("d.csv" if kind == "csv" else "i")
    assert "TMPDIR" in refused("pretrain", "--data", data, "--out", tmp_path / "m", says="no space left")


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder that nothing can be written to, for root neither."""
    folder = tmp_path / "locked"
    folder.mkdir()
    real = tempfile.TemporaryFile

    def refuse(*args, dir=None, **kwargs):
        if Path(dir).is_relative_to(folder):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(*args, dir=dir, **kwargs)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    return folder


@pytest.mark.parametrize("flag", [[], ["--overwrite"], ["--resume"]])
def test_a_locked_output_ends_in_one_line_before_anything_is_read(refused, locked, flag):
    says = f"nothing can be written to {locked}"
    refused("pretrain", "--data", "absent.npz", "--out", locked / "m", *flag, says=says)
    refused("fit", "--source-data", "absent.npz", "--target-data", "absent.npz", "--out", locked / "deep" / "m", *flag, says=f"{says}/deep")
    assert list(locked.iterdir()) == []


def test_locked_samples_scores_and_reports_end_in_one_line(refused, locked):
    says = f"nothing can be written to {locked}: Permission denied; choose another place, or change its permissions"
    for flag in ([], ["--overwrite"]):
        refused("sample", "absent", "-n", 3, "--out", locked / "s.npz", *flag, says=says)
    refused("evaluate", "absent.npz", "--reference", "absent.npz", "--json", locked / "e.json", says=says)
    refused("inspect", "--source-data", "absent.npz", "--target-data", "absent.npz", "--json", locked / "i.json", says=says)


def test_what_stands_in_a_locked_place_stays(refused, locked):
    (locked / "m").mkdir()
    (locked / "m" / "old").write_text("old")
    refused("pretrain", "--data", "absent.npz", "--out", locked / "m", "--overwrite", says="nothing can be written")
    assert (locked / "m" / "old").read_text() == "old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_ends_in_one_line(refused, tmp_path):
    tmp_path.chmod(0o500)
    refused("pretrain", "--data", "absent.npz", "--out", tmp_path / "m", says="Permission denied")


def test_a_disk_that_fills_while_weights_are_written_ends_in_one_line(refused, tmp_path, monkeypatch):
    def full(tensors, path):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    np.savez(tmp_path / "d.npz", X=X)
    monkeypatch.setattr(safetensors.torch, "save_file", full)
    out = tmp_path / "m"
    said = refused(
        "pretrain", "--data", tmp_path / "d.npz", "--out", out, "--steps", 2, "--quiet", says="cannot be written: No space left on device; free some space"
    )
    assert "--resume" in said and not (out / "config.json").exists()


# Names through the commands


@pytest.fixture
def wine(tmp_path):
    """A labelled pair of tables: the target's columns stand in another order, and it has a label of its own."""
    g = np.random.default_rng(3)
    source = pd.DataFrame(g.normal(size=(60, 3)), columns=["acid", "sugar", "salt"]).assign(kind=g.choice(["white", "red"], 60))
    target = pd.DataFrame(g.normal(1, size=(20, 3)), columns=["salt", "acid", "sugar"]).assign(kind=["rose", "red"] * 10, flat=1.0)
    source.to_csv(tmp_path / "source.csv", index=False)
    target.drop(columns="flat").to_csv(tmp_path / "target.csv", index=False)
    return tmp_path


def test_names_travel_from_csv_to_csv(run, refused, wine):
    def ok(*args):
        status, out, err = run(*args)
        assert status == 0, err
        return out, err

    ok("pretrain", "--data", wine / "source.csv", "--label-column", -1, "--out", wine / "s", "--steps", 5, "--quiet")
    assert dg.load(wine / "s").layout == Layout(("acid", "sugar", "salt"), ("red", "white"), "kind")
    data = ("--source-data", wine / "source.csv", "--target-data", wine / "target.csv")
    _, err = ok("fit", "--source", wine / "s", *data, "--out", wine / "m", "--set", "steps=3", "--quiet")
    assert err.splitlines() == [
        f"warning: target data {wine / 'target.csv'}: its columns stand in another order than 'acid', 'sugar', 'salt'; they are taken by name"
    ]
    fitted = dg.load(wine / "m")
    assert fitted.layout == Layout(("acid", "sugar", "salt"), ("red", "white", "rose"), "kind")
    assert fitted.prior.values.tolist() == [0, 2]

    ok("sample", "--steps", 2, "-n", 5, "--label", "rose", "red", wine / "m", "--out", wine / "x.csv", "--quiet")
    frame = pd.read_csv(wine / "x.csv")
    assert list(frame) == ["acid", "sugar", "salt", "kind"] and list(frame["kind"]) == ["rose", "red", "rose", "red", "rose"]
    ok("sample", wine / "m", "--steps", 2, "-n", 5, "--label", "rose", "red", "--out", wine / "x.npz")
    with np.load(wine / "x.npz", allow_pickle=False) as drawn:
        assert drawn["columns"].tolist() == ["acid", "sugar", "salt"] and drawn["labels"].tolist() == ["red", "white", "rose"]
        assert np.allclose(drawn["X"], frame[["acid", "sugar", "salt"]], rtol=1e-6) and drawn["y"].tolist() == [2, 0, 2, 0, 2]

    for options in (["--model", wine / "m"], ["--label-column", "kind"]):
        out, err = ok("evaluate", wine / "x.csv", "--reference", wine / "target.csv", "--train", wine / "target.csv", *options)
        assert "energy" in out and "memorisation" in out and "are in --reference and in --train" in err
    refused("sample", wine / "m", "-n", 5, "--label", "blue", "--out", wine / "y.csv", says="known are: red, white, rose")
    refused("sample", wine / "m", "-n", 5, "--out", wine / "y.txt", says="written as .npz or .csv")
    before = (wine / "x.csv").read_bytes()
    refused("sample", wine / "m", "-n", 5, "--label", "blue", "--out", wine / "x.csv", "--overwrite", says="known are")
    assert (wine / "x.csv").read_bytes() == before


def test_warnings_are_shown_when_quiet(run, wine):
    (wine / "flat.csv").write_text("a,b\n1,2\n1,3\n1,4\n")
    status, _, err = run("pretrain", "--data", wine / "flat.csv", "--out", wine / "f", "--steps", 2, "--quiet")
    assert status == 0 and err == f"warning: source data {wine / 'flat.csv'}: column 'a' never changes; nothing can be learned there, drop it if you can\n"


def test_names_beside_indices_are_warned_of(run, wine):
    model(wine / "s", n_classes=2)
    (wine / "t.csv").write_text("a,b,c,kind\n1,2,3,red\n4,5,6,blue\n1,2,4,red\n")
    args = ("--target-data", wine / "t.csv", "--label-column", "kind", "--method", "source", "--out", wine / "m")
    _, _, err = run("fit", "--source", wine / "s", *args)
    assert "knows labels by index, the target data by name; 'blue' is 0, 'red' is 1" in err
    assert dg.load(wine / "m").layout.labels == ("blue", "red")


def test_a_csv_of_samples_without_names_counts_its_columns(run, refused, tmp_path):
    model(tmp_path / "s", n_classes=4)
    assert run("sample", tmp_path / "s", "-n", 4, "--steps", 2, "--label", 3, 1, "--out", tmp_path / "x.csv")[0] == 0
    frame = pd.read_csv(tmp_path / "x.csv")
    assert list(frame) == ["x0", "x1", "x2", "label"] and list(frame["label"]) == [3, 1, 3, 1]
    again = read(tmp_path / "x.csv", like=dg.load(tmp_path / "s").layout)
    assert again.points.x.shape == (4, 3) and again.points.y.tolist() == [3, 1, 3, 1]
    refused("sample", tmp_path / "s", "-n", 5, "--label", "red", "--out", tmp_path / "y.csv", says="known are: 0 to 3")
    net = dg.Net(build("unet", (1, 8, 8), dg.vp(), width=8), dg.vp(), shape=(1, 8, 8))
    store.save(net, tmp_path / "i")
    refused("sample", tmp_path / "i", "-n", 5, "--out", tmp_path / "y.csv", says="a .csv holds rows of numbers")


def test_samples_with_rows_of_statements_have_as_many_label_columns(tmp_path):
    from diffgraft.data import Points
    from diffgraft.sample_files import write_samples

    write_samples(tmp_path / "x.csv", Points(torch.ones(2, 2), torch.eye(2)), 0, Layout(columns=("label", "b")))
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "label,b,y0,y1"
    assert read(tmp_path / "x.csv").points.x.shape == (2, 4)


def test_labels_end_where_the_model_begins(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert console.spread(["--label", "red", "1", str(tmp_path), "-n", "5"]) == ["--label", "red", "--label", "1", str(tmp_path), "-n", "5"]
    assert console.spread(["--label=-1", "x"]) == ["--label=-1", "x"]
