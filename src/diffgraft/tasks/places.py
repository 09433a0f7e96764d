"""Where real data lie: a folder that is named, or `$DIFFGRAFT_DATA`. Nothing is downloaded."""

import os
from pathlib import Path

from ..errors import BadData


def place(given: str | None, name: str, needs: tuple[str, ...], origin: str) -> Path:
    """The folder of a data set.

    Args:
        given: A folder named by the user; else `name` inside `$DIFFGRAFT_DATA`.
        name: What the folder is called there, and messages call the data.
        needs: Files that must be in it.
        origin: Where the data come from.

    Raises:
        BadData: No such folder, or a file is missing.
    """
    home = os.environ.get("DIFFGRAFT_DATA")
    folder = Path(given) if given else Path(home) / name if home else None
    remedy = f"get {' and '.join(needs)} ({origin}) and name their folder by folder=PATH, or as {name}/ inside $DIFFGRAFT_DATA"
    if folder is None:
        raise BadData(f"{name} data: no folder was named; {remedy}")
    missing = [file for file in needs if not (folder / file).exists()]
    if missing:
        raise BadData(f"{name} data: {folder} has no {' and no '.join(missing)}; {remedy}")
    return folder
