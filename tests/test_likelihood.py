"""Log-density through the probability-flow ODE against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

import diffgraft as dg
from diffgraft import likelihood
from diffgraft.data import Transform
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.likelihood import log_prob
from diffgraft.tasks.mixtures import hard

B, D = 7, 3
TABLE = dg.discrete((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))
SCHEDULES = {"vp": dg.vp(), "cosine": dg.cosine(), "rectified": dg.rectified(), "edm": dg.edm(), "discrete": TABLE}
TRUTH = hard(11, n_source=13, dim=D).truth

AT_NOISE = 0.05
"""How well p_t at t_max, where means are 1 / 80 to 1 / 1000 of the noise, is known to be N(0, I) there, in nats."""

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(mean, cov):
    return Mixture(torch.ones(1, dtype=torch.float64), mean[None], cov[None])


ROOT = rand(D, D, seed=3)
CORRELATED = gaussian(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64), ROOT @ ROOT.T / D + 0.1 * torch.eye(D, dtype=torch.float64))


def flow_log_prob(mixture, schedule, x):
    """The exact solution of the same ODE for one Gaussian, from the same start to the same N(0, 1 + sigma^2 / alpha^2)."""
    ends = schedule.log_snr(torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64))
    low, high = (-ends).exp()  # (sigma / alpha)^2
    var, axes = torch.linalg.eigh(mixture.covs[0])
    stretch = ((var + high) / (var + low)).sqrt()
    z = mixture.means[0] + ((x - mixture.means[0]) @ axes * stretch) @ axes.T
    base = -(z**2).sum(1) / (2 * (1 + high)) - D / 2 * (2 * math.pi * (1 + high)).log()
    return base + stretch.log().sum()


@every_schedule
def test_a_standard_normal(schedule):
    model = MixtureDenoiser(gaussian(torch.zeros(D, dtype=torch.float64), torch.eye(D, dtype=torch.float64)), schedule)
    x = 2 * rand(B, D)
    wanted = -(x**2).sum(1) / 2 - D / 2 * math.log(2 * math.pi)
    # the model's density is that of its samples, which keep the noise of t_min
    torch.testing.assert_close(log_prob(model, x), wanted, rtol=0, atol=3e-3)


@every_schedule
def test_fourth_order_of_convergence(schedule):
    model, x, errors, steps = MixtureDenoiser(CORRELATED, schedule), rand(B, D), [], [30, 60, 120]
    for n in steps:
        errors.append(float((log_prob(model, x, steps=n) - flow_log_prob(CORRELATED, schedule, x)).abs().max()))
    assert errors[-1] < 3e-4
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(4, abs=0.3)


@every_schedule
def test_a_correlated_gaussian(schedule):
    x = rand(B, D)
    wanted = MultivariateNormal(CORRELATED.means[0], CORRELATED.covs[0]).log_prob(x)
    torch.testing.assert_close(log_prob(MixtureDenoiser(CORRELATED, schedule), x), wanted, rtol=0, atol=AT_NOISE)


@every_schedule
def test_a_mixture(schedule):
    x = TRUTH.p.sample(B, seed=0).x.double()
    torch.testing.assert_close(log_prob(TRUTH.under(schedule).source, x), TRUTH.log_prob_source(x), rtol=0, atol=AT_NOISE)


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_labels_give_the_conditional_density(kind):
    truth = hard(11, n_source=13, dim=D, labels=kind).truth
    x, y = truth.q.sample(B, seed=0)
    y[3] = -1
    x = x.double()
    torch.testing.assert_close(log_prob(truth.target, x, y), truth.log_prob_target(x, y), rtol=0, atol=AT_NOISE)
    torch.testing.assert_close(log_prob(truth.target, x), truth.log_prob_target(x), rtol=0, atol=AT_NOISE)


@every_schedule
def test_a_guided_model_has_the_density_of_its_target(schedule):
    truth = TRUTH.under(schedule)
    x = truth.q.sample(B, seed=0).x.double()
    model = dg.Guided(truth.source, dg.ratio_shift(truth.log_h, schedule))
    torch.testing.assert_close(log_prob(model, x, steps=20), log_prob(truth.target, x, steps=20), rtol=0, atol=1e-6)


def test_densities_integrate_to_one():
    truth = hard(11, n_source=13, dim=1, n_components=3).truth
    x = torch.linspace(-6, 6, 401, dtype=torch.float64)[:, None]
    mass = log_prob(truth.target, x, steps=60).exp().sum() * (x[1] - x[0])
    assert mass.item() == pytest.approx(1, abs=1e-3)


# Units


@pytest.mark.parametrize("shape", [(D,), (D, 2)])
def test_densities_are_in_data_units(shape):
    d = math.prod(shape)
    model = dg.Net(Unit(dg.cosine()), dg.cosine(), predicts="x0", shape=shape)  # the exact denoiser of N(0, I)
    model.transform = Transform(torch.full((D, *(1,) * (len(shape) - 1)), 5.0), torch.tensor([0.5, 2.0, 7.0]).reshape(D, *(1,) * (len(shape) - 1)))
    scale = model.transform.scale.double().expand(shape)
    x = 5 + scale * rand(B, *shape)
    wanted = torch.distributions.Normal(5.0, scale).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(log_prob(model, x), wanted, rtol=0, atol=1e-3 * d)


class Unit(torch.nn.Module):
    """E[x_0 | x_t] of standard normal data: alpha x_t / (alpha^2 + sigma^2)."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t):
        alpha, sigma = self.schedule(t)
        return (alpha / (alpha**2 + sigma**2)).reshape(-1, *(1,) * (x_t.ndim - 1)) * x_t


# Hutchinson's estimate


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_estimate_is_exact_where_the_jacobian_is_a_multiple_of_one():
    model = MixtureDenoiser(gaussian(torch.ones(D, dtype=torch.float64), 0.3 * torch.eye(D, dtype=torch.float64)), dg.vp())
    x = rand(B, D)
    torch.testing.assert_close(log_prob(model, x, exact=False, generator=seeded()), log_prob(model, x))


def test_the_estimate_is_unbiased_and_gains_from_probes():
    model, x, n = MixtureDenoiser(CORRELATED, dg.vp()), rand(1, D), 400
    exact = log_prob(model, x, steps=15)
    one, four = (log_prob(model, x.expand(n, D), steps=15, exact=False, probes=k, generator=seeded()) - exact for k in (1, 4))
    assert one.std() > 0.05
    assert abs(one.mean()) < 4 * one.std() / n**0.5
    assert abs(four.mean()) < 4 * four.std() / n**0.5
    assert float(four.std() / one.std()) == pytest.approx(0.5, abs=0.1)


def test_the_estimate_follows_its_generator_alone(leaves_rng_alone):
    model, x = MixtureDenoiser(CORRELATED, dg.vp()), rand(300, D)
    a, b, c = (log_prob(model, x, steps=5, exact=False, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert (a != c).float().mean() > 0.5  # signs in three dimensions repeat now and then


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("batch_size", [7, 101, 256])
def test_independent_of_the_batch_split(exact, batch_size):
    model, x = TRUTH.source, rand(300, D)
    whole = log_prob(model, x, steps=5, exact=exact, generator=seeded())
    torch.testing.assert_close(log_prob(model, x, steps=5, exact=exact, generator=seeded(), batch_size=batch_size), whole)


@pytest.mark.parametrize("batch_size", [7, 256])
def test_labels_follow_their_batch(batch_size):
    truth = dg.tasks.mixtures.hard(10, dim=D, labels="classes").truth
    x, y = truth.sample_target(300, 1)
    whole = log_prob(truth.target, x, y, steps=5)
    torch.testing.assert_close(log_prob(truth.target, x, y, steps=5, batch_size=batch_size), whole)


def test_the_estimate_takes_over_in_high_dimension(monkeypatch):
    model, x = MixtureDenoiser(CORRELATED, dg.vp()), rand(B, D)
    exact, estimate = (log_prob(model, x, steps=5, exact=e, generator=seeded()) for e in (True, False))
    assert torch.equal(log_prob(model, x, steps=5, generator=seeded()), exact)
    monkeypatch.setattr(likelihood, "EXACT_UP_TO", D - 1)
    assert torch.equal(log_prob(model, x, steps=5, generator=seeded()), estimate)
    assert not torch.isclose(exact, estimate).all()


# Gradients


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("exact", [True, False])
def test_every_grad_mode_gives_the_same_numbers(mode, exact):
    truth = hard(11, n_source=13, dim=D, labels="classes").truth
    model = dg.Guided(truth.source, dg.ratio_shift(truth.log_h, truth.schedule))
    wanted = log_prob(model, rand(B, D), torch.arange(B) % 3, steps=4, exact=exact, generator=seeded())
    with mode():
        out = log_prob(model, rand(B, D), torch.arange(B) % 3, steps=4, exact=exact, generator=seeded())
    assert not out.requires_grad
    assert torch.equal(out.clone(), wanted)


def test_weights_get_no_gradients():
    net = dg.Net(Linear(), dg.vp(), predicts="x0", shape=(D,))
    out = log_prob(net, rand(B, D).float(), steps=3)
    assert not out.requires_grad
    assert all(p.grad is None for p in net.parameters())


class Linear(torch.nn.Linear):
    """A linear map that is told the time."""

    def __init__(self):
        super().__init__(D, D)

    def forward(self, x, t):
        return super().forward(x)
