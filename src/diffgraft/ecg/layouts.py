"""How folders of recordings are told from others; light, so that folders of images load no reader of signals."""

from pathlib import Path

PTBXL = "ptbxl_database.csv"
CONVERSION = "icbeb_database.csv"
RATES = (100, 500)
"""In Hz: of what these two have records, ..."""
PARTS = tuple(f"records{rate}" for rate in RATES)
"""... and where."""
SKIPPING = "--skip-broken, in a plan skip_broken = true"
"""How messages name the way to do without recordings that are missing or broken."""


def has_table(folder: Path) -> bool:
    """Whether a folder holds the table of PTB-XL, or of the benchmark's conversion of CPSC2018."""
    return (folder / PTBXL).is_file() or (folder / CONVERSION).is_file()


def home_of(folder: Path) -> Path | None:
    """The folder of the table to which records in this folder belong: one below it, or above where this is `records100` or lies in it; None without one."""
    below = next((path for path in folder.rglob("*.csv") if path.name in (PTBXL, CONVERSION)), None)
    if below is not None:
        return below.parent
    here = folder.resolve()
    return next((above.parent for above in (here, here.parent) if above.name in PARTS and has_table(above.parent)), None)


def holds(folder: Path, suffix: str) -> bool:
    """Whether a folder or a subfolder holds a file of a kind."""
    return next(folder.rglob(f"*{suffix}"), None) is not None


def is_recordings(folder: Path) -> bool:
    """Whether a folder holds ECG recordings in a layout that is read."""
    return has_table(folder) or holds(folder, ".hea") or holds(folder, ".mat")
