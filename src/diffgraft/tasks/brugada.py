"""PTB-XL, where nobody looked for it, to people with and without the Brugada syndrome: excerpts of both data sets.

References:
    Wagner et al., PTB-XL, a Large Publicly Available Electrocardiography Dataset, 2020, Scientific Data 7.
    Costa Cortez, Garcia Iglesias, Brugada-HUCA: 12-Lead ECG Recordings for the Study of Brugada Syndrome, 2026, PhysioNet.
"""

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import rng
from ..data import Data, Layout, Points, Task
from ..ecg.folds import hash_of
from ..ecg.leads import EIGHT_OF_LIMBS, TWELVE
from ..ecg.records import Preparation
from ..ecg.signals import band_pass, windows
from ..ecg.statements import STATEMENTS, multi_hot
from ..errors import BadData
from .downstream import Downstream
from .files import LEAST_TEST
from .measures import measures
from .places import place
from .recordings import windows_of
from .signal_features import layer, signal_features

BAND = (0.5, 40.0)
"""In Hz. The filtered excerpt of PTB-XL goes through the same filter, whose edges are steeper: else they would tell source from target."""
FILTERED = "ptbxl_filtered_1785.npz"
WINDOW, RATE = 256, 100.0
"""Samples of a window, and its rate in Hz."""
FREQUENT = 20
"""Records that a statement needs for a classifier to learn it."""


def brugada(n_target: int = 30, seed: int = 0, *, conditional: bool = True, folder: str | None = None) -> Task:
    """From PTB-XL, where nobody looked for it, to people with and without the Brugada syndrome.

    Features are those of a classifier of statements, trained on 500 labelled records of the source.

    Windows of 2.56 s of eight leads at 100 Hz, filtered from 0.5 to 40 Hz, each lead of each record with mean 0 and deviation 1 over 10 s.
    The source's three windows a record have no labels; the target's label, one window a person, says whether the syndrome was found.

    Args:
        n_target: People that methods see, with both labels in the shares of all; the others are held out.
        seed: Of the draw.
        conditional: Give the label to the methods, or keep it back.
        folder: Holds `ptbxl/`, `ptbxl_filtered_1785.npz` and `brugada/`; `$DIFFGRAFT_DATA` by default.
    """
    home = place(folder, "", ("ptbxl", FILTERED, "brugada"), "excerpts of PTB-XL 1.0.3 and of Brugada-HUCA", "brugada")
    source, target = _unlabelled(home), _people(home)
    if not 4 <= n_target <= target.n - LEAST_TEST:
        raise BadData(f"Brugada-HUCA: {target.n} people are there, of which 4 to {target.n - LEAST_TEST} can be given to methods, got n_target = {n_target}")
    few, rest = _drawn(target, n_target, seed)
    shown = [target.take(rows) if conditional else Points(target.x[rows]) for rows in (few, rest)]
    layout = Layout(columns=EIGHT_OF_LIMBS, labels=("other", "Brugada") if conditional else None, rate=RATE, unit="standard deviations")
    about = {
        "split": "by label and seed",
        "split_hash": hash_of({_names(home)[row]: part for part, rows in (("methods", few), ("held out", rest)) for row in rows.tolist()}),
        "window": "the first 2.56 s",
        "rate": RATE,
        "leads": list(EIGHT_OF_LIMBS),
        "band": list(BAND),
        "scale": "each lead of each record",
        "features": layer(),
        "source windows": source.shape[0],
        "test records": shown[1].n,
    }
    trained = f"those of a classifier of {len(_frequent(home))} frequent statements, trained on the source's labelled records"
    config = {"world": "brugada", "n_target": n_target, "seed": seed, "conditional": conditional, "features": trained, "protocol": about}
    account = tuple(f"{part}: {line}" for part in ("ptbxl", "brugada") for line in windows_of(str(home / part), _filtered(), None).notes)
    features = signal_features(lambda: _statements(home), len(_frequent(home)), ("brugada", str(home)))
    worth = Downstream(shown[0], shown[1], layout.labels, rng.split(seed, "downstream"), alone=True) if layout.labels else None
    exams: dict[str, Any] = {"features": features, "measures": measures(layout, shown[0].x), "downstream": worth}
    return Task("ecg", Data(source=Points(source), target=shown[0]), shown[1], layout=layout, config=config, account=account, **exams)


def _drawn(people: Points, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of n people, each label in its share, and of all others."""
    assert people.y is not None
    order = torch.randperm(people.n, generator=rng.generator(seed, "target"))
    ill = order[people.y[order] == 1]
    well = order[people.y[order] == 0]
    n_ill = max(2, round(n * len(ill) / people.n))
    few = torch.cat([ill[:n_ill], well[: n - n_ill]])
    return few, torch.cat([ill[n_ill:], well[n - n_ill :]])


@lru_cache(1)
def _unlabelled(home: Path) -> Tensor:
    """Windows (m, 8, 256) of 2,285 records of PTB-XL."""
    with np.load(home / FILTERED, allow_pickle=False) as file:
        filtered = (file["X"].astype(np.float32) / float(file["scale"])).transpose(0, 2, 1)[:, [TWELVE.index(name) for name in EIGHT_OF_LIMBS]]
    both = np.concatenate([windows_of(str(home / "ptbxl"), _filtered(), None).x.numpy(), band_pass(filtered, RATE, *BAND)])
    return torch.from_numpy(np.ascontiguousarray(windows(_standardised(both), WINDOW).swapaxes(1, 2)).reshape(-1, len(EIGHT_OF_LIMBS), WINDOW))


def _statements(home: Path) -> Points:
    """The first window of the labelled records of PTB-XL, with their frequent statements as rows."""
    found = windows_of(str(home / "ptbxl"), _filtered(), None)
    return Points(_first(found.x), torch.from_numpy(multi_hot([one.statements for one in found.facts], _frequent(home))))


def _frequent(home: Path) -> tuple[str, ...]:
    """Statements of these records that a classifier can learn from them."""
    counts = Counter(name for one in windows_of(str(home / "ptbxl"), _filtered(), None).facts for name in one.statements or ())
    return tuple(name for name in STATEMENTS if counts[name] >= FREQUENT)


@lru_cache(1)
def _people(home: Path) -> Points:
    """The first window of each person, (n, 8, 256), and whether the syndrome was found."""
    found = windows_of(str(home / "brugada"), _filtered(), None)
    y = torch.tensor([int(one.extra["brugada"] not in ("", "0")) for one in found.facts])
    return Points(_first(found.x), y)


def _names(home: Path) -> tuple[str, ...]:
    """What the people are called, in their order."""
    return tuple(one.id for one in windows_of(str(home / "brugada"), _filtered(), None).facts)


def _first(x: Tensor) -> Tensor:
    """The first window of each standardised record."""
    return torch.from_numpy(np.ascontiguousarray(_standardised(x.numpy())[..., :WINDOW]))


def _filtered() -> Preparation:
    return Preparation(leads=EIGHT_OF_LIMBS, band=BAND)


def _standardised(x: np.ndarray) -> np.ndarray:
    """Each lead of each record with mean 0 and deviation 1."""
    return (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
