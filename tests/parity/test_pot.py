"""Transport metrics against POT, an independent implementation."""

import pytest
import torch

from diffgraft.metrics.transport import sliced_w2

ot = pytest.importorskip("ot", reason="POT is not installed: pip install 'diffgraft[parity]'")


def clouds(n=401, m=401, d=5):
    g = torch.Generator().manual_seed(0)
    return torch.randn(n, d, generator=g).double(), 0.7 * torch.randn(m, d, generator=g).double() + 0.4


def test_sliced_w2_agrees_for_equal_sizes():
    x, y = clouds()
    reference = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), n_projections=4000, seed=0)
    assert sliced_w2(x, y) == pytest.approx(reference, rel=0.05)


def test_one_dimensional_w2_agrees_exactly():
    x, y = clouds(d=1)
    assert sliced_w2(x, y) ** 2 == pytest.approx(float(ot.wasserstein_1d(x[:, 0].numpy(), y[:, 0].numpy(), p=2)), rel=1e-9)


def test_energy_distance_is_a_maximum_mean_discrepancy():
    from scipy.stats import energy_distance as scipy_energy

    from diffgraft.metrics.transport import energy_distance

    x, y = clouds(d=1, n=2003, m=1501)
    # scipy gives the square root of the biased statistic over 2; compare its unbiased twin
    n, m = len(x), len(y)
    biased = 2 * float(torch.cdist(x, y).mean()) - float(torch.cdist(x, x).mean()) - float(torch.cdist(y, y).mean())
    assert scipy_energy(x[:, 0].numpy(), y[:, 0].numpy()) ** 2 == pytest.approx(biased, rel=1e-6)
    correction = float(torch.cdist(x, x).mean()) / (n - 1) + float(torch.cdist(y, y).mean()) / (m - 1)
    assert energy_distance(x, y) == pytest.approx(biased - correction, rel=1e-6)
