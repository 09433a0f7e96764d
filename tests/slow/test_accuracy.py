"""The default sampler with the exact score on section 4.1, against perfect samples from the same noise."""

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/accuracy.py"))


@pytest.fixture(scope="module")
def excess():
    return BENCHMARK["compare"](["dpmpp_2m", "ddim"])


def test_the_default_sampler_stays_two_standard_errors_below_the_bounds(excess):
    e = excess["dpmpp_2m"]
    assert e.kl + 2 * e.kl_error < 0.002
    assert e.energy + 2 * e.energy_error < 1e-4


def test_the_measure_is_sharp_enough_to_see_a_first_order_sampler(excess):
    assert excess["dpmpp_2m"].kl_error < 5e-4
    assert excess["dpmpp_2m"].energy_error < 1e-5
    assert excess["ddim"].kl - 10 * excess["ddim"].kl_error > 0.01
    assert excess["ddim"].energy - 10 * excess["ddim"].energy_error > 1e-3


def test_the_reference_is_perfect():
    torch, q = BENCHMARK["torch"], BENCHMARK["target"]().mixture
    z = torch.randn(40_000, 2, generator=BENCHMARK["generator"](1, "reference"), dtype=torch.float64)
    reference, exact = BENCHMARK["perfect"](BENCHMARK["target"](), z), q.sample(40_000, seed=1).x.double()
    e = BENCHMARK["excess"](reference, exact, q)
    assert abs(e.kl) < 4 * e.kl_error
    assert abs(e.energy) < 4 * e.energy_error
    distances = torch.cdist(reference[:500], exact).mean(1)
    torch.testing.assert_close(BENCHMARK["mean_distance"](reference[:500], q), distances, rtol=0, atol=0.02)
