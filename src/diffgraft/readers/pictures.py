"""Encoded pictures, in files or in cells of a table, as numbers: PNG, JPEG, BMP, GIF, TIFF and WebP."""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from ..data import Layout
from ..errors import BadData, listed
from .ask import Ask, Found
from .spool import Spool

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on files that are not what they should be."""
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112
"""The EXIF tag that says how an image is turned; from 5 on, width and height are swapped."""
T = TypeVar("T")


class Picture(NamedTuple):
    """One picture: what messages call it, and its file or its bytes."""

    name: str
    source: Path | bytes

    def open(self) -> Image.Image:
        """Pillow's image of it."""
        return Image.open(BytesIO(self.source) if isinstance(self.source, bytes) else self.source, formats=FORMATS)


class Decoded(NamedTuple):
    """Pictures as numbers (n, C, H, W) in [-1, 1], which of those given they are, and what a person should know."""

    x: Tensor
    kept: list[int]
    size: int | None
    warnings: tuple[str, ...]

    def labelled(self, y: Any, labels: tuple[str, ...] | None, warnings: tuple[str, ...]) -> Found:
        """With labels and their names, and warnings of what they were found in."""
        return Found(self.x, y, Layout(labels=labels, size=self.size, channels=self.x.shape[1]), (*warnings, *self.warnings))


class Facts(NamedTuple):
    """What a picture's header says."""

    size: tuple[int, int]
    grey: bool
    transparent: bool
    animated: bool


def decode(pictures: Sequence[Picture], ask: Ask) -> Decoded:
    """All pictures at one size: one channel where all are grey and none with three are known, else three.

    Raises:
        BadData: Pictures that cannot be read and are not to be skipped, or unlike sizes without a size to bring them to.
    """
    broken: list[str] = []
    facts = dict(_each(pictures, range(len(pictures)), _survey, broken))
    _check(broken, len(pictures), ask)
    size, channels = ask.size or ask.known.size, 1 if all(f.grey for f in facts.values()) and ask.known.channels != 3 else 3
    width, height = (size, size) if size else _one_size(pictures, facts)
    kept = []
    with Spool((channels, height, width)) as spool:
        for k, image in _each(pictures, list(facts), lambda picture: _pixels(picture, channels, size), broken):
            spool.add(image[None])
            kept.append(k)
        _check(broken, len(pictures), ask)
        x = spool.tensor()
    skipped = (f"{len(broken):,} of {len(pictures):,} images cannot be read and are skipped: {listed(broken, 3)}",) if broken else ()
    return Decoded(x, kept, size, (*skipped, *_warnings([facts[k] for k in kept], channels)))


def _each(pictures: Sequence[Picture], rows: Sequence[int], do: Callable[[Picture], T], broken: list[str]) -> Iterator[tuple[int, T]]:
    """What `do` gives for each picture that it can read; the names of the others are added to `broken`."""
    for k in rows:
        try:
            value = do(pictures[k])
        except BadData:
            raise
        except BROKEN:
            broken.append(pictures[k].name)
            continue
        yield k, value


def _check(broken: list[str], n: int, ask: Ask) -> None:
    if broken and (not ask.skip_broken or len(broken) == n):
        remedy = "copy them again" if ask.skip_broken else "remove them, copy them again, or pass --skip-broken"
        raise BadData(f"{len(broken):,} of {n:,} images cannot be read: {listed(broken, 3)}; {remedy}")


def _survey(picture: Picture) -> Facts:
    with picture.open() as image:
        if image.mode == "F":
            raise BadData(f"{picture.name} holds floating-point pixels, expected 8 or 16 bits; convert it, or give the images as .npz")
        turned = image.getexif().get(ORIENTATION, 1) >= 5
        size = image.size[::-1] if turned else image.size
        return Facts((size[0], size[1]), image.mode in GREY, image.has_transparency_data, getattr(image, "n_frames", 1) > 1)


def _one_size(pictures: Sequence[Picture], facts: dict[int, Facts]) -> tuple[int, int]:
    first, *others = facts
    for k in others:
        if facts[k].size != facts[first].size:
            (a, b), (c, d) = facts[first].size, facts[k].size
            names = f"{pictures[first].name} has {a} x {b} pixels, {pictures[k].name} {c} x {d}"
            raise BadData(f"expected images of one size, got {names}; bring all to one by --size, such as --size {min(32, a, b, c, d)}")
    return facts[first].size


def _pixels(picture: Picture, channels: int, size: int | None) -> np.ndarray:
    """One picture as (C, H, W) in [-1, 1]."""
    with picture.open() as opened:
        image = _plain(ImageOps.exif_transpose(opened), picture.name)
    if size:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    out = np.asarray(image, np.float32) / 127.5 - 1
    return out.transpose(2, 0, 1) if out.ndim == 3 else np.repeat(out[None], channels, 0)


def _plain(image: Image.Image, name: str) -> Image.Image:
    """Grey (L, or F for 16 bits) or RGB, with values from 0 to 255; what is transparent lies on white."""
    grey = image.mode in GREY
    if image.mode.startswith("I"):
        deep = np.asarray(image, np.float32)
        if deep.min() < 0 or deep.max() > 65535:
            raise BadData(f"{name} holds values from {deep.min():.0f} to {deep.max():.0f}, expected 8 or 16 bits; convert it, or give the images as .npz")
        return Image.fromarray(deep * (255 / 65535))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _warnings(facts: list[Facts], channels: int) -> tuple[str, ...]:
    why = "as the source is" if all(f.grey for f in facts) else "since others are in colour"
    told = (
        (sum(f.transparent for f in facts), "transparent, laid on white"),
        (
            sum(f.grey for f in facts) if channels == 3 else 0,
            f"grey, made RGB {why}",
        ),
        (sum(f.animated for f in facts), "of several frames, only the first is taken"),
    )
    return tuple(f"{n:,} of {len(facts):,} images {'is' if n == 1 else 'are'} {what}" for n, what in told if n)
