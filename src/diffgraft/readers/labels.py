"""Names of classes, and the indices that stand for them."""

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data import Layout
from ..errors import BadData, nearest

MOST_CLASSES = 1000
"""More distinct values than this are no classes."""
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "-NaN", "-nan", "null", "NULL", "None", "<NA>", "#N/A", "#NA")
"""How tables write that a value is missing."""


def number(text: str) -> float | None:
    """The number that a text writes; nan where it says that a value is missing, None where it is no number."""
    text = text.strip()
    if text in MISSING:
        return float("nan")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def class_names(texts: Sequence[str], column: str) -> list[str]:
    """The name of each distinct value of a label column: whole numbers are written alike ("5.0" is "5"), words stay.

    Raises:
        BadData: Too many values for classes, or numbers that are not whole.
    """
    if len(texts) > MOST_CLASSES:
        raise BadData(f"a label column with {len(texts):,} distinct values is no class ({column}); choose another --label-column, or group its values")
    numbers = [number(text) for text in texts]
    if None in numbers:
        return [text.strip() for text in texts]
    odd = [text for text, value in zip(texts, numbers, strict=True) if value is None or not value.is_integer()]
    if odd:
        raise BadData(f"a label column holds whole numbers or names, got {odd[0]} ({column}); choose another --label-column, or group its values")
    return [str(int(value)) for value in numbers if value is not None]


def in_order(names: Collection[str]) -> list[str]:
    """Distinct names, sorted; as numbers where all of them are whole numbers."""
    whole = all(_is_whole(name) for name in names)
    return sorted(set(names), key=lambda name: (int(name) if whole else 0, name))


def encode(codes: Sequence[int] | np.ndarray, names: Sequence[str], like: Layout | None) -> tuple[Tensor, tuple[str, ...] | None]:
    """Indices of the classes that `names[code]` name, and all names in the order of their indices.

    Names that `like` knows keep their indices, new ones follow. Where `like` comes from data whose labels are indices, whole
    numbers are indices too, and there are no names.
    """
    if like is not None and like.labels is None and like.label_column is None and _are_indices(names):
        order: dict[str, int] = {name: int(name) for name in names}
        known = None
    else:
        old = () if like is None or like.labels is None else like.labels
        known = (*old, *in_order([name for name in names if name not in old]))
        order = {name: k for k, name in enumerate(known)}
    lookup = np.array([order[name] for name in names], np.int64)
    return torch.from_numpy(lookup[np.asarray(codes, np.int64)]), known


def encode_names(names: Sequence[str], like: Layout | None) -> tuple[Tensor, tuple[str, ...] | None]:
    """Indices of the classes that each sample's name stands for, and all names in the order of their indices; see `encode`."""
    classes = in_order(names)
    place = {name: k for k, name in enumerate(classes)}
    return encode([place[name] for name in names], classes, like)


def label_indices(given: Sequence[str], layout: Layout, n_classes: int) -> list[int]:
    """Indices of labels that a person names: by name in any case where the layout has names, or as numbers where no name is one.

    Raises:
        BadData: No such label; the known ones are listed.
    """
    return [_index(name.strip(), layout.labels, n_classes) for name in given] if n_classes else [0] * len(given)


def label_values(given: Sequence[str], layout: Layout, n_classes: int, rows: bool) -> Tensor:
    """Labels that a person names: indices (M,), or with `rows` multi-hot rows (M, K), where `AFIB+PVC` is both.

    Raises:
        BadData: As for `label_indices`, or several at once where a sample has one.
    """
    names = layout.labels or ()
    if not rows:
        if names and (several := next((name for name in given if name not in names and set(name.split("+")) <= set(names)), None)):
            raise BadData(f"--label {several}: a sample of this model has one label; {' '.join(several.split('+'))} makes samples of each in turn")
        return torch.tensor(label_indices(given, layout, n_classes))
    y = torch.zeros(len(given), n_classes)
    for row, name in zip(y, given, strict=True):
        row[label_indices([name] if name in names else name.split("+"), layout, n_classes)] = 1.0
    return y


def _index(name: str, names: tuple[str, ...] | None, n_classes: int) -> int:
    """Index of the class that a person means by a name or number."""
    if names is None:
        if not _is_whole(name):
            raise BadData(f"--label {name}: the model has no such label; known are: 0 to {n_classes - 1}")
        return int(name)
    if name in names:
        return names.index(name)
    alike = [k for k, known in enumerate(names) if known.casefold() == name.casefold()]
    if len(alike) == 1:
        return alike[0]
    if name.isdecimal() and int(name) < n_classes and not any(_is_whole(known) for known in names):
        return int(name)
    hint = f"known are: {', '.join(names)}" if _is_whole(name) else nearest(name, names)
    raise BadData(f"--label {name}: the model has no such label; {hint}")


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _are_indices(names: Iterable[str]) -> bool:
    return all(name.isdecimal() and int(name) < MOST_CLASSES for name in names)
