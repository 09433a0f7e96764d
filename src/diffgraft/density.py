r"""The density of few points, with the shape that many points of another domain lend.

The target has n = 10 to 1,000 points, the source thousands. What the two share is local shape: how wide a mode is and
which way it leans. So the source's density is fitted first, as a Gaussian mixture, and each candidate for the target is
a mixture too:

- `kernels`: a kernel at every target point, with the shape of the target's covariance or of the source's components, some
  drawn in so that they do not widen the whole;
- `moved`: the source's components, with means and weights moved towards the target points (MAP adaptation);
- `tilted`: the source's density times exp(theta^T x), which is a mixture of the same covariances, and `moved` from there;
- `placed`: a few new centres, each with the covariances that the source's components have.

Every candidate is fitted on parts of the points and judged on the rest; the stack weighs candidates by their held-out
log-likelihood (pseudo-Bayesian model averaging with the Bayesian bootstrap, which knows that n points are few), and is then
moved and stretched towards the mean and variances of the points. All being Gaussian mixtures, so is the stack: it has a
closed-form denoiser at every noise level (`gaussians`).

References:
    Reynolds, Quatieri, Dunn, Speaker Verification Using Adapted Gaussian Mixture Models, 2000, section 3.2 (moving).
    Yao, Vehtari, Simpson, Gelman, Using Stacking to Average Bayesian Predictive Distributions, 2018, arXiv 1704.02030,
    section 3.4 (weights).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from . import rng
from .data import Points
from .gaussians import Mixture

SMOOTH_UP_TO = 64
"""Most features of a sample for which densities are estimated."""
FEW = 4
"""Fewer points than this are not split for cross-validation."""
FOLDS = 10
KERNELS = 2000
"""Most target points that carry a kernel."""
SOURCE_POINTS = 10_000
RIDGE = 1e-6
MOST_DRAWN_IN = 0.95
"""Widest kernels, in spreads of the points, whose centres are drawn in."""
PRIOR_POINTS = 20
"""What a stack's own mean and variances count, in points, beside those of the target points; fewer draw no kernels in."""
TILT_RIDGE = 0.03
"""Lambda of a tilt, for features of unit scale."""
LENDERS = 10
"""Source points of a label, a feature, that suffice to lend their own shape."""
LEAST_WEIGHT = 0.01
"""Candidates below are left out of the stack."""
RARE = 0.001
"""Where the source's density is below that of all but this share of its own samples, it has no points."""

Candidate = Callable[[Tensor], Mixture]


@dataclass(frozen=True)
class Stack:
    """A fitted stack.

    Args:
        mixture: The density.
        weights: Of the candidates in it.
        held_out: Mean held-out log-likelihood of the candidates, in nats; empty below `FEW` points.
        outside: Share of the points that lie where the source has none.
    """

    mixture: Mixture
    weights: dict[str, float]
    held_out: dict[str, float]
    outside: float = 0.0


def stack(x: Tensor, source: Mixture, seed: int, *, shape: bool = True) -> Stack:
    """The density of points `x`, by cross-validated candidates.

    Args:
        x: Target points (n, D), in model space.
        source: The source's density, from `fit_mixture`.
        seed: Of folds and starts.
        shape: Let the source lend its shape; without it only kernels of the target's own covariance compete.
    """
    x = x.double()
    made = candidates(len(x), source, seed, shape)
    if len(x) < FEW:
        weights = torch.full((len(made),), 1 / len(made), dtype=torch.float64)
        held_out = {}
    else:
        scores = torch.stack([_held_out(make, x, seed) for make in made.values()], 1)
        weights = stacking_weights(scores, seed)
        held_out = dict(zip(made, scores.mean(0).tolist(), strict=True))
    kept = {name: float(w) for name, w in zip(made, weights, strict=True) if w >= LEAST_WEIGHT}
    parts = [made[name](x) for name in kept]
    weighed = {name: round(w, 4) for name, w in kept.items()}
    mixture = matched(pooled(parts, torch.tensor(list(kept.values()))), x)
    return Stack(mixture, weighed, held_out, share_outside(x, source, seed))


def matched(mixture: Mixture, x: Tensor) -> Mixture:
    """A mixture moved and stretched, feature by feature, towards mean and variances of `x`; its own count as much as `PRIOR_POINTS`.

    The likelihood, which weighs candidates, hardly sees that all of them are somewhat too wide or off in the mean.
    """
    mean = mixture.weights @ mixture.means
    var = mixture.weights @ (mixture.covs.diagonal(dim1=1, dim2=2) + (mixture.means - mean) ** 2)
    share = len(x) / (len(x) + PRIOR_POINTS) if len(x) > 1 else 0.0
    own = covariance(x).diagonal() if len(x) > 1 else var
    stretch = ((share * own + (1 - share) * var) / var).sqrt()
    means = mean + share * (x.mean(0) - mean) + (mixture.means - mean) * stretch
    return Mixture(mixture.weights, means, mixture.covs * stretch[:, None] * stretch, mixture.labels)


def smooths(target: Points) -> bool:
    """Whether the density of these points is estimated: tables of up to `SMOOTH_UP_TO` features."""
    return target.x.ndim == 2 and target.x.shape[1] <= SMOOTH_UP_TO


def share_outside(x: Tensor, source: Mixture, seed: int) -> float:
    """Share of points (n, D) at which the source's density is lower than at all but `RARE` of its own samples."""
    own = source.log_prob(source.sample(20_000, rng.split(seed, "support")).x.double())
    return float((source.log_prob(x.double()) < own.quantile(RARE)).double().mean())


def candidates(n: int, source: Mixture, seed: int, shape: bool = True) -> dict[str, Candidate]:
    """The candidates that compete for n points."""
    made: dict[str, Candidate] = {}
    if shape or n < FEW:
        made |= {f"moved {r:g}": partial(moved, source=source, relevance=r) for r in (1.0, 5.0, 20.0)}
    if n >= FEW:
        made |= {f"kernels x{f:g}": partial(kernels, factor=f) for f in (0.7, 1.0, 1.4, 2.0)}
    if n >= PRIOR_POINTS:
        made |= {f"drawn-in kernels x{f:g}": partial(kernels, factor=f, drawn_in=True) for f in (0.7, 1.0)}
    if shape and n >= FEW:
        made |= {f"tilted, moved {r:g}": partial(tilted_and_moved, source=source, relevance=r) for r in (5.0, 20.0, 100.0)}
        within = torch.einsum("k,kde->de", source.weights, source.covs)
        made["kernels of the source's shape"] = partial(kernels, factor=1.0, cov=within)
        made |= {f"placed {k}": partial(placed, source=source, k=k, seed=seed) for k in (1, 2, 3, 4, 6, 8) if k <= n // 4}
    return made


def _held_out(make: Candidate, x: Tensor, seed: int) -> Tensor:
    """Log-density of each point (n,) under the candidate fitted without its fold."""
    order = torch.randperm(len(x), generator=rng.generator(seed, "folds"))
    out = torch.empty(len(x), dtype=x.dtype)
    for fold in order.chunk(min(FOLDS, len(x))):
        rest = torch.ones(len(x), dtype=torch.bool)
        rest[fold] = False
        out[fold] = make(x[rest]).log_prob(x[fold])
    return out.clamp(min=-1e4)


def stacking_weights(scores: Tensor, seed: int, draws: int = 500) -> Tensor:
    r"""Weights (M,) of M candidates from held-out log-likelihoods (n, M): $E_\omega \mathrm{softmax}(n \omega^T S)$, $\omega \sim$ Dirichlet(1)."""
    omega = torch.empty(draws, len(scores), dtype=scores.dtype).exponential_(generator=rng.generator(seed, "bootstrap"))
    omega = omega / omega.sum(1, keepdim=True)
    return (len(scores) * omega @ scores).softmax(1).mean(0)


def pooled(parts: list[Mixture], weights: Tensor) -> Mixture:
    """The mixture of mixtures."""
    weights = (weights / weights.sum()).double()
    w = torch.cat([share * part.weights for share, part in zip(weights, parts, strict=True)])
    labels = None if parts[0].labels is None else torch.cat([part.labels for part in parts if part.labels is not None])
    return Mixture(w, torch.cat([part.means for part in parts]), torch.cat([part.covs for part in parts]), labels)


def covariance(x: Tensor) -> Tensor:
    """Covariance (D, D) of few points, shrunk as Ledoit and Wolf do."""
    from sklearn.covariance import ledoit_wolf

    c = torch.from_numpy(ledoit_wolf(x.numpy())[0])
    return c + RIDGE * torch.eye(x.shape[1], dtype=x.dtype)


def kernels(x: Tensor, factor: float, cov: Tensor | None = None, drawn_in: bool = False) -> Mixture:
    """A kernel density with kernels h^2 cov, h the best leave-one-out bandwidth times `factor`; cov is the points' own by default.

    With `drawn_in`, centres move towards the mean by sqrt(1 - h^2), so that mean and covariance are those of the points
    (a shrunk kernel density: Fryer, Some Errors Associated with the Non-parametric Estimation of Density Functions, 1976).
    """
    x = x[:KERNELS]
    cov = covariance(x) if cov is None else cov
    h = factor * bandwidth(x, cov)
    if drawn_in:
        h, mean = min(h, MOST_DRAWN_IN), x.mean(0)
        x = mean + math.sqrt(1 - h**2) * (x - mean)
    return Mixture(torch.full((len(x),), 1 / len(x), dtype=x.dtype), x, (h**2 * cov).expand(len(x), -1, -1))


def bandwidth(x: Tensor, cov: Tensor) -> float:
    r"""The h of the largest leave-one-out likelihood, $\sum_i \log \frac{1}{n - 1} \sum_{j \ne i} N(x_i; x_j, h^2 C)$, in [0.03, 3]."""
    from scipy.optimize import minimize_scalar

    z = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), x.T, upper=False).T
    distance = torch.cdist(z, z).square().fill_diagonal_(math.inf)

    def loss(log_h: float) -> float:
        return float(x.shape[1] * log_h - (-distance / (2 * math.exp(2 * log_h))).logsumexp(1).mean())

    return math.exp(minimize_scalar(loss, bounds=(math.log(0.03), math.log(3)), method="bounded", options={"xatol": 0.01}).x)


def moved(x: Tensor, source: Mixture, relevance: float, rounds: int = 50) -> Mixture:
    """The source's components with means and weights moved to `x`: EM with priors worth `relevance` points a mean, 5 for the weights."""
    weights, means = source.weights, source.means
    for _ in range(rounds):
        share = responsibilities(x, Mixture(weights, means, source.covs))
        count = share.sum(0)
        means = (share.T @ x + relevance * source.means) / (count + relevance)[:, None]
        weights = (count + 5 * source.weights) / (len(x) + 5)
    return Mixture(weights, means, widened(source.covs, count + relevance))


def tilted(x: Tensor, source: Mixture) -> Mixture:
    r"""The source's density times $\exp(\theta^T x)$, normalised: the largest mean log-likelihood of `x`, less $\frac{1}{2} \lambda |\theta|^2$.

    A component N(m, C) of weight w becomes N(m + C theta, C) of weight proportional to $w \exp(\theta^T m + \frac{1}{2} \theta^T C \theta)$.
    The likelihood is concave in theta and depends on the mean of `x` alone.
    """
    from scipy.optimize import minimize

    w, m, c, mean = (a.numpy() for a in (source.weights.log(), source.means, source.covs, x.mean(0)))

    def of(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pull = c @ theta
        return w + m @ theta + 0.5 * pull @ theta, m + pull

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        log_w, means = of(theta)
        share = np.exp(log_w - log_w.max())
        total = share.sum()
        value = log_w.max() + math.log(total) - mean @ theta + TILT_RIDGE / 2 * theta @ theta
        return value, share @ means / total - mean + TILT_RIDGE * theta

    log_w, means = of(minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x)
    return Mixture(torch.from_numpy(log_w).softmax(0), torch.from_numpy(means), source.covs)


def tilted_and_moved(x: Tensor, source: Mixture, relevance: float) -> Mixture:
    """The tilted source, its components moved to `x`."""
    return moved(x, tilted(x, source), relevance)


def placed(x: Tensor, source: Mixture, k: int, seed: int, rounds: int = 50) -> Mixture:
    """`k` new centres, each a mixture over the source's covariances: EM from k-means."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    k, dim, n_shapes = min(k, len(x.unique(dim=0))), x.shape[1], len(source.weights)
    state = rng.split(seed, "centres") % 2**31
    with threadpool_limits(1):  # small systems: threads that wait for each other cost far more than they save
        means = torch.from_numpy(KMeans(k, n_init=4, random_state=state).fit(x.numpy()).cluster_centers_)
    covs, precision = source.covs.repeat(k, 1, 1), torch.linalg.inv(source.covs)
    weights = (source.weights / k).expand(k, n_shapes)
    for _ in range(rounds):
        now = Mixture(weights.flatten(), means.repeat_interleave(n_shapes, 0), covs)
        share = responsibilities(x, now).reshape(len(x), k, n_shapes)
        total = torch.einsum("nkj,jde->kde", share, precision) + RIDGE * torch.eye(dim, dtype=x.dtype)
        means = torch.linalg.solve(total, torch.einsum("nkj,jde,ne->kd", share, precision, x)[..., None])[..., 0]
        count = share.sum(0)
        centre = (count.sum(1, keepdim=True) + 1) / (len(x) + k)
        weights = centre * (count + 2 * source.weights) / (count.sum(1, keepdim=True) + 2)
    return Mixture(weights.flatten(), means.repeat_interleave(n_shapes, 0), widened(covs, count.sum(1).repeat_interleave(n_shapes)))


def widened(covs: Tensor, count: Tensor) -> Tensor:
    """Predictive covariances C (1 + 1 / n) of means (K,) that n points place: what is not known of the mean adds to the spread."""
    return covs * (1 + 1 / count.clamp(min=1))[:, None, None]


def responsibilities(x: Tensor, mixture: Mixture) -> Tensor:
    """Which component each point comes from, (n, K)."""
    return mixture.log_joint(x, torch.ones(()), torch.zeros(())).softmax(1)


def fit_mixture(x: Tensor, seed: int, sizes: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)) -> Mixture:
    """A Gaussian mixture of many points (m, D), as many components as the Bayesian information criterion allows."""
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    x = x[:SOURCE_POINTS].double()
    state = rng.split(seed, "mixture") % 2**31
    best, least, worse = None, math.inf, 0
    for k in sizes:
        if k > 1 and len(x) < 5 * k * x.shape[1]:
            break
        with threadpool_limits(1):
            fit = GaussianMixture(k, random_state=state, reg_covar=RIDGE).fit(x.numpy())
        value = fit.bic(x.numpy())
        if value < least:
            best, least, worse = fit, value, 0
        elif (worse := worse + 1) == 2:
            break
    assert best is not None
    weights, means, covs = (torch.from_numpy(a) for a in (best.weights_, best.means_, best.covariances_))
    return Mixture(weights, means, covs)


def stack_by_label(pool: Points, source: Points, seed: int, *, shape: bool = True) -> Stack:
    """A stack for the points of each label, weighed by how often the label occurs; its components carry the label.

    A label of which the source has fewer than `LENDERS` points a feature takes its shape from the whole source.
    """
    if pool.y is None:
        return stack(pool.x, fit_mixture(source.x, seed), seed, shape=shape)
    values, index = pool.y.unique(dim=0, return_inverse=True)
    parts: list[Mixture] = []
    weights: dict[str, float] = {}
    held_out: dict[str, float] = {}
    outside = 0.0
    for k, value in enumerate(values):
        x = pool.x[index == k]
        own = stack(x, fit_mixture(lenders(source, value), seed), rng.split(seed, "label", k), shape=shape)
        m = own.mixture
        parts.append(Mixture(m.weights, m.means, m.covs, value.expand(len(m.weights), *value.shape).clone()))
        name = label_name(value)
        weights |= {f"{name}: {key}": w for key, w in own.weights.items()}
        held_out |= {f"{name}: {key}": v for key, v in own.held_out.items()}
        outside += own.outside * len(x) / pool.n
    return Stack(pooled(parts, torch.bincount(index).double()), weights, held_out, outside)


def lenders(source: Points, value: Tensor) -> Tensor:
    """Source points of one label, or all where they are too few."""
    if source.y is None:
        return source.x
    rows = source.y == value if source.y.ndim == 1 else (source.y == value).all(1)
    return source.x[rows] if int(rows.sum()) >= LENDERS * source.x.shape[1] else source.x


def label_name(value: Tensor) -> str:
    """A class index, or the digits of a multi-hot row."""
    return str(int(value)) if value.ndim == 0 else "".join(str(int(v)) for v in value)
