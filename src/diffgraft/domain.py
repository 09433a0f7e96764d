r"""Clean domain classifiers: the density ratio $r(x_0, y) = q(x_0, y) / p(x_0, y)$ from samples of both domains.

A classifier that tells target from source has, at optimum, the logit $\log (W_q q / W_p p)$, with W the total training
weight of a domain. So $\log r = \mathrm{logit} + \log(W_p / W_q)$ (eq. 7 of arXiv 2405.16876, weights kept). What makes
such ratios fail in practice is their tail: a few source points receive nearly all weight. Hence the target's weight
stays small, log r is clipped at its largest value on the target points, and the effective sample size
$(\sum r)^2 / \sum r^2$ says how many source points a reweighting really uses.

`kernel_ratio` is a kernel logistic regression (random kernel features, bandwidth and penalty by cross-validation); `net_ratio`
trains a network. Both may look at features of a sample instead of the sample.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import one_hot

from . import rng, roc
from .data import Points, count_classes, owner_folds, part_by
from .denoise import Denoiser, inner_net, noised
from .density import smooths
from .draw import Draw
from .fit import Training, Watch, follow, train
from .ratio import LogRatio, logistic_loss
from .schedule import Schedule
from .shapes import per_sample
from .weights import effective_sample_size, systematic

TARGET_WEIGHT = 0.03
"""Total weight of the target class where the source's is 1."""
RIDGES = (1e-2, 1e-3, 1e-4, 1e-5)
"""Candidates for the penalty, half of which times the squared weights is added to the mean loss."""
CENTRES = 200
LABEL_SCALE = 3.0
"""A label's size, beside features of unit scale."""
FOLDS = 5
FEW = 4
"""Fewer target points than this choose nothing: the classifier takes the widest penalty, and its scores are those on its own points."""
BANDWIDTHS = (0.3, 0.6, 1.2, 2.4)
"""Candidates for the kernel's width, in units of the median distance."""
FEATURE_LOG_SNR, FEATURE_BATCH = 2.0, 100
"""Noise level at which a network's features are taken, and samples a pass."""
MANY = 5000
"""Most source points that a kernel classifier is fitted on."""
COMPONENTS = 50
"""Principal components that an image's or signal's clean classifier sees."""

Features = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CleanRatio:
    """A fitted ratio.

    Args:
        logit: Of the target, of a sample and its label: (B, *), (B,) or None, to (B,).
        correction: log(W_source / W_target).
        clip: Largest log r.
        notes: Held-out scores and the effective sample size, for records.
    """

    logit: Callable[[Tensor, Tensor | None], Tensor]
    correction: float = 0.0
    clip: float = math.inf
    notes: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """log r(x, y), (B,), clipped."""
        return (self.logit(x, y) + self.correction).clamp(max=self.clip)

    def clipped(self, source: Points, target: Points) -> "CleanRatio":
        """This ratio clipped at its largest value on the target points, with the effective sample size on the source noted."""
        clip = float(self(*target).max())
        new = CleanRatio(self.logit, self.correction, clip, dict(self.notes))
        new.notes["effective_sample_size"] = round(effective_sample_size(new(*source)), 1)
        return new


def calibration(probability: Tensor, is_target: Tensor, bins: int = 10) -> list[tuple[float, float, int]]:
    """Mean predicted probability, share of target points and count, in bins of equal count (n,) and (n,)."""
    rows = []
    for part in probability.argsort().chunk(bins):
        rows.append((round(float(probability[part].mean()), 4), round(float(is_target[part].double().mean()), 4), len(part)))
    return rows


def kernel_ratio(
    source: Points,
    target: Points,
    seed: int,
    *,
    features: Features | None = None,
    weight: float = TARGET_WEIGHT,
    labels_lent: bool = False,
    owners: Sequence[str] | None = None,
) -> CleanRatio:
    """Kernel logistic regression with Nystroem features; the bandwidth and penalty with the least held-out log-loss.

    Args:
        source, target: Points in model space, with labels or without; labels enter as further features.
        seed: Of folds and kernel centres.
        features: From samples (B, *) to (B, F); by default the sample itself, flattened.
        weight: Total weight of the target class beside 1 for the source; 1 balances the classes.
        labels_lent: Source points bear labels drawn at random, so the ratio alone knows what a label looks like. Points of two labels
            then lie as far apart as any two points, however many features there are.
        owners: Whose each target point is; nobody's points are in two folds.
    """
    few = source.take(torch.randperm(source.n, generator=rng.generator(seed, "source"))[:MANY])
    n_classes = max(count_classes(few), count_classes(target))
    of_labels = max(LABEL_SCALE, _spread(_inputs(few.x, None, features))) if labels_lent else LABEL_SCALE
    a, b = (_inputs(*pool, features, n_classes, of_labels) for pool in (few, target))
    x, is_target = np.concatenate([a, b]), np.arange(len(a) + len(b)) >= len(a)
    weights = np.where(is_target, weight / len(b), 1 / len(a))
    folds = _folds(is_target, seed, owners)
    choices = [(gamma, ridge) for gamma in _gammas(x, seed) for ridge in RIDGES] if target.n >= FEW else [(_gammas(x, seed)[2], RIDGES[0])]
    with threadpool_limits(1):  # small systems: threads that wait for each other cost far more than they save
        scored = [(_cross_validated(x, is_target, weights, folds, *choice, seed), choice) for choice in choices]
        (loss, _), (gamma, ridge) = min(scored, key=lambda s: s[0][0])
        model = _kernel_model(gamma, ridge, len(x), seed).fit(x, is_target, logisticregression__sample_weight=weights)
    notes = {
        "classifier": "kernel",
        "bandwidth": round(1 / math.sqrt(2 * gamma), 4),
        "ridge": ridge,
        **_scores(_held_out([logit for (_, logit), _ in scored], is_target, weights, folds), is_target, weights, len(folds)),
        "log_loss": round(loss, 5),
    }

    def logit(x: Tensor, y: Tensor | None) -> Tensor:
        return torch.from_numpy(model.decision_function(_inputs(x, y, features, n_classes, of_labels))).to(x)

    return CleanRatio(logit, -math.log(weight), notes=notes).clipped(few, target)


def lent_ratio(
    source: Points,
    target: Points,
    seed: int,
    *,
    features: Features | None = None,
    weight: float = TARGET_WEIGHT,
    owners: Sequence[str] | None = None,
) -> CleanRatio:
    r"""The ratio where all source points bear labels drawn at random from the target's: $\log r(x, y) = \log r(x) + \log q(y | x) / q(y)$.

    One kernel classifier tells the domains apart without labels, another the target's labels. Of a single one for both, labels are a part too
    small where there are many features; where there are few it is the better.

    Args:
        source, target, seed, features, weight, owners: See `kernel_ratio`; the target has labels.
    """
    assert target.y is not None
    domains = kernel_ratio(Points(source.x), Points(target.x), seed, features=features, weight=weight, owners=owners)
    odds = _label_odds(_inputs(target.x, None, features), target.y, seed, owners)

    def logit(x: Tensor, y: Tensor | None) -> Tensor:
        return domains.logit(x, None) if y is None else domains.logit(x, None) + odds(_inputs(x, None, features), y).to(x)

    few = source.take(torch.randperm(source.n, generator=rng.generator(seed, "source"))[:MANY])
    return CleanRatio(logit, domains.correction, notes=domains.notes).clipped(few, target)


def _label_odds(x: np.ndarray, y: Tensor, seed: int, owners: Sequence[str] | None) -> Callable[[np.ndarray, Tensor], Tensor]:
    """log q(y | x) / q(y) from labelled points (n, F) and (n,) or (n, K), as a function of the same; 0 of labels that are not among theirs.

    Bandwidth and penalty are those with the least held-out log-loss.
    """
    values, row = y.unique(dim=0, return_inverse=True)
    classes = row.cpu().numpy()
    share = np.bincount(classes) / len(classes)
    gammas, folds = _gammas(x, seed), _label_folds(classes, seed, owners)

    def loss(gamma: float, ridge: float) -> float:
        parts = (_shares(x[rest], classes[rest], share, gamma, ridge, seed)(x[fold])[np.arange(len(fold)), classes[fold]] for rest, fold in folds)
        return -sum(float(np.log(part).sum()) for part in parts)

    with threadpool_limits(1):
        choices = [(gamma, ridge) for gamma in gammas for ridge in RIDGES] if folds else [(gammas[2], RIDGES[0])]
        shares = _shares(x, classes, share, *min(choices, key=lambda choice: loss(*choice)), seed)

    def odds(z: np.ndarray, y: Tensor) -> Tensor:
        same = (y.cpu()[:, None] == values.cpu()[None]).reshape(len(y), len(values), -1).all(2)
        return (torch.from_numpy(np.log(shares(z) / share)) * same).sum(1)

    return odds


def _shares(x: np.ndarray, classes: np.ndarray, share: np.ndarray, gamma: float, ridge: float, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """q(y | x) of a kernel classifier, mixed with q(y) as much as one point more would count: that bounds it, and allows for labels that are not here."""
    seen, doubt = np.unique(classes), 1 / (len(x) + 1)
    if len(seen) == 1:
        return lambda z: np.tile(share, (len(z), 1))
    fit = _kernel_model(gamma, ridge * len(x), 2 * len(x), seed, max_iter=3000).fit(x, classes)

    def shares(z: np.ndarray) -> np.ndarray:
        table = np.zeros((len(z), len(share)))
        table[:, seen] = fit.predict_proba(z)
        return doubt * share + (1 - doubt) * table

    return shares


def _label_folds(classes: np.ndarray, seed: int, owners: Sequence[str] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the rest and of each fold, with every class spread over the folds; none of fewer points than `FEW`."""
    if len(classes) < FEW:
        return []
    if part_by(owners):
        return _with_rest([fold.numpy() for fold in owner_folds(owners, FOLDS, seed, classes.tolist())])
    mixed = torch.randperm(len(classes), generator=rng.generator(seed, "label folds")).numpy()
    order = mixed[np.argsort(classes[mixed], kind="stable")]
    return [(np.delete(order, np.s_[k::FOLDS]), order[k::FOLDS]) for k in range(min(FOLDS, len(classes)))]


def _inputs(x: Tensor, y: Tensor | None, features: Features | None, n_classes: int = 0, of_labels: float = LABEL_SCALE) -> np.ndarray:
    z = (features(x) if features else x).flatten(1).double()
    if y is not None:
        z = torch.cat([z, of_labels * (one_hot(y, n_classes) if y.ndim == 1 else y).double()], 1)
    return z.detach().cpu().numpy()


def _spread(x: np.ndarray) -> float:
    """Root of the total variance of points (n, F): two points lie about 1.4 times as far apart, and so do two labels of this size."""
    return float(np.sqrt(x.var(0).sum()))


def _folds(is_target: np.ndarray, seed: int, owners: Sequence[str] | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of the rest and of each fold; source points, which come first, and owners of target points are spread over the folds."""
    from sklearn.model_selection import StratifiedKFold

    n_source, n_target = int((~is_target).sum()), int(is_target.sum())
    n = min(FOLDS, n_target, n_source)
    if n < FEW:
        return [(np.arange(len(is_target)),) * 2]
    if part_by(owners):
        few = owner_folds(owners, n, seed)
        own = np.array_split(torch.randperm(n_source, generator=rng.generator(seed, "folds")).numpy(), len(few))
        return _with_rest([np.r_[a, n_source + b.numpy()] for a, b in zip(own, few, strict=True)])
    return list(StratifiedKFold(n, shuffle=True, random_state=rng.split(seed, "folds") % 2**31).split(is_target, is_target))


def _with_rest(folds: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """All rows but a fold's beside it, of each fold."""
    return [(np.concatenate([other for other in folds if other is not fold]), fold) for fold in folds]


def _gammas(x: np.ndarray, seed: int) -> list[float]:
    rows = x[torch.randperm(len(x), generator=rng.generator(seed, "median"))[:500].numpy()]
    square = ((rows[:, None] - rows) ** 2).sum(-1)
    median = float(np.sqrt(np.median(square[square > 0]))) if (square > 0).any() else 1.0
    return [1 / (2 * (f * median) ** 2) for f in BANDWIDTHS]


def _kernel_model(gamma: float, ridge: float, n: int, seed: int, max_iter: int = 300) -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    kernel = Nystroem(gamma=gamma, n_components=min(CENTRES, n // 2), random_state=rng.split(seed, "centres") % 2**31)
    return make_pipeline(kernel, LogisticRegression(C=1 / ridge, max_iter=max_iter))


def _cross_validated(x: np.ndarray, is_target: np.ndarray, weights: np.ndarray, folds: list, gamma: float, ridge: float, seed: int) -> tuple[float, np.ndarray]:
    logit = np.empty(len(x))
    for rest, fold in folds:
        fit = _kernel_model(gamma, ridge, len(rest), seed).fit(x[rest], is_target[rest], logisticregression__sample_weight=weights[rest])
        logit[fold] = fit.decision_function(x[fold])
    return float(_losses(logit, is_target, weights).sum() / weights.sum()), logit


def _losses(logit: np.ndarray, is_target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights * np.logaddexp(0, np.where(is_target, -logit, logit))


def _held_out(logits: list[np.ndarray], is_target: np.ndarray, weights: np.ndarray, folds: list) -> np.ndarray:
    """Held-out logits, for each fold those of the choice that is best on the other folds: the best on all would flatter itself."""
    losses, out = np.stack([_losses(logit, is_target, weights) for logit in logits]), np.empty(len(is_target))
    for _, fold in folds:
        best = (losses.sum(1) - losses[:, fold].sum(1)).argmin()
        out[fold] = logits[best][fold]
    return out


def _scores(logit: np.ndarray, is_target: np.ndarray, weights: np.ndarray, folds: int) -> dict[str, Any]:
    balanced = torch.from_numpy(logit - math.log(weights[is_target].sum() / weights[~is_target].sum()) + math.log(is_target.sum() / (~is_target).sum()))
    notes: dict[str, Any] = {"auc": round(roc.area(is_target, logit), 4), "calibration": calibration(balanced.sigmoid(), torch.from_numpy(is_target))}
    if folds > 1:  # of scores on a classifier's own points there is none
        ends = roc.interval(notes["auc"], [(int((~is_target).sum()), int(is_target.sum()))], folds)
        notes["auc_interval"] = [round(end, 4) for end in ends]
    return notes


def seen_by_classifier(source: Points, target: Points, model: Denoiser | None = None) -> Features | None:
    """What a clean classifier looks at: tables whole, anything wider through a model's features or its principal components.

    Beside the components of images and signals it looks at the mean and contrast of each channel, of which a few samples far out would
    otherwise be all that a component shows.

    Args:
        source, target: Points in model space.
        model: A denoiser whose network may have features of its own.
    """
    from sklearn.decomposition import PCA

    if smooths(target):
        return None
    own = None if model is None else net_features(model)
    if own is not None:
        return standardised(own, source.take(torch.randperm(source.n, generator=rng.generator(0, "features"))[:MANY]))
    flat = torch.cat([source.x[:2000], target.x]).flatten(1).double().numpy()
    pca = PCA(min(COMPONENTS, *flat.shape), random_state=0).fit(flat)

    def components(x: Tensor) -> Tensor:
        return torch.from_numpy(pca.transform(x.flatten(1).double().cpu().numpy()))

    if target.x.ndim == 2:
        return components
    known, stats = components(source.x[:2000]), standardised(channel_stats, source)
    size = float(known.var(0).mean().sqrt())
    return lambda x: torch.cat([components(x), size * torch.asinh(stats(x).cpu())], 1)


def channel_stats(x: Tensor) -> Tensor:
    """Mean and contrast, the standard deviation within the sample, of each channel of images and signals (n, C, ...): (n, 2 C)."""
    parts = x.flatten(2).double()
    return torch.cat([parts.mean(2), parts.std(2, correction=0)], 1)


def net_features(model: Denoiser) -> Features | None:
    """Features (B, F) of samples in model space, from the network inside a denoiser at a low noise level; None where it has none.

    Reference:
        Xiang, Yang, Huang, Wang, Denoising Diffusion Autoencoders are Unified Self-supervised Learners, 2023, arXiv 2303.09769.
    """
    inner = inner_net(model)
    own = None if inner is None else getattr(inner.module, "features", None)
    if own is None:
        return None
    like = next(model.parameters())
    t = model.schedule.time_at(torch.tensor(FEATURE_LOG_SNR)).to(like)

    @torch.no_grad()
    def features(x: Tensor) -> Tensor:
        eps = torch.randn(x.shape[1:], generator=rng.generator(0, "feature noise")).to(like)
        parts = []
        for part in x.split(FEATURE_BATCH):
            _, _, step = model.schedule.levels(t)
            noisy = noised(model.schedule, part.to(like), t.expand(len(part)), eps.expand(len(part), *eps.shape))
            parts.append(own(noisy, per_sample(step, noisy), None))
        return torch.cat(parts).to(x.device)

    return features


def standardised(features: Features, source: Points) -> Features:
    """Features of zero mean and unit spread over the source."""
    known = features(source.x)
    mean, scale = known.mean(0), known.std(0).clamp(min=1e-6)
    return lambda x: (features(x) - mean) / scale


def net_ratio(
    log_h: LogRatio, source: Points, target: Points, training: Training, seed: int, *, held_out: Points | None = None, watch: Watch | None = None
) -> CleanRatio:
    """A network as clean classifier, with both domains drawn equally often: `log_h` at the schedule's earliest time, without noise.

    Args:
        log_h: An untrained ratio network; trained in place.
        source, target: Points in model space.
        training: Length and speed.
        held_out: Target points that stop the training.
    """
    schedule = log_h.schedule

    def loss(draw: Draw, part: Points = target) -> Tensor:
        a, b = draw.rows(source, "source"), draw.rows(part, "target")
        t = clean_time(schedule, a.x)
        return logistic_loss(log_h(a.x, t, a.y), log_h(b.x, t, b.y))

    check = None if held_out is None else lambda draw: loss(draw, held_out)
    follow(train(log_h, loss, training, seed, held_out=check, stage="classifier"), watch)
    log_h.requires_grad_(False)

    @torch.no_grad()
    def logit(x: Tensor, y: Tensor | None) -> Tensor:
        parts = [Points(x, y).take(rows) for rows in torch.arange(len(x)).split(FEATURE_BATCH)]
        return torch.cat([log_h(part.x, clean_time(schedule, part.x), part.y) for part in parts])

    few = source.take(torch.randperm(source.n, generator=rng.generator(seed, "source"))[:MANY])
    judged = target if held_out is None else held_out
    values = torch.cat([logit(*few), logit(*judged)]).cpu().numpy()
    notes = {"classifier": "net", "auc": round(roc.area(np.arange(len(values)) >= few.n, values), 4)}
    return CleanRatio(logit, notes=notes).clipped(few, target)


def clean_time(schedule: Schedule, x: Tensor) -> Tensor:
    """The schedule's earliest time, (B,)."""
    return torch.full((len(x),), schedule.t_min, dtype=x.dtype, device=x.device)


def resampled(pool: Points, log_r: Tensor, n: int, seed: int) -> Points:
    """`n` points drawn from a pool with probability proportional to r, (m,) of log r."""
    rows = systematic(log_r, torch.rand(1, generator=rng.generator(seed, "resample"), dtype=torch.float64), n)
    return pool.take(rows[torch.randperm(n, generator=rng.generator(seed, "order"))])
