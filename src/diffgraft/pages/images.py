"""Images, drawn: grids of real images and of every method's samples, with the same noise in the same place."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ..terms import listed
from . import rasters
from .clouds import Cloud, Shown
from .figures import Figure, Panel
from .plots import Array

ROWS, COLUMNS = 5, 8
"""Images shown: rows, and columns where there are no labels."""
MOST_LABELS = 12
"""Most labels that get a column of images each."""
BYTES = 1_000_000
"""Most pixel values in the grids of one figure together; larger images get fewer rows."""
LETTERS = 44
"""Letters that fit side by side over a grid."""


def image_figure(data: Shown) -> Figure:
    """Real images, then those of each method, by label where there are few."""
    labels = _classes(data)
    rows = fitting_rows(data.test.x, len(labels) or COLUMNS, len(data.everything))
    picture = Pixels(data.test.x)
    heads, told = short_names(labels, [data.classes(max(labels) + 1)[k] for k in labels]) if labels else ([], "")
    panels = []
    for title, style, cloud in data.everything:
        at = by_label(cloud, labels, rows) if labels else np.arange(rows * COLUMNS).reshape(rows, COLUMNS)
        at = np.where(at < len(cloud.x), at, -1)
        panels.append(Panel(picture.mosaic(cloud.x, at, heads, f"{int((at >= 0).sum())} images of {title}"), title, style))
    order = f"a column a label, the first {rows} of each; a blank means that there are no more" if labels else f"the first {rows * COLUMNS}"
    caption = (
        f"Real images, then samples of each method (seed {data.seed}): {order}. {told}{same_start(data, labels)}Grey levels are the held-out images' range."
    )
    return Figure(caption, panels, "samples images")


class Pixels:
    """Images as pixels, on the scale of the held-out ones.

    Args:
        reference: Held-out images (n, C, H, W).
    """

    def __init__(self, reference: Array) -> None:
        finite = reference[np.isfinite(reference)]
        self.low, self.high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)

    def __call__(self, x: Array) -> NDArray[np.uint8]:
        """Images (n, C, H, W) as (n, H, W, 3), or (n, H, W, 1) where they have no three colours."""
        kept = x if x.shape[1] == 3 else x[:, :1]
        grey = np.nan_to_num(np.clip((kept - self.low) / (self.high - self.low or 1), 0, 1) * 255).astype(np.uint8)
        return grey.transpose(0, 2, 3, 1)

    def mosaic(self, x: Array, at: NDArray[np.int_], heads: Sequence[str], alt: str) -> Markup:
        """A grid of images by their rows (R, C) in x; blank where the row is -1."""
        return rasters.mosaic(self(x[np.where(at >= 0, at, 0).ravel()]).reshape(*at.shape, *x.shape[2:], -1), at >= 0, heads, alt)


def fitting_rows(x: Array, columns: int, panels: int) -> int:
    """Rows of a grid, fewer where many grids of large images would make the page large."""
    values = (3 if x.shape[1] == 3 else 1) * x.shape[2] * x.shape[3] * columns * panels
    return max(2, min(ROWS, BYTES // values))


def short_names(labels: Sequence[int], names: Sequence[str]) -> tuple[list[str], str]:
    """Words for labels side by side: their names, or their numbers with a sentence of the names where these are too long."""
    numbers = [str(k) for k in labels]
    if list(names) == numbers or max(map(len, names)) <= LETTERS // len(names):
        return list(names), ""
    return numbers, f"Labels: {listed([f'{k} {name}' for k, name in zip(numbers, names, strict=True)])}. "


def same_start(data: Shown, labels: list[int]) -> str:
    """What may be compared across methods: images in the same place, which start from the same noise."""
    if len(data.methods) < 2:
        return ""
    first = data.methods[0][1]
    others = [e.name for e, c in data.methods if labels and not (c.y is not None and first.y is not None and np.array_equal(c.y, first.y))]
    start = "the same noise and label" if labels else "the same noise"
    apart = f", but for {listed(others)}, whose labels differ" if others else ""
    return f"In the same place every method started from {start}{apart}. "


def _classes(data: Shown) -> list[int]:
    """The classes, where each can have a column; none for unlabelled or multi-hot data."""
    found = [c.y for _, _, c in data.everything]
    if any(y is None or y.ndim != 1 for y in found):
        return []
    classes = sorted({int(k) for y in found if y is not None for k in np.unique(y) if k >= 0})
    return classes if len(classes) <= MOST_LABELS else []


def by_label(cloud: Cloud, labels: list[int], n: int = ROWS) -> NDArray[np.int_]:
    """Rows (n, labels) of the first images of each label; -1 where there are no more."""
    rows = np.full((n, len(labels)), -1)
    for k, label in enumerate(labels):
        found = np.flatnonzero(cloud.y == label)[:n]
        rows[: len(found), k] = found
    return rows
