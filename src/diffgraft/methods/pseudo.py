r"""The pseudo-target: many samples that stand for the target's few points.

For tables of up to 64 features it is the cross-validated stack of `density`, whose exact denoiser is known, so a
network learns from it by regression without the noise of single samples.

For images, signals and wider tables, where densities of few points mean nothing, it is a mixture of the points themselves
and of source points resampled by the clean density ratio. Each counts for what it amounts to: n points of the target's own,
and as many of the source as the ratio's effective sample size says. Target points that lie where the source has none can
only stand for themselves, and where a classifier tells the domains apart, all do.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import rng
from ..data import Points
from ..denoise import Denoiser, noised, regression_loss
from ..density import smooths, stack_by_label
from ..domain import MANY, CleanRatio, Features, kernel_ratio, lent_ratio, resampled, seen_by_classifier, standardised
from ..draw import Draw
from ..features import features_named
from ..fit import Training
from ..gaussians import MixtureDenoiser
from ..pretrain import LABEL_DROPOUT
from ..support import neighbour_distances
from ..weights import effective_sample_size
from .start import Start, lends_all_labels, lends_labels, matching_loss, short_training

POOL = 100_000
UNSMOOTHED, LENT = 10_000, 20_000
"""Samples of a pseudo-target without a density, and most source points that a clean ratio is taken at."""
FEW = 20.0
"""An effective sample size below this gets a warning, ..."""
APART = 0.995
"""... and so does an area under the ROC curve above this."""
BALANCED = 1.0
"""Weight of the target class in a clean ratio of features: their ratios have short tails, and few points deserve a full say."""
MOSTLY = 0.5
"""What more than this share is, is most."""


@dataclass(frozen=True)
class PseudoTarget:
    """Samples to learn from, in model space.

    Args:
        pool: The samples.
        exact: The exact denoiser of their law, where it is known.
        own_share: Share of copies of the target's own points.
        own: These points.
        source, log_r: The source points that the others are drawn from, and the clean log ratio at each, of mean ratio 1.
        notes: For the record.
    """

    pool: Points
    exact: Denoiser | None = None
    own_share: float = 1.0
    own: Points | None = None
    source: Points | None = None
    log_r: Tensor | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def copies(self) -> bool:
        """Whether it is mostly copies of few points, so that a network which learns from it must be stopped in time."""
        return self.own_share > MOSTLY

    def loss(self, model: Denoiser, draw: Draw) -> Tensor:
        """Score matching of a model on the pseudo-target, (b,)."""
        if self.exact is None:
            return matching_loss(model, self.pool, draw)
        x, y = draw.rows(self.pool, "target")
        t = draw.times(model.schedule)
        return regression_loss(model, self.exact, noised(model.schedule, x, t, draw.noise(x)), t, draw.drop(y, LABEL_DROPOUT))


def pseudo_target(source: Points, start: Start, *, shape: bool = True, features: str | None = None) -> PseudoTarget:
    """Build the pseudo-target of a method's target points; everything in model space.

    Args:
        source: Source points, with labels or without.
        start: The target points; of those kept back none is copied where early stopping needs them. Where it knows the ratio at the source
            points, these are resampled by it.
        shape: Let the source lend its shape to the stack.
        features: A model folder whose network's features the clean ratio looks at, of images and signals; by default the source's own.
    """
    if start.log_ratio is not None:
        return _known(source, start, start.log_ratio)
    if smooths(start.train):
        fitted = stack_by_label(start.train, source, rng.split(start.seed, "stack"), shape=shape)
        pool = fitted.mixture.sample(POOL, rng.split(start.seed, "pool"))
        notes = {"stack": fitted.weights, **outside_warning(fitted.outside)}
        return PseudoTarget(pool, MixtureDenoiser(fitted.mixture, start.source.schedule), 0.0, notes=notes)
    return _mixed(source, start, features)


def _known(source: Points, start: Start, log_r: Tensor) -> PseudoTarget:
    """Source points resampled by a ratio that is known."""
    few, most = (POOL, POOL) if smooths(start.train) else (UNSMOOTHED, LENT)
    rows = torch.randperm(source.n, generator=rng.generator(start.seed, "few"))[:most]
    source, log_r = source.take(rows), log_r[rows] - log_r[rows].logsumexp(0) + math.log(len(rows))
    pool = resampled(source, log_r, few, rng.split(start.seed, "resample"))
    return PseudoTarget(pool, None, 0.0, start.train, source, log_r, _noted({"known": True, "effective_sample_size": effective_sample_size(log_r)}))


def _mixed(source: Points, start: Start, features: str | None) -> PseudoTarget:
    """The target's own points beside resampled source points."""
    source = source.take(torch.randperm(source.n, generator=rng.generator(start.seed, "few"))[:LENT])
    target = start.everything
    looks = seen_by_classifier(source, target, start.source) if features is None else standardised(_given(features, start.source), source)
    assert looks is not None
    a, b = Points(looks(source.x), source.y), Points(looks(target.x), target.y)
    ratio = _ratio(a, b, start, wide=True, weight=BALANCED, owners=start.owners)
    log_r, warning = ratio(*a), overlap_warning(ratio.notes)
    outside = float((neighbour_distances(a.x[:MANY].float(), b.x.float()) > 1).double().mean())
    amounts_to = effective_sample_size(log_r)
    share = 1.0 if warning else 1 - (1 - outside) * amounts_to / (target.n + amounts_to)
    n_own = round(UNSMOOTHED * share)
    own = start.train if share > MOSTLY else target
    copies = own.take(torch.arange(n_own) % own.n)
    borrowed = resampled(source, log_r, UNSMOOTHED - n_own, rng.split(start.seed, "resample"))
    pool = Points(torch.cat([copies.x, borrowed.x]), None if copies.y is None or borrowed.y is None else torch.cat([copies.y, borrowed.y]))
    notes = {"ratio": ratio.notes, "own_share": round(share, 3), "outside": round(outside, 3), **warning}
    return PseudoTarget(pool, None, share, own, source, log_r - log_r.logsumexp(0) + math.log(source.n), notes)


def _given(features: str, source: Denoiser) -> Features:
    """Features of another model's network, of samples in the source's model space."""
    net = features_named(features, device=next(source.parameters()).device)
    return lambda x: net(source.transform.inverse(x))


def clean_ratio(pool: Points, start: Start) -> tuple[Tensor, dict[str, Any]]:
    """log q / p at the points of a source pool, (n,), learned by a kernel classifier unless it is known, and notes for the record."""
    if start.log_ratio is not None:
        return start.log_ratio, _noted({"known": True, "effective_sample_size": effective_sample_size(start.log_ratio)})
    looks = seen_by_classifier(pool, start.train, start.source)
    owners = start.owners and start.owners[: start.train.n]
    ratio = _ratio(pool, start.train, start, wide=looks is not None, features=looks, owners=owners)
    return ratio(*pool), _noted(ratio.notes)


def _ratio(source: Points, target: Points, start: Start, *, wide: bool, **given: Any) -> CleanRatio:
    """A kernel classifier's ratio. Of many features beside labels that source points bear by chance, it learns what a label looks like by itself."""
    seed = rng.split(start.seed, "ratio")
    if wide and lends_all_labels(start):
        return lent_ratio(source, target, seed, **given)
    return kernel_ratio(source, target, seed, labels_lent=lends_labels(start), **given)


def _noted(ratio: dict[str, Any]) -> dict[str, Any]:
    """What the record is told of a clean ratio."""
    return {"ratio": ratio, **overlap_warning(ratio)}


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
