"""Folders of images; subfolders are labels."""

from pathlib import Path

from torch import Tensor

from ..errors import BadData
from .ask import Ask, Found, listed
from .labels import encode_names
from .pictures import SUFFIXES, Picture, decode

ECG = "reading ECG folders comes later; convert it to .npz with numpy.savez(file, X=x), x of shape (n, leads, samples)"


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
    found = decode([Picture(str(file.relative_to(path)), file) for file in files], ask)
    y, labels = _labels([files[k] for k in found.kept], path, ask)
    return found.labelled(y, labels, skipped)


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


def _labels(files: list[Path], folder: Path, ask: Ask) -> tuple[Tensor | None, tuple[str, ...] | None]:
    if files[0].parent == folder:
        return None, None
    return encode_names([file.parent.name for file in files], ask.like)
