"""Every random number has an address; nothing depends on what was drawn before."""

import itertools

import pytest
import torch

from diffgraft import rng

LIKE = torch.zeros((), dtype=torch.float64)


def test_a_stream_is_named_by_its_seed_and_names_on_every_platform():
    assert rng.split(0, "noise", 3) == 7552820456532672114
    assert rng.split(1, "noise", 3) != rng.split(0, "noise", 3)


def test_streams_differ_and_fit_a_generator():
    names = [(), ("a",), ("b",), ("a", "b"), ("ab",), (1,), (12,), (1, 2), ("a", 1), (-1,)]
    seeds = {rng.split(seed, *name) for seed in (0, 1, 11, 2**63 - 1) for name in names}
    assert len(seeds) == 4 * len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_starts_afresh_each_time(leaves_rng_alone):
    a, b = (torch.randn(7, generator=rng.generator(3, "x")) for _ in range(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, torch.randn(7, generator=rng.generator(3, "y")))


def test_seed_from_draws_once_from_the_generator_given(leaves_rng_alone):
    g = torch.Generator().manual_seed(0)
    first, second = rng.seed_from(g), rng.seed_from(g)
    assert first != second
    assert first == rng.seed_from(torch.Generator().manual_seed(0))
    assert 0 <= first < 2**63 - 1


def test_without_a_generator_the_global_seed_decides():
    torch.manual_seed(4)
    first = rng.seed_from(None)
    torch.manual_seed(4)
    assert rng.seed_from(None) == first
    assert rng.seed_from(None) != first


@pytest.mark.parametrize("shape", [(), (3,), (3, 11), (rng.LARGE,)])
def test_noise_depends_on_seed_step_and_index_alone(shape, leaves_rng_alone):
    n = 11 if shape == (rng.LARGE,) else 600
    whole = rng.sample_noise(5, 2, 0, n, shape, LIKE)
    assert whole.shape == (n, *shape)
    cuts = [0, 1, 7, n] if n == 11 else [0, 1, 7, 200, 301, 512, n]
    assert torch.equal(whole, torch.cat([rng.sample_noise(5, 2, a, b, shape, LIKE) for a, b in itertools.pairwise(cuts)]))
    assert torch.equal(whole[n - 1 :], rng.sample_noise(5, 2, n - 1, n, shape, LIKE))
    for seed, step in ((6, 2), (5, 3), (5, -1)):
        assert not torch.isclose(whole, rng.sample_noise(seed, step, 0, n, shape, LIKE)).all()


@pytest.mark.parametrize("shape", [(3,), (rng.LARGE,)])
def test_no_sample_repeats_another(shape):
    n = 11 if shape == (rng.LARGE,) else 1003
    rows = torch.cat([rng.sample_noise(0, step, 0, n, shape, LIKE) for step in (-1, 0, 1)])
    assert len(rows.unique(dim=0)) == 3 * n


def test_noise_is_standard_normal():
    x = rng.sample_noise(0, 0, 0, 40_000, (3,), LIKE)
    assert x.mean(0).abs().max() < 0.02
    assert (x.T.cov() - torch.eye(3)).abs().max() < 0.03
    assert torch.quantile(x[:, 0], 0.975).item() == pytest.approx(1.96, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_takes_the_dtype_asked_for_and_keeps_its_values(dtype):
    x = rng.sample_noise(0, 0, 3, 10, (3,), torch.zeros((), dtype=dtype))
    assert x.dtype == dtype
    assert torch.equal(x.float(), rng.sample_noise(0, 0, 3, 10, (3,), torch.zeros(())))
