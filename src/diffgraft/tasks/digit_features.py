"""Features of small digit images: the last layer of a classifier trained on labelled images that no method and no test sees."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import rng
from ..data import Points
from .classifier import Features, trained_once

STEPS, BATCH = 600, 64
WIDTH = 64
"""Number of features."""

_trained: dict[tuple[str, int], Features] = {}


def digit_features(kept: Points, world: str, size: int) -> Features:
    """Features (n, 64) of images (n, C, H, W) in data units; trained at the first use in a process, once for each world and size.

    Args:
        kept: Labelled images to train on, always the same ones for a world.
        world, size: Tell one classifier from another.
    """
    return trained_once(lambda: _train(kept), _trained, (world, size))


def _train(kept: Points) -> Features:
    assert kept.y is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.split(0, "digit features"))
        body = _body(kept.x.shape[1])
        head = nn.Linear(WIDTH, int(kept.y.max()) + 1)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], lr=2e-3)
    with torch.enable_grad():
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - step / STEPS)
            rows = torch.randint(kept.n, (BATCH,), generator=rng.generator(0, "digit features", step))
            cross_entropy(head(body(kept.x[rows])), kept.y[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    body.eval().requires_grad_(False)
    return lambda x: body(x.to(next(body.parameters()))).cpu()


def _body(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * 64, WIDTH), nn.ReLU(),
    )  # fmt: skip
