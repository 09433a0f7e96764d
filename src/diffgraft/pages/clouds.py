"""Sample files of a run folder: the points of each method and of the real data, with the names of features and classes, and the rate of signals."""

import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from .plots import Array
from .records import Entry, Group, Run

DATA = (("source", "source data"), ("target", "training target"), ("test", "held-out target"))
"""Real data of a run folder: their file's ending, and how plots call them."""
NAMING = ("columns", "labels", "rate", "unit")
"""What a sample file may hold beside points and labels."""
LONGEST = 40
"""Names of features, classes and units are cut after this many letters."""
SYNTHETIC = "synthetic"
"""The world of tasks whose real data are made by a formula."""


@dataclass(frozen=True)
class Cloud:
    """Points of a file.

    Args:
        x: Points (n, *), float32.
        y: Labels (n,) or (n, K), or None.
        columns: Names of a table's features or a signal's channels, where the file has them.
        labels: Names of the classes, where the file has them.
        rate: Of signals, samples a second, where the file has it.
        unit: Of signals, such as mV; empty where the file has none.
    """

    x: Array
    y: Array | None = None
    columns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    rate: float | None = None
    unit: str = ""

    @cached_property
    def finite(self) -> Array:
        """Its points as rows (m, D), without those that are not finite."""
        flat = self.x.reshape(len(self.x), -1)
        return flat[np.isfinite(flat).all(1)]


@dataclass(frozen=True)
class Shown:
    """The point clouds of one group and seed.

    Args:
        seed: Whose they are.
        parts: Real data by the ending of their file; `test` is always there.
        methods: Samples of each method.
        lacking: Methods without samples that fit.
        synthetic: Whether the real data are no measurements, but made by a formula.
    """

    seed: int
    parts: dict[str, Cloud]
    methods: list[tuple[Entry, Cloud]]
    lacking: list[str]
    synthetic: bool = False

    @property
    def test(self) -> Cloud:
        """Held-out target data."""
        return self.parts["test"]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.test.x.shape[1:]

    @property
    def real(self) -> list[tuple[str, Cloud]]:
        """Title and cloud of the real data."""
        return [(title, self.parts[part]) for part, title in DATA if part in self.parts]

    @property
    def everything(self) -> list[tuple[str, str, Cloud]]:
        """Title, style and cloud of each, real data first."""
        return [*((name, "", c) for name, c in self.real), *((e.name, e.style, c) for e, c in self.methods)]

    def feature(self, k: int) -> str:
        """Name of a feature: its column's, or its number."""
        found = next((c.columns for _, _, c in self.everything if len(c.columns) == self.shape[0]), ())
        return found[k] if found else f"feature {k + 1}"

    def classes(self, n: int) -> list[str]:
        """Names of n classes: those of the files, or their numbers."""
        found = next((c.labels for _, _, c in self.everything if len(c.labels) >= n), ())
        return [found[k] if found else str(k) for k in range(n)]


def load(path: Path) -> Cloud | None:
    """A sample file; None where it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            x, rest = np.asarray(file["X"], dtype=np.float32), {key: file[key] for key in ("y", *NAMING) if key in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    columns, labels = (tuple(str(v)[:LONGEST] for v in np.atleast_1d(rest.get(key, ())).flat) for key in ("columns", "labels"))
    y, rate, unit = rest.get("y"), _rate(rest.get("rate")), str(rest.get("unit", ""))[:LONGEST]
    return Cloud(x, y, columns, labels, rate, unit) if x.ndim > 1 and len(x) and (y is None or len(y) == len(x)) else None


def _rate(value: Array | None) -> float | None:
    """Samples a second, where the value is a rate."""
    number = float(value) if value is not None and value.size == 1 and value.dtype.kind in "biuf" else math.nan
    return number if 0 < number < math.inf else None


def shown(run: Run, group: Group) -> Shown | None:
    """The clouds of the first seed whose held-out data are there; None without them."""
    folder = run.folder / "samples"
    for seed in group.seeds:
        stem = f"{group.label}-n{group.n_target}-s{seed}"
        parts = {part: load(folder / f"{stem}-{part}.npz") for part, _ in DATA}
        test = parts["test"]
        if test is None:
            continue
        found = [(e, load(folder / f"{e.records[seed]['id']}.npz")) for e in group.entries if seed in e.records]
        methods = [(e, c) for e, c in found if c is not None and c.x.shape[1:] == test.x.shape[1:]]
        real = {part: c for part, c in parts.items() if c is not None and c.x.shape[1:] == test.x.shape[1:]}
        lacking = [e.name for e in group.entries if e not in [m for m, _ in methods]]
        return Shown(seed, real, methods, lacking, (group.records[0].get("task_config") or {}).get("world") == SYNTHETIC)
    return None


def pooled(found: Sequence[Shown], part: str) -> Array | None:
    """Finite points of one part of the real data, of several groups together; None where there are none."""
    clouds = [data.parts[part].finite for data in found if part in data.parts]
    return np.concatenate(clouds) if clouds else None
