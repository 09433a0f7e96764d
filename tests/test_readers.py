"""A user's data files: what each kind becomes, how labels and columns keep their names, and how files of one kind agree."""

import gc
import gzip
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from diffgraft.data import Layout
from diffgraft.errors import BadData, MissingExtra
from diffgraft.readers import delimited
from diffgraft.readers.catalog import read
from diffgraft.readers.labels import in_order, label_indices, label_values
from diffgraft.readers.spool import Spool

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
KINDS = ["red", "white", "red", "rose", "white", "red", "rose"]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def table(x=X, names=("a", "b", "c"), sep=",", **labels):
    frame = pd.DataFrame(x, columns=names or None).assign(**labels)
    return frame.to_csv(index=False, header=names is not None, sep=sep)


def close(x, y):
    return torch.allclose(x, torch.as_tensor(y), rtol=1e-6, atol=0)


# Arrays


def test_arrays_keep_their_numbers_labels_and_nothing_else(tmp_path):
    np.savez(tmp_path / "d.npz", X=X.astype(float), y=np.arange(7, dtype=np.uint8), seed=3, labels=np.array(["x"]), columns=np.array(["p", "q", "r"]))
    (x, y), layout, warnings, _ = read(tmp_path / "d.npz")
    assert torch.equal(x, torch.tensor(X)) and x.dtype == torch.float32
    assert y.tolist() == list(range(7)) and y.dtype == torch.int64
    assert layout == Layout() and warnings == ()


def test_npy_of_float32_is_mapped_and_never_copied(tmp_path):
    np.save(tmp_path / "d.npy", X)
    x = read(tmp_path / "d.npy").points.x
    assert torch.equal(x, torch.tensor(X))
    assert sys.platform != "linux" or str(tmp_path / "d.npy") in Path("/proc/self/maps").read_text()
    x[0, 0] = 5.0  # the file stays
    assert np.load(tmp_path / "d.npy")[0, 0] == X[0, 0]


@pytest.mark.parametrize("x", [X.astype(">f4"), X.astype(np.float16), np.asfortranarray(X), (X * 10).astype(np.int16), X > 0, (X > 0).astype(np.uint8)])
def test_numbers_of_any_type_become_float32(tmp_path, x):
    np.save(tmp_path / "d.npy", x)
    assert torch.equal(read(tmp_path / "d.npy").points.x, torch.tensor(x.astype(np.float32)))


@pytest.mark.parametrize(
    ("given", "wanted"), [((7, 5, 4), (7, 1, 5, 4)), ((7, 3, 5, 4), (7, 3, 5, 4)), ((7, 5, 4, 3), (7, 3, 5, 4)), ((7, 5, 4, 1), (7, 1, 5, 4))]
)
def test_bytes_in_the_shape_of_images_become_images(tmp_path, given, wanted):
    x = np.random.default_rng(0).integers(0, 256, given, np.uint8)
    x.flat[:2] = 0, 255
    np.savez(tmp_path / "d.npz", X=x)
    out = read(tmp_path / "d.npz").points.x
    expected = x[:, None] if len(given) == 3 else x if given == wanted else x.transpose(0, 3, 1, 2)
    assert out.shape == wanted and torch.allclose(out, torch.tensor(expected / 127.5 - 1, dtype=torch.float32), atol=1e-6)
    assert out.min() == -1 and out.max() == 1


def test_other_shapes_stay_as_they_are(tmp_path):
    np.save(tmp_path / "signal.npy", np.ones((7, 12, 30), np.int16))
    np.save(tmp_path / "float.npy", 2 * np.ones((7, 3, 5, 4)))
    assert read(tmp_path / "signal.npy").points.x.shape == (7, 12, 30)
    assert read(tmp_path / "float.npy").points.x.max() == 2


def test_signals_keep_the_names_of_their_channels(tmp_path):
    x = np.arange(40, dtype=np.float32).reshape(4, 2, 5)
    np.savez(tmp_path / "a.npz", X=x, columns=["I", "V1"], rate=100.0, unit="mV")
    a = read(tmp_path / "a.npz", "source")
    assert a.layout == Layout(columns=("I", "V1"), rate=100.0, unit="mV")
    np.savez(tmp_path / "b.npz", X=x[:, ::-1], columns=["V1", "I"])
    b = read(tmp_path / "b.npz", "target", like=a.layout)
    assert torch.equal(b.points.x, a.points.x) and b.layout.columns == ("I", "V1")
    for given, says in (
        ({"columns": ["V1", "V2"]}, "expected the channels 'I', 'V1', missing 'I'"),
        ({"columns": ["I"]}, "columns names 1 channels, X has 2; name each, or leave columns out"),
        ({"columns": list("abcde")}, r"columns names 5 channels, X has 2; give X as \(samples, channels, times\)"),
        ({"rate": 500.0}, "expected signals of 100 Hz, got 500 Hz"),
        ({"unit": "uV"}, "expected signals in mV, got uV; bring the two to one unit"),
    ):
        np.savez(tmp_path / "c.npz", X=x, **given)
        with pytest.raises(BadData, match=says):
            read(tmp_path / "c.npz", "target", like=a.layout)


def test_names_of_signals_in_any_case_and_arrays_that_say_nothing(tmp_path):
    x = np.arange(40, dtype=np.float32).reshape(4, 2, 5)
    np.savez(tmp_path / "a.npz", X=x[:, ::-1], columns=["v1", "i"], unit="mv", fs=500, leads=["v1", "i"])
    a = read(tmp_path / "a.npz", "source", like=Layout(columns=("I", "V1"), rate=100.0, unit="mV"))
    assert torch.equal(a.points.x, torch.tensor(x)) and a.layout.columns == ("I", "V1")
    assert a.warnings == (f"source data {tmp_path / 'a.npz'}: 'fs', 'leads' are left alone; what is read of signals is columns, rate, unit, seconds, band",)


def test_channels_that_differ_in_case_alone_are_told_apart(tmp_path):
    x = np.arange(60, dtype=np.float32).reshape(4, 3, 5)
    np.savez(tmp_path / "a.npz", X=x, columns=["b", "a", "A"])
    assert torch.equal(read(tmp_path / "a.npz", like=Layout(columns=("a", "A", "b"))).points.x, torch.tensor(x[:, [1, 2, 0]]))
    np.savez(tmp_path / "b.npz", X=x, columns=["b", "ii", "Ii"])
    with pytest.raises(BadData, match="missing 'II'"):
        read(tmp_path / "b.npz", like=Layout(columns=("II", "b", "ii")))


def test_words_as_labels_of_an_array_become_indices(tmp_path):
    np.savez(tmp_path / "d.npz", X=X, y=np.array(KINDS))
    got = read(tmp_path / "d.npz")
    assert got.layout.labels == ("red", "rose", "white") and got.points.y.tolist() == [0, 2, 0, 1, 2, 0, 1]


def test_a_column_of_an_array_may_be_the_label(tmp_path):
    np.save(tmp_path / "d.npy", np.column_stack([X[:, :2], [5, 9, 5, 7, 9, 5, 11]]))
    (x, y), layout, _, _ = read(tmp_path / "d.npy", label_column="-1")
    assert x.shape == (7, 2) and y.tolist() == [0, 2, 0, 1, 2, 0, 3]
    assert layout == Layout(labels=("5", "7", "9", "11"), label_column=2)
    assert torch.equal(read(tmp_path / "d.npy", like=layout).points.y, y)
    np.savez(tmp_path / "d.npz", X=X, y=[1, 0, 0, 0, 1, 1, 1])
    assert read(tmp_path / "d.npz", like=layout).points.x.shape == (7, 3)  # labelled already


def test_rows_wait_in_a_file_without_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with Spool((3,)) as spool:
        spool.add(X[:2])
        spool.add(X[2:])
        assert list(tmp_path.iterdir()) == []
        x = spool.tensor()
    assert torch.equal(x, torch.tensor(X))
    assert sys.platform != "linux" or f"{tmp_path}/" in Path("/proc/self/maps").read_text()


# Text tables


@pytest.mark.parametrize("sep", [",", ";", "\t"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("kind", ["plain", "gz", "bom", "crlf"])
def test_text_tables(write, sep, header, kind):
    text = table(names=("a", "b c", "d") if header else None, sep=sep)
    raw = {"plain": text, "gz": gzip.compress(text.encode()), "bom": "\ufeff" + text, "crlf": text.replace("\n", "\r\n")}[kind]
    x, layout, warnings, _ = read(write("d.csv.gz" if kind == "gz" else "d.csv", raw))
    assert close(x.x, X) and x.y is None and warnings == ()
    assert layout == Layout(columns=("a", "b c", "d") if header else None)


def test_a_table_is_read_in_pieces(write, monkeypatch):
    monkeypatch.setattr(delimited, "CELLS", 3000)
    big = np.random.default_rng(1).normal(size=(2531, 3)).astype(np.float32)
    kinds = np.random.default_rng(2).choice(["z", "y"], 2531)
    (x, y), layout, _, _ = read(write("d.csv", table(big, kind=kinds)), label_column="kind")
    assert close(x, big) and [layout.labels[k] for k in y] == kinds.tolist()


@pytest.mark.parametrize("column", ["kind", "0", 0, "-4", -4])
def test_a_label_column_by_name_or_position(write, column):
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.insert(0, "kind", KINDS)
    (x, y), layout, _, _ = read(write("d.csv", frame.to_csv(index=False)), label_column=column)
    assert close(x, X) and y.tolist() == [0, 2, 0, 1, 2, 0, 1]
    assert layout == Layout(("a", "b", "c"), ("red", "rose", "white"), "kind")


def test_a_column_whose_name_is_a_number_goes_before_the_position(write):
    assert read(write("d.csv", "a,0,c\n1,5,2\n3,6,4\n"), label_column="0").layout == Layout(("a", "c"), ("5", "6"), "0")


def test_number_labels_are_sorted_as_numbers_and_written_alike(write):
    (_, y), layout, _, _ = read(write("d.csv", "x,q\n1,10\n2,9.0\n4,9\n5,010\n6,-1\n"), label_column="q")
    assert layout.labels == ("-1", "9", "10") and y.tolist() == [2, 1, 1, 2, 0]


def test_labels_that_read_like_missing_values_are_names(write):
    assert read(write("d.csv", "x,q\n1,NA\n2,None\n4,yes\n"), label_column="q").layout.labels == ("NA", "None", "yes")


@pytest.mark.parametrize(
    ("text", "column", "columns"),
    [
        ("1,2,red\n3,5,white\n", -1, None),  # words in the same places: no header
        ("1,2,red\n3,5,white\n", None, "text"),
        ("0,1,kind\n3,5,white\n4,6,red\n", -1, ("0", "1")),  # pandas counts columns so
        ("7,8,kind\n3,5,white\n4,6,red\n", "kind", ("7", "8")),
        ("a,b,kind\n,5,white\n", -1, "empty"),
        ("a,b\n3,5\n4,6\n", None, ("a", "b")),
    ],
)
def test_what_is_a_header(write, text, column, columns):
    path = write("d.csv", text)
    if isinstance(columns, str):
        with pytest.raises(BadData, match=columns):
            read(path, label_column=column)
    else:
        assert read(path, label_column=column).layout.columns == columns


def test_constant_columns_are_named(write):
    x = X.copy()
    x[:, 1] = 2
    assert "column 'b' never changes" in read(write("d.csv", table(x)), "target").warnings[0]
    x[:, 0] = 1
    got = read(write("d.csv", table(x, names=None)), "target")
    assert "columns 0, 1 never change;" in got.warnings[0] and got.warnings[0].startswith("target data ")


# Parquet


def test_parquet(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    from diffgraft.readers import parquet

    frame = pd.DataFrame(X.astype(float), columns=["a", "b", "c"]).assign(n=np.arange(7), flag=X[:, 0] > 0, kind=pd.Categorical(KINDS))
    frame.iloc[[5, 2, 3]].to_parquet(tmp_path / "d.parquet")  # pandas keeps this index as a column
    assert read(tmp_path / "d.parquet", label_column="kind").layout.columns == ("a", "b", "c", "n", "flag")
    monkeypatch.setattr(parquet, "CELLS", 6000)
    long = pd.concat([frame] * 500)
    long.to_parquet(tmp_path / "d.parquet", index=False)
    (x, y), layout, _, _ = read(tmp_path / "d.parquet", label_column="kind")
    assert torch.equal(x, torch.tensor(long.drop(columns="kind").to_numpy(np.float32))) and layout.labels == ("red", "rose", "white")
    assert y[-7:].tolist() == [0, 2, 0, 1, 2, 0, 1] and len(y) == 3500
    long.iloc[2345, 1] = np.inf
    long.to_parquet(tmp_path / "bad.parquet", index=False)
    with pytest.raises(BadData, match="row 2345, column 'b' is inf"):
        read(tmp_path / "bad.parquet", label_column="kind")
    long.iloc[2345, 1] = 0.0
    long.assign(kind=np.tile(np.arange(7.0), 500)).to_parquet(tmp_path / "f.parquet", index=False)
    assert read(tmp_path / "f.parquet", label_column=-1).layout.labels == tuple("0123456")


def test_parquet_without_its_package_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "d.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"diffgraft\[parquet\]"):
        read(tmp_path / "d.parquet")


# More of the same kind


def test_more_of_the_same_kind_is_read_alike(write):
    source = read(write("s.csv", table(kind=KINDS)), label_column="kind").layout
    mixed = pd.DataFrame(X, columns=["a", "b", "c"]).assign(kind=["white", "blue", "red", "azure", "white", "white", "red"])[["b", "kind", "c", "a"]]
    (x, y), layout, warnings, _ = read(write("t.csv", mixed.to_csv(index=False)), like=source)
    assert close(x, X) and "another order" in warnings[0]
    assert layout == Layout(("a", "b", "c"), ("red", "rose", "white", "azure", "blue"), "kind")
    assert y.tolist() == [2, 4, 0, 3, 2, 2, 0]
    swapped = Layout(source.columns, ("white", "red"), "kind")
    assert read(write("t.csv", mixed.to_csv(index=False)), like=swapped).layout.labels == ("white", "red", "azure", "blue")
    unlabelled, layout, warnings, _ = read(write("u.csv", table()), like=source)
    assert unlabelled.y is None and layout.columns == ("a", "b", "c") and warnings == ()


def test_a_file_without_a_header_is_matched_by_count(write):
    source = Layout(("a", "b", "c"), ("red", "rose", "white"), "kind")
    assert read(write("t.csv", table(names=None)), like=source).layout.columns == ("a", "b", "c")
    labelled = pd.DataFrame(X).assign(kind=KINDS).to_csv(index=False, header=False)
    got = read(write("t.csv", labelled), like=source)
    assert got.points.y.tolist() == [0, 2, 0, 1, 2, 0, 1] and "last column is taken as the label 'kind'" in got.warnings[0]
    with pytest.raises(BadData, match="expected 3 features, 'a', 'b', 'c', got 2 columns"):
        read(write("t.csv", table(X[:, :2], names=None)), like=source)


def test_a_position_holds_where_there_are_as_many_columns(write):
    source = read(write("s.csv", "1,2,5\n3,4,6\n"), label_column=-1).layout
    assert source == Layout(None, ("5", "6"), 2)
    assert read(write("t.csv", "1,2,6\n3,4,7\n"), like=source).points.y.tolist() == [1, 2]
    assert read(write("t.csv", "1,2\n3,4\n"), like=source).points.y is None


def test_whole_numbers_are_indices_where_the_source_has_indices(write, tmp_path):
    path = write("t.csv", "x,q\n1,7\n2,9\n")
    assert read(path, label_column="q", like=Layout()).points.y.tolist() == [7, 9]
    assert read(path, label_column="q", like=Layout()).layout.labels is None
    assert read(path, label_column="q").points.y.tolist() == [0, 1]
    images(tmp_path / "i", {"7/a.png": "L", "9/a.png": "L"})
    assert read(tmp_path / "i", like=Layout()).points.y.tolist() == [7, 9]


def test_names_and_indices():
    assert in_order(["10", "9", "-1", "9"]) == ["-1", "9", "10"] and in_order(["10", "9", "b"]) == ["10", "9", "b"]
    named = Layout(labels=("3", "10"))
    assert label_indices(["10", "3"], named, 2) == [1, 0] and label_indices(["3"], Layout(), 4) == [3]
    with pytest.raises(BadData, match="known are: 3, 10"):
        label_indices(["1"], named, 2)
    with pytest.raises(BadData, match="known are: 0 to 3"):
        label_indices(["red"], Layout(), 4)


def test_several_statements_at_once():
    named = Layout(labels=("AFIB", "PVC", "A+B"))
    assert label_values(["AFIB+PVC", "PVC", "A+B"], named, 3, True).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert label_values(["0+2"], Layout(), 3, True).tolist() == [[1, 0, 1]]
    assert label_values(["PVC"], named, 3, False).tolist() == [1]
    with pytest.raises(BadData, match=r"--label VT: .* known are: AFIB, PVC, A\+B"):
        label_values(["AFIB+VT"], named, 3, True)
    with pytest.raises(BadData, match=r"--label PVC\+AFIB: a sample of this model has one label; PVC AFIB makes samples of each in turn"):
        label_values(["PVC+AFIB"], named, 3, False)


def test_labels_are_found_in_any_case_and_by_their_place():
    named = Layout(labels=("AFIB", "PVC", "pvc", "NORM"))
    assert label_indices(["afib", " norm ", "pvc", "0", "3"], named, 4) == [0, 3, 2, 0, 3]
    assert label_values(["norm + afib"], named, 4, True).tolist() == [[1, 0, 0, 1]]
    with pytest.raises(BadData, match=r"--label AFIBS: .* did you mean 'AFIB'"):
        label_indices(["AFIBS"], named, 4)
    with pytest.raises(BadData, match=r"--label Pvc: .* did you mean"):
        label_indices(["Pvc"], named, 4)
    with pytest.raises(BadData, match=r"--label 4: .* known are: AFIB, PVC, pvc, NORM"):
        label_indices(["4"], named, 4)
    with pytest.raises(BadData, match="known are: 0 to 3"):
        label_indices(["red"], Layout(), 4)


def test_what_a_layout_lacks_is_filled_by_another():
    one, two = Layout(columns=("a",), labels=("x",)), Layout(columns=("b",), labels=("x", "y"), label_column="k", size=8)
    assert one.filled(two) == Layout(("a",), ("x", "y"), "k", 8)
    assert two.filled(one) == two and Layout().filled(Layout()) == Layout()


# IDX


def idx(x, kind=8):
    return bytes([0, 0, kind, x.ndim]) + struct.pack(f">{x.ndim}I", *x.shape) + x.tobytes()


@pytest.mark.parametrize("packed", [True, False])
def test_idx_with_its_labels_beside_it(write, packed):
    x, y = np.arange(7 * 5 * 4, dtype=np.uint8).reshape(7, 5, 4), np.arange(7, dtype=np.uint8)[::-1]
    write("t-labels-idx1-ubyte" + ("" if packed else ".gz"), idx(y) if packed else gzip.compress(idx(y)))
    path = write("t-images-idx3-ubyte" + (".gz" if packed else ""), gzip.compress(idx(x)) if packed else idx(x))
    (out, labels), layout, _, _ = read(path)
    assert torch.allclose(out, torch.tensor(x[:, None] / 127.5 - 1, dtype=torch.float32), atol=1e-6)
    assert labels.tolist() == [6, 5, 4, 3, 2, 1, 0] and layout == Layout()


def test_idx_of_any_name_and_of_other_numbers(write):
    out, layout, _, _ = read(write("numbers.bin", idx(X.astype(">f4"), 13)))
    assert torch.equal(out.x, torch.tensor(X)) and out.y is None and layout == Layout()
    out = read(write("numbers.bin", idx(np.zeros((7, 6, 5), np.uint8))), size=3)
    assert out.points.x.shape == (7, 1, 3, 3) and out.layout.size == 3


def test_images_are_cut_to_a_square_and_made_smaller_without_aliasing(tmp_path):
    x = np.zeros((2, 16, 24), np.uint8)
    x[:, :, :4] = x[:, :, 20:] = 255  # outside the square
    x[:, ::4] = np.maximum(x[:, ::4], 200)  # stripes that blend into a quarter of their grey
    np.save(tmp_path / "d.npy", x)
    out, layout, _, _ = read(tmp_path / "d.npy", size=4)
    assert out.x.shape == (2, 1, 4, 4) and layout.size == 4
    assert torch.allclose(out.x[:, :, 1:3], torch.tensor(50 / 127.5 - 1), atol=0.12)
    assert read(tmp_path / "d.npy", like=layout).points.x.shape == (2, 1, 4, 4)
    np.savez(tmp_path / "t.npz", X=X)
    assert read(tmp_path / "t.npz", like=Layout(size=4)).points.x.shape == (7, 3)  # no images: no size


# Folders of images


def picture(mode, size=(6, 5), seed=0):
    a = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    if mode == "I;16":
        return Image.fromarray(a[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(a[..., : {"L": 1, "RGB": 3, "RGBA": 4, "P": 3}[mode]].squeeze()).convert(mode)


def images(folder, files):
    for k, (name, mode) in enumerate(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(mode, seed=k).save(path) if isinstance(mode, str) else mode.save(path)
    return folder


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif", "webp", "jpg", "PNG"])
def test_a_folder_of_images(tmp_path, suffix):
    images(tmp_path, {f"a.{suffix}": "L", f"b.{suffix}": "L", f"c.{suffix}": "L"})
    (x, y), layout, warnings, _ = read(tmp_path)
    assert y is None and layout == Layout(channels=x.shape[1]) and x.shape[2:] == (5, 6)
    expected = torch.tensor(np.array(picture("L", seed=1), np.float32) / 127.5 - 1)
    if suffix not in ("webp", "jpg"):  # these lose some, or keep no grey
        assert x.shape[1] in (1, 3) and torch.allclose(x[1], expected.expand_as(x[1]), atol=1e-6) and warnings == ()


def test_grey_images_become_colours_where_those_known_are(tmp_path):
    images(tmp_path, {"a.png": "L", "b.png": "L"})
    (x, _), layout, warnings, _ = read(tmp_path, like=Layout(channels=3))
    assert x.shape == (2, 3, 5, 6) and layout.channels == 3 and torch.equal(x[:, 0], x[:, 2])
    assert warnings == (f"the data {tmp_path}: 2 of 2 images are grey, made RGB as the source is",)


def test_a_data_set_of_several_splits_names_them(tmp_path):
    for split in ("test", "train"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "data-00000-of-00001.arrow").write_bytes(b"-")
    with pytest.raises(BadData, match=r"holds the splits 'test', 'train' of a data set; give the folder of one, such as .*train"):
        read(tmp_path)


def test_subfolders_are_labels(tmp_path):
    images(tmp_path, {"10/a.png": "RGB", "9/b.png": "RGB", "9/a.png": "RGB", "9/.hidden.png": "RGB"})
    (tmp_path / "9" / "notes.txt").write_text("-")
    (tmp_path / "empty").mkdir()
    (x, y), layout, warnings, _ = read(tmp_path, "source")
    assert x.shape == (3, 3, 5, 6) and y.tolist() == [1, 0, 0] and layout == Layout(labels=("9", "10"), channels=3)
    assert len(warnings) == 1 and "3 entries are no images and skipped" in warnings[0]
    got = read(tmp_path, like=Layout(labels=("10", "11")))
    assert got.points.y.tolist() == [0, 2, 2] and got.layout.labels == ("10", "11", "9")


def test_colours(tmp_path):
    images(tmp_path / "grey", {"a.png": "L", "b.png": "I;16"})
    x = read(tmp_path / "grey").points.x
    assert x.shape == (2, 1, 5, 6)
    deep = np.random.default_rng(1).integers(0, 256, (5, 6, 4), np.uint8)[..., 0]
    assert torch.allclose(x[1, 0], torch.tensor(deep / 127.5 - 1, dtype=torch.float32), atol=1e-6)

    clear = picture("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    images(tmp_path / "mixed", {"a.png": "L", "b.png": "RGB", "c.png": clear, "d.png": "P"})
    x, _, warnings, _ = read(tmp_path / "mixed")
    assert x.x.shape == (4, 3, 5, 6) and bool((x.x[2] == 1).all()) and torch.equal(x.x[0, 0], x.x[0, 2])
    assert any("1 of 4 images is transparent" in w for w in warnings) and any("1 of 4 images is grey" in w for w in warnings)
    assert torch.allclose(x.x[1], torch.tensor(np.array(picture("RGB", seed=1), np.float32).transpose(2, 0, 1) / 127.5 - 1), atol=1e-6)


def test_images_are_turned_as_their_camera_says(tmp_path):
    for name, tag in (("a.png", 6), ("b.png", 1)):
        exif = Image.Exif()
        exif[0x0112] = tag
        image = picture("L", (6, 5) if tag == 6 else (5, 6))
        image.save(tmp_path / name, exif=exif)
    x = read(tmp_path).points.x
    assert x.shape == (2, 1, 6, 5)
    turned = np.rot90(np.array(picture("L", (6, 5)), np.float32), -1).copy()
    assert torch.allclose(x[0, 0], torch.tensor(turned / 127.5 - 1), atol=1e-6)


def test_size_brings_images_of_unlike_sizes_together(tmp_path):
    wide = Image.new("L", (20, 8), 255)
    wide.paste(0, (6, 0, 14, 8))  # the square in the middle is black
    images(tmp_path, {"a.png": wide, "b.png": "RGB"})
    x, layout, _, _ = read(tmp_path, size=4)
    assert x.x.shape == (2, 3, 4, 4) and bool((x.x[0] == -1).all()) and layout.size == 4
    assert torch.equal(read(tmp_path, like=layout).points.x, x.x)


def encoded(mode="RGB", seed=0):
    file = io.BytesIO()
    picture(mode, seed=seed).save(file, "PNG")
    return file.getvalue()


def hub_table(names=("cat", "dog"), labels=(1, 0, 1), broken=None):
    """A table of pictures with the metadata that the library datasets writes."""
    import pyarrow as pa

    cells = [{"bytes": b"no picture" if k == broken else encoded(seed=k), "path": f"{k}.png"} for k in range(len(labels))]
    info = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}}}
    return pa.table({"image": cells, "label": pa.array(labels, pa.int64())}).replace_schema_metadata({"huggingface": json.dumps(info)})


def write_arrow(table, path):
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as out:
        out.write_table(table)


@pytest.mark.parametrize("form", ["file", "folder", "saved to disk"])
def test_pictures_in_tables_of_the_hub(tmp_path, form):
    parquet = pytest.importorskip("pyarrow.parquet")
    (tmp_path / "data").mkdir()
    path = {"file": tmp_path / "data" / "a.parquet", "folder": tmp_path, "saved to disk": tmp_path}[form]
    if form == "saved to disk":
        write_arrow(hub_table(), tmp_path / "data-00000-of-00001.arrow")
    else:
        parquet.write_table(hub_table(), tmp_path / "data" / "a.parquet")
    (x, y), layout, warnings, _ = read(path)
    assert x.shape == (3, 3, 5, 6) and y.tolist() == [1, 0, 1] and layout.labels == ("cat", "dog") and warnings == ()
    assert torch.allclose(x[2], torch.tensor(np.array(picture("RGB", seed=2), np.float32) / 127.5 - 1).permute(2, 0, 1), atol=1e-6)
    assert read(path, size=4).points.x.shape == (3, 3, 4, 4)


def test_the_training_split_of_several_is_read(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        parquet.write_table(hub_table(), tmp_path / f"{name}.parquet")
    (x, _), _, warnings, _ = read(tmp_path)
    assert len(x) == 6 and len(warnings) == 1 and "'train' is read" in warnings[0]


def test_broken_pictures_are_skipped_on_request_alone(tmp_path):
    files = {"a/1.png": picture("RGB", (60, 50)), "a/2.png": "RGB", "b/3.png": picture("RGB", (60, 50)), "b/4.jpg": picture("RGB", (60, 50))}
    images(tmp_path / "d", files)
    (tmp_path / "d" / "a" / "2.png").write_bytes(b"no picture")
    cut = (tmp_path / "d" / "b" / "4.jpg").read_bytes()
    (tmp_path / "d" / "b" / "4.jpg").write_bytes(cut[: 3 * len(cut) // 4])  # its header is whole, its pixels are not
    with pytest.raises(BadData, match=r"cannot be read: 'a/2.png'; remove them, copy them again, or pass --skip-broken"):
        read(tmp_path / "d")
    (x, y), layout, warnings, _ = read(tmp_path / "d", skip_broken=True)
    assert len(x) == 2 and y.tolist() == [0, 1] and layout.labels == ("a", "b")
    assert "2 of 4 images cannot be read and are skipped: 'a/2.png', 'b/4.jpg'" in warnings[0]
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(hub_table(broken=0), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet", skip_broken=True)
    assert found.points.y.tolist() == [0, 1] and "'row 0 (0.png)'" in found.warnings[0]


def test_only_the_first_frame_is_taken(tmp_path):
    first, second = Image.new("L", (4, 4), 0), Image.new("L", (4, 4), 255)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    second.save(tmp_path / "b.gif")
    x, _, warnings, _ = read(tmp_path)
    assert x.x[0].max() == -1 and x.x[1].min() == 1 and "only the first is taken" in warnings[0]


# Nothing leaks


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
def test_no_file_stays_open(write, tmp_path):
    pytest.importorskip("pyarrow")
    np.savez(tmp_path / "d.npz", X=X)
    pd.DataFrame(X, columns=["a", "b", "c"]).to_parquet(tmp_path / "d.parquet")
    images(tmp_path / "i", {"a.png": "L", "b.png": "L"})
    good = [write("d.csv", table()), tmp_path / "d.npz", tmp_path / "d.parquet", tmp_path / "i", write("t.bin", idx(np.zeros((3, 2, 2), np.uint8)))]
    bad = [write("n.csv", "a,b\n1,2\n3,\n"), write("n.npz", b"PKbroken"), write("n.parquet", b"PAR1"), write("n.bin", idx(X.astype(">f4"), 13)[:-1])]
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for path in (*good, *bad):
        try:
            read(path)
        except BadData:
            assert path in bad
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_reading_arrays_loads_neither_pandas_nor_pillow(tmp_path):
    np.save(tmp_path / "d.npy", X)
    code = "import sys\nfrom diffgraft.readers.catalog import read\nread(sys.argv[1])\nprint([m for m in ('pandas', 'PIL', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "d.npy")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Real data


def test_mnist(data_folder):
    (x, y), layout, warnings, _ = read(data_folder / "mnist" / "t10k-images-idx3-ubyte.gz")
    assert x.shape == (10000, 1, 28, 28) and y[:5].tolist() == [7, 2, 1, 0, 4] and (x.min(), x.max()) == (-1, 1)
    assert layout == Layout() and warnings == ()
    small = read(data_folder / "mnist" / "t10k-images-idx3-ubyte.gz", size=16)
    assert small.points.x.shape == (10000, 1, 16, 16) and abs(float(small.points.x.mean() - x.mean())) < 0.01


def test_wine(data_folder):
    white = read(data_folder / "wine" / "winequality-white.csv", label_column=-1)
    assert white.points.x.shape == (4898, 11) and white.layout == Layout(None, tuple("3456789"), 11)
    assert white.points.y[:2].tolist() == [3, 3] and white.warnings == ()
    red = read(data_folder / "wine" / "winequality-red.csv", like=white.layout)
    assert red.points.x.shape == (1599, 11) and red.layout.labels == white.layout.labels
    assert red.points.x[0, :3].tolist() == pytest.approx([7.4, 0.7, 0.0])


def test_usps(data_folder):
    (x, y), layout, _, _ = read(data_folder / "usps_4000.npz")
    assert x.shape == (4000, 1, 16, 16) and set(y.tolist()) == set(range(10)) and layout == Layout()


@pytest.mark.parametrize(("name", "n"), [("ptbxl", 500), ("brugada", 181), ("cpsc2018/physionet2020", 6), ("cpsc2018/original", 5)])
def test_folders_of_recordings_are_told_apart(data_folder, name, n):
    assert read(data_folder / name).points.x.shape == (n, 12, 1000)
