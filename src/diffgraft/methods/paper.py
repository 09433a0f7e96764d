r"""The TGDP objective as the paper writes it: $L = \eta_0 L_{guidance} + \eta_1 L_{cycle} + \eta_2 L_{consistency}$ (eq. 15).

- guidance (eq. 8): $(h(x_t, t) - r(x_0))^2$ over source pairs, r from a clean domain classifier (eq. 7);
- cycle (eq. 13): $(h(x_t, t) - q_t / p_t)^2$ over target pairs, the ratio from a time-dependent domain classifier;
- consistency (eq. 14): score matching of `source + grad log h` on the target.

h = exp f, with f the network. The clean ratio is that of a network trained with both domains drawn equally often.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points
from ..denoise import noised
from ..domain import CleanRatio, net_ratio
from ..draw import Draw
from ..fit import Loss, Watch
from ..guide import Guided
from ..ratio import LogRatio, guidance_loss
from .classify import new_ratio, time_classifier
from .pseudo import overlap_warning
from .start import Start, matching_loss, short_training

CLASSIFIER_STEPS = 1000
LARGEST = 20.0
"""Largest log ratio that h is regressed on, and 10 more the largest f: without overlap the squares of h would be infinite."""


def paper_loss(
    settings: Any, guided: Guided, log_h: LogRatio, pool: Points, start: Start, watch: Watch | None, folder: Path | None
) -> tuple[Loss, dict[str, Any]]:
    """Train the classifiers that the weights ask for; the loss of eq. 15 and notes for the record."""
    steps = min(CLASSIFIER_STEPS, settings.steps)
    training = short_training(start.train, steps, settings.batch_size, 1e-3)

    def net(name: str) -> LogRatio:
        return new_ratio(guided.base, start.train, rng.split(start.seed, name), width=settings.width, depth=settings.depth)

    terms: list[Loss] = []
    notes: dict[str, Any] = {}
    if settings.eta_0:
        ratio = net_ratio(net("clean"), pool, start.train, training, rng.split(start.seed, "clean"), held_out=start.held_out, watch=watch)
        notes |= {"ratio": ratio.notes, **overlap_warning(ratio.notes)}
        terms.append(lambda draw: settings.eta_0 * guidance_term(log_h, ratio, pool, draw))
    if settings.eta_1:
        timed = time_classifier(net("timed"), pool, start.train, start.held_out, training, start.seed, watch=watch, folder=folder)
        terms.append(lambda draw: settings.eta_1 * cycle_term(log_h, timed, start.train, draw))
    if settings.eta_2:
        terms.append(lambda draw: settings.eta_2 * matching_loss(guided, start.train, draw))
    return lambda draw: torch.stack([term(draw) for term in terms]).sum(0), notes


def guidance_term(log_h: LogRatio, ratio: CleanRatio, pool: Points, draw: Draw) -> Tensor:
    """Eq. 8 over source pairs, (b,)."""
    x, y = draw.rows(pool, "source")
    t = draw.times(log_h.schedule)
    with torch.no_grad():
        log_r = ratio(x, y)
    f = log_h(noised(log_h.schedule, x, t, draw.noise(x, "source noise")), t, y)
    return _bounded(f, log_r)


def cycle_term(log_h: LogRatio, timed: LogRatio, target: Points, draw: Draw) -> Tensor:
    """Eq. 13 over target pairs, (b,)."""
    x, y = draw.rows(target, "cycle")
    t = draw.times(log_h.schedule)
    x_t = noised(log_h.schedule, x, t, draw.noise(x, "cycle noise"))
    with torch.no_grad():
        log_r = timed(x_t, t, y)
    return _bounded(log_h(x_t, t, y), log_r)


def _bounded(f: Tensor, log_r: Tensor) -> Tensor:
    """The regression on a ratio, (b,), finite whatever the classifier says."""
    return guidance_loss(f.clamp(max=LARGEST + 10), log_r.clamp(max=LARGEST))
