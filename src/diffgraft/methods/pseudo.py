r"""The pseudo-target: many samples that stand for the target's few points.

For tables of up to 64 features it is the cross-validated stack of `density`, whose exact denoiser is known, so a
network learns from it by regression without the noise of single samples. For images, signals and wider tables, where
densities of few points mean nothing, it is the points themselves and source points resampled by the clean density
ratio, a share $n / (n + 40)$ of the former.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points
from ..denoise import Denoiser, noised, regression_loss
from ..density import smooths, stack_by_label
from ..domain import kernel_ratio, resampled, seen_by_classifier
from ..fit import Draw, Training
from ..gaussians import MixtureDenoiser
from ..pretrain import LABEL_DROPOUT
from ..schedule import Schedule
from .start import Start, matching_loss, short_training

POOL = 100_000
OWN = 40
"""Target points at which they make up half of an unsmoothed pseudo-target."""
FEW = 20.0
"""An effective sample size below this gets a warning, ..."""
APART = 0.995
"""... and so does an area under the ROC curve above this."""
MOSTLY = 0.5
"""Target points where the source has none, as a share, above which there is a warning."""


@dataclass(frozen=True)
class PseudoTarget:
    """Samples to learn from, in model space, and their law's exact denoiser where it is known."""

    pool: Points
    exact: Denoiser | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def loss(self, model: Denoiser, draw: Draw) -> Tensor:
        """Score matching of a model on the pseudo-target, (b,)."""
        if self.exact is None:
            return matching_loss(model, self.pool, draw)
        x, y = draw.rows(self.pool, "target")
        t = draw.times(model.schedule)
        return regression_loss(model, self.exact, noised(model.schedule, x, t, draw.noise(x)), t, draw.drop(y, LABEL_DROPOUT))


def pseudo_target(source: Points, target: Points, schedule: Schedule, seed: int, *, shape: bool = True) -> PseudoTarget:
    """Build the pseudo-target of target points; everything in model space.

    Args:
        source, target: Points with labels or without.
        schedule: Of the networks that will learn from it.
        seed: Of all choices.
        shape: Let the source lend its shape to the stack.
    """
    if smooths(target):
        fitted = stack_by_label(target, source, rng.split(seed, "stack"), shape=shape)
        pool = fitted.mixture.sample(POOL, rng.split(seed, "pool"))
        return PseudoTarget(pool, MixtureDenoiser(fitted.mixture, schedule), {"stack": fitted.weights, **outside_warning(fitted.outside)})
    ratio = kernel_ratio(source, target, rng.split(seed, "ratio"), features=seen_by_classifier(source, target))
    share = target.n / (target.n + OWN)
    n_own = round(10_000 * share)
    rows = torch.arange(n_own) % target.n
    borrowed = resampled(source, ratio(*source), 10_000 - n_own, rng.split(seed, "resample"))
    own = target.take(rows)
    pool = Points(torch.cat([own.x, borrowed.x]), None if own.y is None or borrowed.y is None else torch.cat([own.y, borrowed.y]))
    return PseudoTarget(pool, None, {"ratio": ratio.notes, "own_share": round(share, 3), **overlap_warning(ratio.notes)})


def overlap_warning(notes: dict[str, Any]) -> dict[str, list[str]]:
    """A warning for the record where a clean ratio says that a classifier tells the domains apart, or rests on few source points."""
    size, auc = notes["effective_sample_size"], notes.get("auc", 0.0)
    if size >= FEW and auc <= APART:
        return {}
    told_apart = f"AUC {auc:.3f}, " if "auc" in notes else ""
    return {"warnings": [f"the domains hardly overlap ({told_apart}the ratio rests on {size:.0f} source points); compare with finetune"]}


def outside_warning(share: float) -> dict[str, Any]:
    """The share of target points that lie where the source has none, and a warning where that is most of them."""
    text = f"{share:.0%} of the target points lie where the source has none, so it has little to lend; compare with scratch and finetune"
    return {"outside": round(share, 3), **({"warnings": [text]} if share > MOSTLY else {})}


def pseudo_training(pseudo: PseudoTarget, start: Start, steps: int, batch_size: int | None, learning_rate: float) -> Training:
    """Training on a pseudo-target: all steps where its law is known, else as on few points."""
    if pseudo.exact is None:
        return short_training(start.train, steps, batch_size, learning_rate)
    return Training(steps=steps, batch_size=batch_size or 640, learning_rate=learning_rate, warmup=min(100, max(1, steps // 10)))
