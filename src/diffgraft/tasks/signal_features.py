"""Features of signals: the first layer of the head of a classifier trained on labelled signals that no method and no test sees."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from .. import rng
from ..data import Points
from ..nets.xresnet1d import XResNet1d50
from .classifier import Features, trained_once

STEPS, BATCH, PEAK = 150, 64, 1e-2
PASS = 250
"""Signals that are looked at at once."""

_trained: dict[tuple[str, int], Features] = {}


def signal_features(kept: Callable[[], Points], world: str, samples: int) -> Features:
    """Features (n, 128) of signals (n, leads, samples) in data units; trained at the first use in a process, once for each world.

    Args:
        kept: Gives labelled signals to train on, always the same ones for a world.
        world, samples: Tell one classifier from another.

    Reference:
        Strodthoff, Wagner, Schaeffter, Samek, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, 2020, arXiv 2004.13701.
    """
    return trained_once(lambda: _train(kept()), _trained, (world, samples))


def _train(kept: Points) -> Features:
    assert kept.y is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.split(0, "signal features"))
        net, scale = XResNet1d50(kept.x.shape[1], int(kept.y.max()) + 1), kept.x.std()
        optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK, weight_decay=1e-2)
        rate = OneCycleLR(optimizer, PEAK, total_steps=STEPS, pct_start=0.3)
        with torch.enable_grad():
            for step in range(STEPS):  # dropout draws from the forked generator
                rows = torch.randint(kept.n, (BATCH,), generator=rng.generator(0, "signal features", step))
                cross_entropy(net(kept.x[rows] / scale), kept.y[rows]).backward()
                optimizer.step()
                optimizer.zero_grad()
                rate.step()
    net.eval().requires_grad_(False)
    return lambda x: torch.cat([net.embed(part.to(scale) / scale) for part in x.split(PASS)]).cpu()
