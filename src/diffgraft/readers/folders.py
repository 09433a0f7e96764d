"""Folders of images: PNG, JPEG, BMP, GIF, TIFF and WebP; subfolders are labels."""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps

from ..data import Layout
from ..errors import BadData
from .ask import Ask, Found, listed
from .labels import encode, in_order
from .spool import Spool

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error, Image.DecompressionBombError)
"""What Pillow raises on files that are not what they should be."""
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
ORIENTATION = 0x0112
"""The EXIF tag that says how an image is turned; from 5 on, width and height are swapped."""
T = TypeVar("T")


class Facts(NamedTuple):
    """What an image's header says."""

    size: tuple[int, int]
    grey: bool
    transparent: bool
    animated: bool


def read_folder(path: Path, ask: Ask) -> Found:
    """All images of a folder, as (n, C, H, W) in [-1, 1]: one channel where all are grey, else three.

    Raises:
        BadData: No images, an ECG folder, files that cannot be read, unlike sizes without a size to bring them to.
    """
    if ask.label_column is not None:
        raise BadData("--label-column is for tables, the labels of images are their subfolders; drop --label-column")
    if (path / "ptbxl_database.csv").exists():
        raise BadData(ECG)
    files, skipped = _list(path)
    if not files:
        raise BadData(ECG if next(path.rglob("*.hea"), None) else f"it holds no images ({', '.join(SUFFIXES)}); give a folder of images, subfolders are labels")
    facts = list(_each(files, path, _survey))
    size, channels = ask.size or ask.known.size, 1 if all(f.grey for f in facts) else 3
    width, height = (size, size) if size else _one_size(files, facts, path)
    with Spool((channels, height, width)) as spool:
        for image in _each(files, path, lambda file: _pixels(file, channels, size)):
            spool.add(image[None])
        x = spool.tensor()
    y, labels = _labels(files, path, ask)
    return Found(x, y, Layout(labels=labels, size=size), (*skipped, *_warnings(facts, channels)))


ECG = "reading ECG folders comes later; convert it to .npz with numpy.savez(file, X=x), x of shape (n, leads, samples)"


def _list(folder: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Images of a folder, or of its subfolders where these hold some, and a warning of all else that lies there."""
    entries = sorted(folder.iterdir())
    below = [file for sub in entries if sub.is_dir() and not sub.name.startswith(".") for file in sorted(sub.iterdir())]
    deep, flat = [file for file in below if _is_image(file)], [file for file in entries if _is_image(file)]
    if deep and flat:
        raise BadData(f"it holds images beside its subfolders, {listed(f.name for f in flat[:3])}; move them into a subfolder, or the subfolders away")
    others = [entry for entry in (*entries, *below) if not _is_image(entry) and not (entry.is_dir() and entry in {f.parent for f in deep})]
    told = f"{len(others):,} {'entry is' if len(others) == 1 else 'entries are'} no images and skipped, such as {listed(e.name for e in others[:2])}"
    return deep or flat, (told,) if others else ()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _each(files: list[Path], folder: Path, do: Callable[[Path], T]) -> Iterator[T]:
    """What `do` gives for each file; all are tried before those that cannot be read are named."""
    broken = []
    for file in files:
        try:
            value = do(file)
        except BadData:
            raise
        except BROKEN:
            broken.append(str(file.relative_to(folder)))
            continue
        yield value
    if broken:
        raise BadData(f"{len(broken):,} of {len(files):,} images cannot be read: {listed(broken, 3)}; remove them, or copy them again")


def _survey(file: Path) -> Facts:
    with Image.open(file, formats=FORMATS) as image:
        if image.mode == "F":
            raise BadData(f"{file.name} holds floating-point pixels, expected 8 or 16 bits; convert it, or give the images as .npz")
        turned = image.getexif().get(ORIENTATION, 1) >= 5
        size = image.size[::-1] if turned else image.size
        return Facts((size[0], size[1]), image.mode in GREY, image.has_transparency_data, getattr(image, "n_frames", 1) > 1)


def _one_size(files: list[Path], facts: list[Facts], folder: Path) -> tuple[int, int]:
    first = facts[0].size
    for file, fact in zip(files, facts, strict=True):
        if fact.size != first:
            (a, b), (c, d) = first, fact.size
            names = f"{files[0].relative_to(folder)} has {a} x {b} pixels, {file.relative_to(folder)} {c} x {d}"
            raise BadData(f"expected images of one size, got {names}; bring all to one by --size, such as --size {min(32, a, b, c, d)}")
    return first


def _pixels(file: Path, channels: int, size: int | None) -> np.ndarray:
    """One image as (C, H, W) in [-1, 1]."""
    with Image.open(file, formats=FORMATS) as opened:
        image = _plain(ImageOps.exif_transpose(opened), file)
    if size:
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    out = np.asarray(image, np.float32) / 127.5 - 1
    return out.transpose(2, 0, 1) if out.ndim == 3 else np.repeat(out[None], channels, 0)


def _plain(image: Image.Image, file: Path) -> Image.Image:
    """Grey (L, or F for 16 bits) or RGB, with values from 0 to 255; what is transparent lies on white."""
    grey = image.mode in GREY
    if image.mode.startswith("I"):
        deep = np.asarray(image, np.float32)
        if deep.min() < 0 or deep.max() > 65535:
            raise BadData(f"{file.name} holds values from {deep.min():.0f} to {deep.max():.0f}, expected 8 or 16 bits; convert it, or give the images as .npz")
        return Image.fromarray(deep * (255 / 65535))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB")


def _labels(files: list[Path], folder: Path, ask: Ask) -> tuple[torch.Tensor | None, tuple[str, ...] | None]:
    names = [file.parent.name for file in files]
    if files[0].parent == folder:
        return None, None
    classes = in_order(names)
    place = {name: k for k, name in enumerate(classes)}
    return encode([place[name] for name in names], classes, ask.like)


def _warnings(facts: list[Facts], channels: int) -> tuple[str, ...]:
    told = (
        (sum(f.transparent for f in facts), "transparent, laid on white"),
        (sum(f.grey for f in facts) if channels == 3 else 0, "grey, made RGB since others are in colour"),
        (sum(f.animated for f in facts), "of several frames, only the first is taken"),
    )
    return tuple(f"{n:,} of {len(facts):,} images {'is' if n == 1 else 'are'} {what}" for n, what in told if n)
