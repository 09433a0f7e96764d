"""Where real data lie: a folder that is named, or `$DIFFGRAFT_DATA`. Nothing is downloaded."""

import os
from pathlib import Path

from ..errors import BadData


def place(given: str | None, name: str, needs: tuple[str, ...], origin: str, what: str | None = None) -> Path:
    """The folder of a data set.

    Args:
        given: A folder named by the user; else `name` inside `$DIFFGRAFT_DATA`.
        name: What the folder is called there; "" where that is the folder itself.
        needs: Files that must be in it.
        origin: Where the data come from.
        what: How messages call the data; `name` by default.

    Raises:
        BadData: No such folder, or a file is missing.
    """
    home = os.environ.get("DIFFGRAFT_DATA")
    folder = Path(given) if given else Path(home) / name if home else None
    inside = f"as {name}/ inside" if name else "by"
    remedy = f"get {' and '.join(needs)} ({origin}) and name their folder by folder=PATH, or {inside} $DIFFGRAFT_DATA"
    if folder is None:
        raise BadData(f"{what or name} data: no folder was named; {remedy}")
    missing = [file for file in needs if not (folder / file).exists()]
    if missing:
        raise BadData(f"{what or name} data: {folder} has no {' and no '.join(missing)}; {remedy}")
    return folder
