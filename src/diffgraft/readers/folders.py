"""Folders of images, whose subfolders are labels, and of ECG recordings."""

from pathlib import Path

from torch import Tensor

from ..ecg.layouts import has_table, is_recordings
from ..errors import BadData, listed
from .ask import Ask, Found
from .image_tables import tables_in
from .labels import encode_names
from .pictures import SUFFIXES, Picture, decode


def read_folder(path: Path, ask: Ask) -> Found:
    """All images of a folder, as (n, C, H, W) in [-1, 1]: one channel where all are grey, else three; or its recordings, see `recordings`.

    Raises:
        BadData: No images and no recordings, files that cannot be read, unlike sizes without a size to bring them to.
    """
    files, skipped = ([], ()) if has_table(path) else _list(path)
    if not files and is_recordings(path):
        from .recordings import read_recordings

        return read_recordings(path, ask)
    if not files and (splits := [sub.name for sub in sorted(path.iterdir()) if sub.is_dir() and tables_in(sub)]):
        raise BadData(f"it holds the splits {listed(splits)} of a data set; give the folder of one, such as {path / splits[-1]}")
    if not files:
        kinds = sorted({file.suffix.lower() or file.name for file in path.rglob("*") if file.is_file()})
        came = f"but files of kind {listed(kinds, 3)}" if kinds else "nor any other file"
        remedy = "give images, subfolders are labels, or recordings; bring those of other formats (XML, DICOM, SCP) to WFDB by their own converters"
        raise BadData(f"it holds no images ({', '.join(SUFFIXES)}) and no ECG recordings (.hea with .dat or .mat), {came}; {remedy}")
    if ask.label_column is not None:
        raise BadData("--label-column is for tables, the labels of images are their subfolders; drop --label-column")
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
