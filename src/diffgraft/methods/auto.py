r"""auto: the method that explains held-out target points best, fitted on all of them.

Each candidate is fitted on all folds but one and scored on that one, by $\log p(x | y)$ through the probability-flow ODE up to 64
dimensions, by the denoising loss at fixed times and noise above. Test data and truth are never looked at.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser, denoising_loss
from ..errors import BadData, DiffgraftError
from ..fit import Draw, Progress, Watch
from ..likelihood import EXACT_UP_TO, log_prob
from .finetune import Finetune
from .scratch import Scratch
from .source import Source
from .start import Method
from .tgdp import TGDP

CANDIDATES: dict[str, Method] = {
    "source": Source(),
    "scratch": Scratch(),
    "finetune": Finetune(),
    "finetune, 100 steps": Finetune(steps=100, held_out=0.0),
    "finetune, 400 steps": Finetune(steps=400, held_out=0.0),
    "finetune, pseudo-target": Finetune(augment="pseudo-target"),
    "tgdp": TGDP(),
}
"""What competes, each with the setting that decides most: where training stops, and what it learns from."""
LIKELIHOOD_STEPS, LOSS_DRAWS = 30, 64
"""Intervals of the flow, and draws of time and noise for each held-out point."""


@dataclass(frozen=True)
class Auto:
    """The candidate with the best cross-validated score.

    Args:
        folds: Parts of the target, each held out once.
        steps: Training steps of every candidate; by default each one's own.
    """

    folds: int = 3
    steps: int | None = None

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Compare, then fit the winner on all target points; see `Method.fit`."""
        began, seed = time.monotonic(), rng.seed_from(generator)
        if self.folds < 2 or data.target.n < 2 * self.folds:
            raise BadData(f"auto holds out each of {self.folds} folds of 2 points and more, got {data.target.n} target points; name a method instead")
        scores: dict[str, Tensor] = {}
        refused: dict[str, DiffgraftError] = {}
        for k, (name, method) in enumerate(CANDIDATES.items()):
            try:
                scores[name] = self._score(self._timed(method), source, data, seed)
            except DiffgraftError as error:  # a method that cannot take these labels, or this network, is no candidate
                refused[name] = error
            if watch:
                seconds = time.monotonic() - began
                watch(Progress("comparing", k + 1, len(CANDIDATES), None, None, 0.0, seconds, seconds / (k + 1) * (len(CANDIDATES) - k - 1)))
        if not scores:
            raise next(iter(refused.values()))
        chosen = max(scores, key=lambda name: float(scores[name].mean()))
        seconds = time.monotonic() - began
        model = self._timed(CANDIDATES[chosen]).fit(source, data, rng.generator(seed, "fit"), watch=watch, folder=folder)
        model.notes = {**model.notes, "chosen": chosen, "why": why(chosen, scores, data), "select_seconds": seconds + model.notes.get("select_seconds", 0.0)}
        return model

    def _timed(self, method: Method) -> Any:
        known: Any = method
        return method if self.steps is None or not hasattr(method, "steps") else replace(known, steps=self.steps)

    def _score(self, method: Method, source: Denoiser, data: Data, seed: int) -> Tensor:
        """Scores of all target points, each by a fit that has not seen it, (n,)."""
        target, out = data.target, torch.empty(data.target.n, dtype=torch.float64)
        order = torch.randperm(target.n, generator=rng.generator(seed, "folds"))
        for k, fold in enumerate(order.chunk(self.folds)):
            rest = order[~torch.isin(order, fold)]
            part = Data(source=data.source, target=target.take(rest))
            model = method.fit(source, part, rng.generator(seed, "fold", k))
            out[fold] = explained(model, target.take(fold), rng.split(seed, "score", k))
        return out


def explained(model: Denoiser, held_out: Points, seed: int) -> Tensor:
    """How well a model explains points, (n,), higher is better: log-density, or minus the denoising loss."""
    y = held_out.y if model.n_classes else None
    if held_out.x[0].numel() <= EXACT_UP_TO:
        return log_prob(model, held_out.x, y, steps=LIKELIHOOD_STEPS).double().cpu()
    x, total = model.transform.forward(held_out.x), torch.zeros(held_out.n, dtype=torch.float64)
    with torch.no_grad():
        for k in range(LOSS_DRAWS):
            draw = Draw(seed, k, held_out.n)
            total -= denoising_loss(model, x, draw.times(model.schedule), draw.noise(x), y).double().cpu()
    return total / LOSS_DRAWS


def why(chosen: str, scores: dict[str, Tensor], data: Data) -> str:
    """The choice in words."""
    what = "log-likelihood, in nats" if data.target.x[0].numel() <= EXACT_UP_TO else "minus denoising loss"
    best = scores[chosen]
    told = []
    for name, values in sorted(scores.items(), key=lambda item: -float(item[1].mean())):
        gap = best - values
        spread = float(gap.std() / len(gap) ** 0.5) if len(gap) > 1 else 0.0
        told.append(f"{name} {float(values.mean()):.4g}" + ("" if name == chosen else f" (behind by {float(gap.mean()):.3g} +- {spread:.2g})"))
    return f"{chosen} explains target points that it has not seen best; mean {what}: {', '.join(told)}"
