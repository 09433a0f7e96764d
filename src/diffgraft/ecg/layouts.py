"""How folders of recordings are told from others; light, so that folders of images load no reader of signals."""

from pathlib import Path

PTBXL = "ptbxl_database.csv"
CONVERSION = "icbeb_database.csv"
RATES = (100, 500)
"""In Hz: of what these two have records, ..."""
PARTS = tuple(f"records{rate}" for rate in RATES)
"""... and where."""


def has_table(folder: Path) -> bool:
    """Whether a folder holds the table of PTB-XL, or of the benchmark's conversion of CPSC2018."""
    return (folder / PTBXL).is_file() or (folder / CONVERSION).is_file()


def holds(folder: Path, suffix: str) -> bool:
    """Whether a folder or a subfolder holds a file of a kind."""
    return next(folder.rglob(f"*{suffix}"), None) is not None


def is_recordings(folder: Path) -> bool:
    """Whether a folder holds ECG recordings in a layout that is read."""
    return has_table(folder) or holds(folder, ".hea") or holds(folder, ".mat")
