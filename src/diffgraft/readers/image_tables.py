"""Tables that hold encoded pictures, as the Hugging Face hub keeps them: parquet or arrow files, one or a folder of them.

Reading needs pyarrow, which is an extra, and nothing else: a picture is a cell `{bytes, path}`, and the names of classes stand
in the table's metadata.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import BadData, listed
from .ask import Ask, Found
from .labels import encode_names
from .parquet import damaged, library
from .pictures import Picture, decode

SUFFIXES = (".parquet", ".arrow")
LABELS = ("label", "labels", "fine_label", "class")
"""Columns that are taken as the label unless one is named."""
SPLITS = ("train", "test", "validation", "valid", "val", "dev")


def tables_in(folder: Path) -> list[Path]:
    """Tables of a data set's folder, or of its `data`."""
    places = [folder, folder / "data"]
    return next((found for place in places if place.is_dir() and (found := sorted(f for f in place.iterdir() if f.suffix in SUFFIXES))), [])


def holds_pictures(path: Path) -> bool:
    """Whether a table has a column of pictures."""
    if path.suffix not in SUFFIXES:
        return False
    with _opened(path) as (schema, _):
        return _column(schema) is not None


def read_image_tables(files: list[Path], ask: Ask) -> Found:
    """The pictures of one split, as (n, C, H, W) in [-1, 1], with their labels by name.

    Args:
        files: The tables; of several splits in one folder the training split is taken.
        ask: How to read them.

    Raises:
        BadData: A damaged table, one without pictures, an empty cell; see `pictures.decode` too.
        MissingExtra: pyarrow is not installed.
    """
    files, told = _one_split(files)
    pictures: list[Picture] = []
    names: list[str] = []
    for file in files:
        with _opened(file) as (schema, batches):
            image, label = _columns(schema, ask, file)
            for batch in batches:
                pictures += _pictures(batch.column(image).to_pylist(), len(pictures))
                names += [] if label is None else _names(batch.column(label).to_pylist(), label, schema)
    found = decode(pictures, ask)
    y, labels = encode_names([names[k] for k in found.kept], ask.like) if names else (None, None)
    return found.labelled(y, labels, told)


def _one_split(files: list[Path]) -> tuple[list[Path], tuple[str, ...]]:
    splits = {file: next((name for name in SPLITS if file.name.startswith(name)), "") for file in files}
    known = sorted(set(splits.values()))
    if len(known) == 1:
        return files, ()
    chosen = "train" if "train" in known else known[0]
    others = listed([name for name in known if name != chosen])
    return [f for f in files if splits[f] == chosen], (f"it holds the splits {listed(known)}; '{chosen}' is read, name the files of {others} to read those",)


def _columns(schema: Any, ask: Ask, file: Path) -> tuple[str, str | None]:
    """Names of the columns of pictures and of labels."""
    image = _column(schema)
    names = [field.name for field in schema if field.name != image]
    if image is None:
        raise BadData(f"{file.name} holds no pictures, a column of cells {{bytes, path}}, only {listed(names)}; give a table that does, or a folder of images")
    wanted = ask.label_column
    if isinstance(wanted, str) and wanted not in names:
        raise BadData(f"--label-column {wanted}: no such column; there are {listed(names)}")
    return image, wanted if isinstance(wanted, str) else next((name for name in LABELS if name in names), None)


def _column(schema: Any) -> str | None:
    """The first column of pictures."""
    from pyarrow import types

    found = (f.name for f in schema if types.is_struct(f.type) and f.type.get_field_index("bytes") >= 0)
    return next(found, None)


def _pictures(cells: list[Any], first: int) -> Iterator[Picture]:
    for row, cell in enumerate(cells, first):
        name = f"row {row}" if not cell or not cell.get("path") else f"row {row} ({cell['path']})"
        yield Picture(name, (cell or {}).get("bytes") or b"")


def _names(values: list[Any], column: str, schema: Any) -> list[str]:
    """The label of each row by its name, where the table says what its indices mean."""
    known = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {}).get(column, {}).get("names")
    return [str(known[value]) if known and isinstance(value, int) and 0 <= value < len(known) else str(value) for value in values]


@contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, Iterable[Any]]]:
    """A table's schema and its rows in batches, for a block; what is wrong with it is said."""
    pyarrow = library()
    try:
        if file.suffix == ".parquet":
            from pyarrow.parquet import ParquetFile

            with ParquetFile(file) as table:
                yield table.schema_arrow, table.iter_batches(1000)
        else:
            with pyarrow.OSFile(str(file)) as stream:
                reader = pyarrow.ipc.open_stream(stream)
                yield reader.schema, reader
    except pyarrow.ArrowException as error:
        raise BadData(f"{file.name}: {damaged(error)}") from None
