"""Tables of real measurements: two transfers within the wine quality data, one with overlap and one almost without.

11 physico-chemical features of Portuguese wines. `wine_quality` leads from white wines of quality 5 and below to those of 7
and above: the same measurements, differently distributed. `wine_colour` leads from white to red, which a classifier tells
apart almost surely. Exact duplicates are dropped before anything is split: a fifth of the rows repeats another's features.

Reference:
    Cortez, Cerdeira, Almeida, Matos, Reis, Modeling wine preferences by data mining from physicochemical properties, 2009.
"""

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Layout, Points, Task, distinct
from ..readers.catalog import read
from .places import place

FILES = ("winequality-white.csv", "winequality-red.csv")
ORIGIN = "UCI wine quality, CC BY 4.0"
COLUMNS = (
    "fixed acidity",
    "volatile acidity",
    "citric acid",
    "residual sugar",
    "chlorides",
    "free sulfur dioxide",
    "total sulfur dioxide",
    "density",
    "pH",
    "sulphates",
    "alcohol",
)
LOW, HIGH = 5, 7


def wine_quality(n_target: int = 50, seed: int = 0, *, folder: str | None = None) -> Task:
    """White wines: from quality 5 and below to 7 and above. The domains overlap.

    Args:
        n_target: Target wines; the others are held out.
        seed: Of the draw.
        folder: Where the two files are; `wine` inside `$DIFFGRAFT_DATA` by default.
    """
    x, quality = _wines(place(folder, "wine", FILES, ORIGIN) / FILES[0])
    return _task("wine_quality", x[quality <= LOW], x[quality >= HIGH], n_target, seed)


def wine_colour(n_target: int = 50, seed: int = 0, *, folder: str | None = None) -> Task:
    """From white to red wines, which hardly overlap. Arguments as for `wine_quality`."""
    home = place(folder, "wine", FILES, ORIGIN)
    return _task("wine_colour", _wines(home / FILES[0])[0], _wines(home / FILES[1])[0], n_target, seed)


@lru_cache(2)
def _wines(path: Path) -> tuple[Tensor, Tensor]:
    """Distinct rows of features, and the quality of each."""
    found = read(path, "wine", label_column=-1)
    assert found.points.y is not None and found.layout.labels is not None
    quality = torch.tensor([int(name) for name in found.layout.labels])[found.points.y]
    rows = distinct(found.points.x)
    return found.points.x[rows], quality[rows]


def _task(world: str, source: Tensor, target: Tensor, n_target: int, seed: int) -> Task:
    target = target[torch.randperm(len(target), generator=rng.generator(seed, "target"))]
    config = {"world": world, "n_target": n_target, "seed": seed}
    data = Data(source=Points(source), target=Points(target[:n_target]))
    return Task("tabular", data, Points(target[n_target:]), layout=Layout(columns=COLUMNS), config=config)
