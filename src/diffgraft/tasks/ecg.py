"""Electrocardiograms: a SYNTHETIC pair of domains whose density ratio is known; `recordings` and `brugada` have those of people."""

from functools import partial

from .. import rng
from ..data import Data, Layout, Points, Task
from ..errors import BadPlan, one_of
from .brugada import brugada
from .dipole import APART, LEADS, SOURCE, STATEMENTS, TARGET, Domain, Latents, draw, log_ratio, render
from .downstream import Downstream
from .measures import measures
from .protocol import windowing
from .recordings import folders
from .signal_features import layer, signal_features

__all__ = ["brugada", "folders", "synthetic"]

PRESETS = {"overlap": TARGET, "apart": APART}
RATE = 100.0
N_TEST, N_CLASSIFIER = 2_000, 3_000
"""Held-out target records, and those that train the classifier."""


def synthetic(
    n_target: int = 50,
    seed: int = 0,
    *,
    preset: str = "overlap",
    samples: int = 256,
    n_source: int = 16_000,
    conditional: bool = True,
    known_ratio: bool = False,
) -> Task:
    """SYNTHETIC records of eight leads at 100 Hz, each with one of nine statements; see `dipole`.

    Args:
        n_target: Target records.
        seed: Of the draws.
        preset: "overlap", where a ratio can carry the transfer, or "apart", where it cannot.
        samples: Of each record, a hundredth of a second each.
        n_source: Source records.
        conditional: Give the statements to the methods as labels, or keep them back.
        known_ratio: Give the exact ratio of the domains at the source records to the methods, too: what a perfect ratio is worth.
    """
    target = PRESETS[one_of("preset", preset, PRESETS)]
    if samples < 100:
        raise BadPlan(f"a record holds at least one second, 100 samples, got samples = {samples}")
    pools = {
        name: _records(domain, n, rng.split(seed, name), samples)
        for name, domain, n in (("source", SOURCE, n_source), ("target", target, n_target), ("test", target, N_TEST))
    }
    shown = {name: pool if conditional else Points(pool.x) for name, (pool, _) in pools.items()}
    ratio = log_ratio(pools["source"][1], SOURCE, target) if known_ratio else None
    data = Data(source=shown["source"], target=shown["target"], log_ratio=ratio)
    world = ("SYNTHETIC", preset, samples)
    kept = signal_features(lambda: _records(target, N_CLASSIFIER, rng.split(0, "classifier", preset), samples)[0], len(STATEMENTS), world)
    layout = Layout(columns=LEADS, labels=STATEMENTS if conditional else None, rate=RATE, unit="mV", seconds=samples / RATE)
    config = {"world": "synthetic", "preset": preset, "samples": samples, "n_source": n_source, "n_target": n_target, "seed": seed}
    config |= {"conditional": conditional, "known_ratio": known_ratio}
    config["protocol"] = {
        "split": "drawn anew for each part, by seed",
        **windowing(layout, "lead"),
        "features": layer(),
        "source records": n_source,
        "test records": N_TEST,
    }
    worth = None
    if conditional:
        more = partial(_more, target, rng.split(seed, "more"), samples)
        worth = Downstream(data.target, shown["test"], STATEMENTS, rng.split(seed, "downstream"), source=data.source, more=more)
    return Task("ecg", data, shown["test"], layout=layout, features=kept, downstream=worth, measures=measures(layout, data.target.x), config=config)


def _more(domain: Domain, seed: int, samples: int, n: int) -> Points:
    """So many records of a domain beside those of a task."""
    return _records(domain, n, seed, samples)[0]


def _records(domain: Domain, n: int, seed: int, samples: int) -> tuple[Points, Latents]:
    """Records of a domain with their statements, and what they were made of."""
    u = draw(domain, n, rng.split(seed, "latents"))
    return Points(render(u, rng.split(seed, "records"), samples=samples), u.statement), u
