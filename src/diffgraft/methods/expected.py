r"""log h as the expectation of the clean ratio, learned by classification alone.

$h(x_t, t, y) = E_{p(x_0 | x_t)}[r(x_0, y)]$ (eq. 12 of arXiv 2405.16876). Each source point stands among the target's to the
extent of its r, and the target's own points beside it with their share s:

$L = E_p[\log(1 + h) + (1 - s)\, r \log(1 + 1 / h)] + s\, E_q[\log(1 + 1 / h)]$.

Where the network is a head on frozen features, noised samples pass through these once and the head learns from them many
times: no pass through the large network, and no second derivative, is left in the loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .. import rng
from ..data import Points
from ..denoise import noised
from ..draw import Draw
from ..fit import Loss, Progress, Training, Watch
from ..nets.probe import Probe
from ..pretrain import LABEL_DROPOUT
from ..ratio import LogRatio, logistic_loss, soft_logistic_loss
from .classify import noised_logits
from .pseudo import PseudoTarget, pseudo_training
from .start import Start

LOOKS, OWN_LOOKS = 40_000, 5_000
"""Most noised samples of the source and of the target's own points whose features are kept, ..."""
SHORT = 2_500
"""... of trainings of so many steps; shorter ones keep as much fewer."""
OF_SIGNALS, NUMBERS = 80_000, 330_000_000
"""Most of signals, whose ratio is faint at high noise beside hundreds of features, and how many numbers these may hold, so that long ones cost no more."""
PASS, BATCH = 100, 512
"""Samples a pass through the features, and features a step of the head."""


@dataclass(frozen=True)
class Seen:
    """Features of noised samples.

    Args:
        features: (n, F).
        t: Times (n,).
        row: Which point of the pool each one was (n,).
    """

    features: Tensor
    t: Tensor
    row: Tensor


def expected_training(log_h: LogRatio, pseudo: PseudoTarget, start: Start, steps: int, batch_size: int | None, learning_rate: float) -> Training:
    """As on a pseudo-target, in larger batches for a head on frozen features."""
    training = pseudo_training(pseudo, start, steps, batch_size, learning_rate)
    return replace(training, batch_size=batch_size or BATCH) if isinstance(log_h.module, Probe) else training


def expected_losses(log_h: LogRatio, pseudo: PseudoTarget, start: Start, pool: Points, steps: int, watch: Watch | None) -> tuple[Loss, Loss | None]:
    """The training loss and, where points of the target's own were kept back to stop the training, the held-out one.

    Args:
        log_h: The network.
        pseudo: With the clean ratio at source points; without it, its pool is told from the source's.
        start: The target's own points.
        pool: Source points.
        steps: Of the training.
        watch: Told of the features' progress.
    """
    if pseudo.own is None or pseudo.source is None or pseudo.log_r is None:
        return (lambda draw: logistic_loss(*noised_logits(log_h, log_h.schedule, pool, pseudo.pool, draw))), None
    share = pseudo.own_share
    looks, own_looks = (max(BATCH, round(min(1.0, steps / SHORT) * most)) for most in (_most_looks(pseudo.source.x), OWN_LOOKS))
    log_r = pseudo.log_r.to(next(log_h.parameters())) + torch.tensor(1 - share).log()
    source = _values(log_h, pseudo.source, looks, start.seed, "source", watch)

    def loss_on(own: Points, name: str) -> Loss:
        target = _values(log_h, own, own_looks, start.seed, name, watch) if share > 0 else None

        def loss(draw: Draw) -> Tensor:
            f, row = source(draw)
            borrowed = soft_logistic_loss(f, log_r[row])
            return borrowed if target is None else borrowed + share * softplus(-target(draw)[0])

        return loss

    kept = start.held_out if pseudo.copies else None
    return loss_on(pseudo.own, "target"), None if kept is None else loss_on(kept, "held-out")


def _most_looks(x: Tensor) -> int:
    """How many noised source samples are looked at."""
    return LOOKS if x.ndim != 3 else min(OF_SIGNALS, max(LOOKS, NUMBERS // x[0].numel()))


def _values(log_h: LogRatio, pool: Points, n: int, seed: int, name: str, watch: Watch | None) -> Callable[[Draw], tuple[Tensor, Tensor]]:
    """A function from a draw to log h of noised points of a pool (b,), and their rows (b,)."""
    schedule = log_h.schedule
    seen = _look(log_h, pool, n, seed, name, watch) if isinstance(log_h.module, Probe) else None

    def values(draw: Draw) -> tuple[Tensor, Tensor]:
        if seen is None:
            row, t = draw.index(pool.n, name), draw.times(schedule)
            some = pool.take(row)
            return log_h(noised(schedule, some.x, t, draw.noise(some.x, f"{name} noise")), t, draw.drop(some.y, LABEL_DROPOUT)), row
        at = draw.index(n, name).to(seen.row.device)
        row = seen.row[at]
        y = None if pool.y is None else pool.y.to(row.device)[row]
        return log_h.judge(seen.features[at], seen.t[at], draw.drop(y, LABEL_DROPOUT)), row

    return values


@torch.no_grad()
def _look(log_h: LogRatio, pool: Points, n: int, seed: int, name: str, watch: Watch | None) -> Seen:
    """Noise the points of a pool n times, in turn, and pass them through the frozen features."""
    schedule, began = log_h.schedule, time.monotonic()
    g = rng.generator(seed, "looks", name)
    device = next(log_h.parameters()).device
    row = torch.arange(n) % pool.n
    t = schedule.t_min + (schedule.t_max - schedule.t_min) * torch.rand(n, generator=g)
    features = []
    for at in torch.arange(n).split(PASS):
        x = pool.x[row[at]]
        x_t = noised(schedule, x, t[at].to(x), torch.randn(x.shape, generator=g).to(x))
        features.append(log_h.seen(x_t.to(device), t[at].to(device)))
        done, seconds = int(at[-1]) + 1, time.monotonic() - began
        if watch:
            watch(Progress(f"features of the {name}", done, n, None, None, 0.0, seconds, seconds / done * (n - done)))
    return Seen(torch.cat(features), t.to(device), row.to(device))
