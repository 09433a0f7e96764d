r"""auto: the method that explains held-out target points best, or as well as the best, fitted on all of them.

Each candidate is fitted on all folds but one and scored on that one, by $\log p(x | y)$ through the probability-flow ODE up to 32
dimensions, by the denoising loss at fixed times and noise above; one that falls clearly behind drops out before the next fold. Test
data and truth are never looked at.

Few points hardly tell good candidates apart, and the best of many noisy scores is a lucky one. So of those that never fell clearly
behind the first of `CANDIDATES` is taken; what stands early there has been the best, on average, over many tasks. The
source as it is comes first where no classifier tells it from the target, and last elsewhere: scores of single points hardly see that
some kinds of points are too many.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points, owner_folds, part_by
from ..denoise import Denoiser, denoising_loss
from ..domain import kernel_ratio, seen_by_classifier
from ..draw import Draw
from ..errors import BadData, BadPlan, DiffgraftError
from ..fit import Progress, Watch
from ..likelihood import log_prob
from .finetune import Finetune
from .scratch import Scratch
from .source import Source
from .start import Method, begin, source_pool
from .tgdp import TGDP

CANDIDATES: dict[str, Method] = {
    "finetune, pseudo-target": Finetune(augment="pseudo-target"),
    "tgdp": TGDP(),
    "finetune, 100 steps": Finetune(steps=100, held_out=0.0),
    "finetune": Finetune(),
    "finetune, 400 steps": Finetune(steps=400, held_out=0.0),
    "scratch": Scratch(),
    "source": Source(),
}
"""What competes, each with the setting that decides most: where training stops, and what it learns from. The first of those that scores
do not tell apart is taken."""
LEAST_SEEN, BEHIND = 10, 2.0
"""Points after which candidates may drop out of the comparison, and how many standard errors behind the best they then are."""
LIKELIHOOD_UP_TO, LIKELIHOOD_STEPS, LOSS_DRAWS = 32, 30, 64
"""Numbers a sample up to which likelihoods are taken, which cost a pass each; intervals of the flow; draws of time and noise a point above."""


@dataclass(frozen=True)
class Auto:
    """The candidate with the best cross-validated score, or one level with it that is better on average.

    Args:
        folds: Parts of the target, each held out once.
        effort: Share of each candidate's own training steps that it takes, for a quick look.
    """

    folds: int = 3
    effort: float = 1.0

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Compare, then fit the winner on all target points; see `Method.fit`."""
        began, seed = time.monotonic(), rng.seed_from(generator)
        if self.folds < 2 or data.target.n < 2 * self.folds:
            raise BadData(f"auto holds out each of {self.folds} folds of 2 points and more, got {data.target.n} target points; name a method instead")
        if not 0 < self.effort <= 1:
            raise BadPlan(f"effort is a share of training steps in (0, 1], got {self.effort}")
        scores, left = self._compared(source, data, seed, watch)
        shifted = is_shifted(source, data, rng.split(seed, "shift"))
        chosen = preferred(left, shifted)
        seconds = time.monotonic() - began
        model = self._timed(CANDIDATES[chosen]).fit(source, data, rng.generator(seed, "fit"), watch=watch, folder=folder)
        model.notes = {
            **model.notes,
            "chosen": chosen,
            "why": why(chosen, leading(left, scores), scores, data, shifted),
            "select_seconds": seconds + model.notes.get("select_seconds", 0.0),
        }
        return model

    def _timed(self, method: Method) -> Any:
        """A method with its share of steps."""
        known: Any = method
        return replace(known, steps=max(1, round(self.effort * known.steps))) if self.effort < 1 and hasattr(method, "steps") else method

    def _compared(self, source: Denoiser, data: Data, seed: int, watch: Watch | None) -> tuple[dict[str, Tensor], list[str]]:
        """Scores of the target points by candidate, each by a fit that has not seen it, (n,), nan for points not reached; and who is left."""
        began, done = time.monotonic(), 0
        scores: dict[str, Tensor] = {name: torch.full((data.target.n,), torch.nan, dtype=torch.float64) for name in CANDIDATES}
        left = list(CANDIDATES)
        folds = _folds(data, self.folds, seed)
        for k, fold in enumerate(folds):
            for name in list(left):
                try:
                    scores[name][fold] = self._score(CANDIDATES[name], source, data, torch.cat(folds), fold, rng.split(seed, "fold", k))
                except DiffgraftError:  # a method that cannot take these labels, or this network, is no candidate
                    if len(scores) == 1:
                        raise
                    left.remove(name)
                    del scores[name]
                done += 1
                if watch:
                    watch(_progress(done, len(left) * self.folds, time.monotonic() - began))
            left = still_racing(left, scores)
            if len(left) == 1:
                break
        return scores, left

    def _score(self, method: Method, source: Denoiser, data: Data, order: Tensor, fold: Tensor, seed: int) -> Tensor:
        """Scores of a fold's points by a fit on the others."""
        rest = order[~torch.isin(order, fold)]
        owners = data.owners and [data.owners[row] for row in rest.tolist()]
        part = replace(data, target=data.target.take(rest), owners=owners)
        model = self._timed(method).fit(source, part, rng.generator(seed, "fit"))
        return explained(model, data.target.take(fold), rng.split(seed, "score"))


def _folds(data: Data, n: int, seed: int) -> list[Tensor]:
    """Rows of the folds; nobody's points are in two."""
    if part_by(data.owners):
        return owner_folds(data.owners, n, seed)
    return list(torch.randperm(data.target.n, generator=rng.generator(seed, "folds")).chunk(n))


def leading(left: list[str], scores: dict[str, Tensor]) -> str:
    """The candidate with the best mean score so far."""
    return max(left, key=lambda name: float(scores[name].nanmean()))


def still_racing(left: list[str], scores: dict[str, Tensor]) -> list[str]:
    """Candidates that are not behind the leader by more than `BEHIND` standard errors on the points scored so far.

    Reference:
        Maron, Moore, Hoeffding Races: Accelerating Model Selection Search for Classification and Function Approximation, 1993.
    """
    best = leading(left, scores)
    seen = ~scores[best].isnan()
    if int(seen.sum()) < LEAST_SEEN:
        return left
    return [name for name in left if name == best or not _behind((scores[best] - scores[name])[seen])]


def _behind(gap: Tensor) -> bool:
    return float(gap.mean()) > BEHIND * float(gap.std()) / len(gap) ** 0.5


def preferred(left: list[str], shifted: bool) -> str:
    """The first of the candidates that are left, in the order of preference."""
    order = [*CANDIDATES, *left] if shifted else ["source", *CANDIDATES, *left]
    return next(name for name in order if name in left)


def is_shifted(source: Denoiser, data: Data, seed: int) -> bool:
    """Whether a held-out classifier tells target points from source points that have the target's labels."""
    start = begin(source, data, rng.generator(seed), 0.0, new_labels=True)
    pool = source_pool(start, data)
    a, b = _as_often(pool, start.train, seed), Points(start.train.x)
    if min(a.n, b.n) < LEAST_SEEN:
        return True
    notes = kernel_ratio(a, b, seed, features=seen_by_classifier(a, b, start.source), owners=start.owners).notes
    return bool(notes["auc_interval"][0] > 0.5)


def _as_often(pool: Points, target: Points, seed: int) -> Points:
    """As many source points as have labels as often as the target has them, without these labels."""
    if pool.y is None or target.y is None:
        return Points(pool.x)
    _, label = torch.cat([pool.y, target.y]).unique(dim=0, return_inverse=True)
    have, asked = (part.bincount(minlength=int(label.max()) + 1) for part in (label[: pool.n], label[pool.n :]))
    most = float((have / asked)[asked > 0].min())  # of the label that runs out first
    order = torch.randperm(pool.n, generator=rng.generator(seed, "as often"))
    rows = [order[label[: pool.n][order] == k][: int(most * int(n))] for k, n in enumerate(asked)]
    return Points(pool.x[torch.cat(rows)])


def _progress(done: int, of: int, seconds: float) -> Progress:
    return Progress("comparing", min(done, of), of, None, None, 0.0, seconds, max(0.0, seconds / done * (of - done)))


def explained(model: Denoiser, held_out: Points, seed: int) -> Tensor:
    """How well a model explains points, (n,), higher is better: log-density, or minus the denoising loss."""
    y = held_out.y if model.n_classes else None
    if held_out.x[0].numel() <= LIKELIHOOD_UP_TO:
        return log_prob(model, held_out.x, y, steps=LIKELIHOOD_STEPS).double().cpu().nan_to_num(nan=-torch.inf)
    x, total = model.transform.forward(held_out.x), torch.zeros(held_out.n, dtype=torch.float64)
    with torch.no_grad():
        for k in range(LOSS_DRAWS):
            draw = Draw(seed, k, held_out.n)
            total -= denoising_loss(model, x, draw.times(model.schedule), draw.noise(x), y).double().cpu()
    return total / LOSS_DRAWS


def why(chosen: str, best: str, scores: dict[str, Tensor], data: Data, shifted: bool) -> str:
    """The choice in words, beside the best of those that never fell behind: others were scored on fewer points."""
    what = "log-likelihood, in nats" if data.target.x[0].numel() <= LIKELIHOOD_UP_TO else "minus denoising loss"
    means = {name: float(values.nanmean()) for name, values in scores.items()}
    told = [f"{best} {means[best]:.4g}"]
    for name in sorted((name for name in scores if name != best), key=lambda name: float((scores[best] - scores[name]).nanmean())):
        seen = ~scores[name].isnan()
        gap = (scores[best] - scores[name])[seen]
        spread = float(gap.std() / len(gap) ** 0.5) if len(gap) > 1 else 0.0
        after = "" if int(seen.sum()) == int((~scores[best].isnan()).sum()) else f", dropped after {len(gap)} points"
        told.append(f"{name} {means[name]:.4g} (behind by {float(gap.mean()):.3g} +- {spread:.2g}{after})")
    first = "explains target points that it has not seen best" if chosen == best else f"is level with {best}, which explains unseen target points best"
    told_apart = "" if shifted else "; no classifier tells target from source points with the target's labels"
    return f"{chosen} {first}{told_apart}; mean {what}: {', '.join(told)}"
