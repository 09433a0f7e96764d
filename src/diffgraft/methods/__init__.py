"""Transfer methods, one file each; `dg.methods.TGDP()` and its like resolve on first use."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    catalog = import_module("diffgraft.methods.catalog")
    for kind in catalog.METHODS.values():
        if kind.__name__ == name:
            return kind
    try:
        return import_module(f"diffgraft.methods.{name}")
    except ModuleNotFoundError:
        names = ", ".join(kind.__name__ for kind in catalog.METHODS.values())
        raise AttributeError(f"diffgraft.methods has no '{name}'; there are {names}") from None
