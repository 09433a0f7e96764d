"""Metrics in blocks against formulas over whole matrices, scikit-learn, SciPy and POT."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.neighbors import NearestNeighbors

from diffgraft import pairs
from diffgraft.metrics.catalog import evaluate
from diffgraft.metrics.kernel import bandwidth, mmd
from diffgraft.metrics.neighbours import coverage, density, memorisation, precision, recall
from diffgraft.metrics.protocol import _halves
from diffgraft.metrics.transport import frechet, wasserstein_1


def clouds(n=401, m=307, d=5):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g).double(), 0.7 * torch.randn(m, d, generator=g).double() + 0.4


def dense(x, y, k):
    """Precision, recall, density and coverage by whole matrices, as their papers write them."""
    between, r_x, r_y = cdist(y, x), *(np.sort(cdist(z, z), 1)[:, k] for z in (x, y))
    inside = between <= r_y[:, None]
    return inside.any(0).mean(), (between <= r_x).any(1).mean(), inside.sum(0).mean() / k, (between.min(1) <= r_y).mean()


@pytest.mark.parametrize(("n", "m", "d"), [(401, 307, 2), (120, 307, 5), (307, 120, 20)])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbour_scores_agree_with_whole_matrices(n, m, d, k, monkeypatch):
    x, y = clouds(n, m, d)
    monkeypatch.setattr(pairs, "CHUNK", 5000)
    assert [score(x, y, k) for score in (precision, recall, density, coverage)] == pytest.approx(dense(x.numpy(), y.numpy(), k), rel=1e-12)


@pytest.mark.parametrize("k", [1, 5])
def test_neighbour_scores_agree_with_prdc(k):
    theirs = pytest.importorskip("prdc").compute_prdc
    x, y = clouds(401, 307, 5)
    found = theirs(real_features=y.numpy(), fake_features=x.numpy(), nearest_k=k)
    assert {score.__name__: score(x, y, k) for score in (precision, recall, density, coverage)} == pytest.approx(found, rel=1e-12)


def test_coverage_of_features_is_that_of_both_halves_of_the_reference():
    x, real = clouds(60, 120, 3)
    found = evaluate(x, real, features=lambda z: z[:, :2] ** 3, metrics=["feature_coverage"])["feature_coverage"]
    halves = _halves(real.float()[:, :2] ** 3, 0, 0, 60)
    assert found["value"] == pytest.approx(np.mean([dense((x.float()[:, :2] ** 3).numpy(), half.numpy(), 5)[3] for half in halves]))
    assert found["n"] == 60 and found["floor"] > found["value"]


def test_memorisation_agrees_with_scikit_learn():
    x, train = clouds()
    held_out = train + 0.1
    to_train, to_held_out = (NearestNeighbors(n_neighbors=1).fit(z.numpy()).kneighbors(x.numpy())[0][:, 0] for z in (train, held_out))
    assert memorisation(x, train, held_out) == pytest.approx(np.median(to_train / to_held_out), rel=1e-9)


def test_mmd_agrees_with_scikit_learn():
    x, y = clouds()

    def mean_kernel(a, b):
        total = sum(rbf_kernel(a.numpy(), b.numpy(), gamma=1 / (2 * (2.0**j * bandwidth(y)) ** 2)) for j in range(-2, 3)) / 5
        return (total.sum() - len(a)) / (len(a) * (len(a) - 1)) if a is b else total.mean()

    assert mmd(x, y) == pytest.approx(mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y), rel=1e-9)
    assert mmd(x.float(), y.float()) == pytest.approx(mmd(x, y), rel=1e-4)


def test_frechet_agrees_with_scipy():
    x, y = clouds()
    c_x, c_y = np.cov(x.numpy().T), np.cov(y.numpy().T)
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(c_x + c_y - 2 * sqrtm(c_x @ c_y).real)
    assert frechet(x, y) == pytest.approx(exact, rel=1e-9)


def test_frechet_agrees_with_pot():
    ot = pytest.importorskip("ot", reason="POT is not installed: pip install 'diffgraft[parity]'")
    x, y = (z.numpy() for z in clouds())
    root = ot.gaussian.bures_wasserstein_distance(x.mean(0), y.mean(0), np.cov(x.T), np.cov(y.T))
    assert frechet(torch.as_tensor(x), torch.as_tensor(y)) == pytest.approx(float(root) ** 2, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(300, 300), (300, 100)])
def test_the_distance_of_numbers_agrees_with_scipy(n, m):
    x, y = clouds(n, m, 1)
    assert wasserstein_1(x, y) == pytest.approx(wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()), rel=1e-9)
