"""Transfer problems: worlds with exact truth, and real data. Modules resolve on first use: `dg.tasks.mixtures`."""

from importlib import import_module
from typing import Any

_ROOMS = ("mixtures", "tabular", "digits", "images", "ecg", "files", "catalog")


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"diffgraft.tasks has no task '{name}'; there are {', '.join(_ROOMS)}")
    return import_module(f"diffgraft.tasks.{name}")
