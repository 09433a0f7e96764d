"""Samplers: their order of convergence against closed forms; noise that depends on the sample alone."""

import weakref

import numpy as np
import pytest
import torch
from instances import SAMPLERS, SCHEDULES, B, D, exact_guided, gaussian, generator, label, net, rand, world

import diffgraft as dg
from diffgraft import rng
from diffgraft.data import Transform
from diffgraft.errors import BadData, BadModel, BadPlan
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.guide import interval, ratio_shift, toward
from diffgraft.samplers import Grid, sample
from diffgraft.shapes import expand

ORDER = {"ddim": 1, "ddpm": 1, "heun": 2, "dpmpp_2s": 2, "dpmpp_2m": 2}
PASSES = {"heun": 2, "dpmpp_2s": 2}
STEPS = [32, 64, 128, 256]

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS)


def walk(sampler, model, x, grid, y=None, noise=None):
    """The last of a sampler's steps."""
    *_, x = SAMPLERS[sampler](model, x, grid, y, noise)
    return x


def order(errors):
    """The slope of log error on log steps."""
    return -np.polyfit(np.log(STEPS), np.log(errors), 1)[0]


def test_every_sampler_has_a_declared_order():
    assert set(ORDER) == set(SAMPLERS)


# Order of convergence


def correlated():
    """N(m, C) in three dimensions."""
    root = rand(D, D, seed=3)
    cov = root @ root.T / D + 0.1 * torch.eye(D, dtype=torch.float64)
    return Mixture(torch.ones(1, dtype=torch.float64), torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64), cov[None])


def flow(mixture, grid, x):
    """Where the probability-flow ODE of one Gaussian takes x from the start of the grid to its end."""
    var, axes = torch.linalg.eigh(mixture.covs[0])
    scale = [(a**2 * var + s**2).sqrt() for a, s in zip(grid.alpha, grid.sigma, strict=True)]
    return grid.alpha[-1] * mixture.means[0] + ((x - grid.alpha[0] * mixture.means[0]) @ axes * scale[-1] / scale[0]) @ axes.T


@every_schedule
@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"ddpm"}))
def test_order_of_convergence(sampler, name):
    model, errors = MixtureDenoiser(correlated(), SCHEDULES[name]), []
    for steps in STEPS:
        grid = Grid.log_snr(SCHEDULES[name], steps)
        x = float(np.hypot(grid.alpha[0], grid.sigma[0])) * rand(B, D)
        errors.append(float((walk(sampler, model, x, grid) - flow(model.mixture, grid, x)).abs().max()))
    assert errors[-1] < (0.05 if ORDER[sampler] == 1 else 2e-3)
    assert order(errors) == pytest.approx(ORDER[sampler], abs=0.12)


def ddpm_variance(model, grid, start):
    """Variance of ddpm's output from a start of that variance: its steps are affine in x and in every noise."""
    n = grid.steps
    x = torch.zeros(n + 2, 1, dtype=torch.float64)
    x[1] = 1.0  # row 0: nothing; row 1: a unit start; row 2 + i: unit noise at step i

    def noise(i, x):
        e = torch.zeros_like(x)
        e[2 + i] = 1.0
        return e

    out = walk("ddpm", model, x, grid, noise=noise)[:, 0]
    return float(start * (out[1] - out[0]) ** 2 + ((out[2:] - out[0]) ** 2).sum())


@every_schedule
def test_weak_order_of_convergence_of_ddpm(name):
    mean, std, errors = 1.5, 0.6, []
    model = gaussian(mean, std, SCHEDULES[name])
    for steps in STEPS:
        grid = Grid.log_snr(SCHEDULES[name], steps)
        start, end = (a**2 * std**2 + s**2 for a, s in zip((grid.alpha[0], grid.alpha[-1]), (grid.sigma[0], grid.sigma[-1]), strict=True))
        errors.append(abs(ddpm_variance(model, grid, start) - end))
        middle = walk("ddpm", model, torch.full((1, 1), grid.alpha[0] * mean, dtype=torch.float64), grid, noise=lambda i, x: torch.zeros_like(x))
        assert middle.item() == pytest.approx(grid.alpha[-1] * mean, abs=1e-9)  # the mean is exact at any number of steps
    assert errors[-1] < 0.02
    assert order(errors) == pytest.approx(1, abs=0.12)


# The one-dimensional check: source N(0, 1), target N(1.5, 1), the exact ratio


def one_dimension(schedule):
    def log_h(x_t, t, y):
        alpha_t, sigma_t = (expand(a, x_t) for a in schedule(t))
        mean = 1.5 * alpha_t
        return ((mean * x_t - mean**2 / 2) / (alpha_t**2 + sigma_t**2)).flatten()

    source = gaussian(0.0, 1.0, schedule)
    return dg.Guided(source, ratio_shift(log_h, schedule))


def ends(schedule):
    """alpha and sigma where sampling starts, and alpha where it ends."""
    alpha, sigma = schedule(torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64))
    return float(alpha[0]), float(sigma[0]), float(alpha[1])


def still(i, x):
    return torch.zeros_like(x)


def quantiles(n=1001):
    """Symmetric points of N(0, 1): their mean is exactly 0."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)[:, None]


@every_schedule
@every_sampler
@pytest.mark.parametrize("steps", [25, 100])
def test_the_exact_start_reaches_the_target(steps, sampler, name):
    # steps are affine in x for Gaussians, so the mean of ddpm is its path without noise
    schedule = SCHEDULES[name]
    alpha, sigma, end = ends(schedule)
    out = walk(sampler, one_dimension(schedule), 1.5 * alpha + sigma * quantiles(), Grid.log_snr(schedule, steps), noise=still)
    assert float(out.mean()) == pytest.approx(1.5 * end, abs=1e-9)


@pytest.mark.parametrize("sampler", sorted(set(SAMPLERS) - {"ddpm"}))
@pytest.mark.parametrize(("name", "steps"), [("vp", 25), ("vp", 200), ("discrete", 25), ("discrete", 200)])
def test_a_start_at_the_sources_mean_is_short_by_the_signal_left_at_the_start(name, steps, sampler):
    schedule = SCHEDULES[name]
    alpha, _, end = ends(schedule)
    mean = float(walk(sampler, one_dimension(schedule), quantiles(), Grid.log_snr(schedule, steps)).mean())
    assert mean == pytest.approx(1.5 * (end - alpha), abs=2e-3 if steps == 25 else 2e-4)
    assert mean == pytest.approx(1.490, abs=0.01)


def test_random_samples_agree():
    model, n = one_dimension(dg.vp()), 100_000
    alpha, sigma, _ = ends(dg.vp())
    plain = sample(model, n, generator=generator())
    start = 1.5 * alpha + sigma * torch.randn(n, 1, generator=generator(1))
    exact = sample(model, x_start=start, generator=generator())
    assert float(plain.mean()) == pytest.approx(1.490, abs=0.01)
    assert float(exact.mean()) == pytest.approx(1.500, abs=0.01)
    assert float(plain.std()) == pytest.approx(1, abs=0.02)


# Randomness


def random_net(kind="none"):
    return net("mlp", dg.vp(), 0 if kind == "none" else 3)


@every_sampler
@pytest.mark.parametrize("kind", ["none", "classes", "multi-hot"])
def test_one_generator_gives_the_same_bits(sampler, kind, leaves_rng_alone):
    y = label(kind)
    draws = [sample(random_net(kind), B, y=y, steps=3, sampler=sampler, generator=generator(seed)) for seed in (5, 5, 6)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.isclose(draws[0], draws[2]).any()


@every_sampler
@pytest.mark.parametrize("n", [7, 300, 515])
def test_samples_do_not_depend_on_the_batch_split(sampler, n):
    whole = sample(random_net(), n, steps=3, sampler=sampler, generator=generator())
    for batch_size in (1 if n == 7 else 101, 256, 257):
        torch.testing.assert_close(sample(random_net(), n, steps=3, sampler=sampler, generator=generator(), batch_size=batch_size), whole, rtol=1e-4, atol=1e-4)


def test_a_pass_on_a_cpu_stays_within_its_caches():
    passes, a_pass = [], 40_000 * torch.get_num_threads()
    for size in (a_pass // 2, 4 * a_pass):
        model = dg.Net(lambda x_t, t: 0 * x_t, dg.vp(), predicts="x0", shape=(size,))
        sample(model, 5, steps=1, watch=lambda _, total: passes.append(total))
    assert passes == 3 * [3] + 5 * [5]


@every_sampler
def test_more_samples_begin_with_the_fewer(sampler):
    model = world("vp", "classes").source
    few, many = (sample(model, n, steps=3, sampler=sampler, generator=generator()) for n in (B, 300))
    torch.testing.assert_close(many[:B], few)


@every_sampler
def test_ddpm_alone_draws_noise_along_the_way(sampler):
    model, x = world().source, rand(B, D)
    a, b = (sample(model, x_start=x, steps=3, sampler=sampler, generator=generator(seed)) for seed in (1, 2))
    assert torch.equal(a, b) == (sampler != "ddpm")


@every_sampler
def test_a_start_is_honoured(sampler):
    truth, steps = world("cosine"), 5
    x = rand(B, D)
    out = sample(truth.source, x_start=x, steps=steps, sampler=sampler, generator=generator())
    seed = rng.seed_from(generator())
    by_hand = walk(sampler, truth.source, x, Grid.log_snr(dg.cosine(), steps), noise=lambda i, like: rng.sample_noise(seed, i, 0, B, (D,), like))
    assert torch.equal(out, by_hand)
    assert out.dtype == torch.float64
    assert torch.equal(x, rand(B, D))


@every_schedule
def test_the_default_start_has_the_scale_of_the_schedule(name):
    starts = []
    model = dg.Net(lambda x_t, t: starts.append(x_t) or x_t, SCHEDULES[name], predicts="x0", shape=(D,))
    sample(model, 2003, steps=1, sampler="ddim", generator=generator())
    alpha, sigma = (float(a) for a in SCHEDULES[name](torch.tensor(SCHEDULES[name].t_max)))
    assert float(starts[0].std()) == pytest.approx(np.hypot(alpha, sigma), rel=0.03)


# The grid


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_the_grid_is_uniform_in_log_snr_and_ends_before_the_data(name, steps):
    schedule = SCHEDULES[name]
    grid = Grid.log_snr(schedule, steps)
    assert grid.steps == steps
    assert float(grid.times[0]) == schedule.t_max
    assert float(grid.times[-1]) == schedule.t_min
    log_snr = 2 * np.log(np.array(grid.alpha) / np.array(grid.sigma))
    assert np.ptp(np.diff(log_snr)) < 1e-3 * np.diff(log_snr).mean()


@every_sampler
def test_passes_and_watching(sampler):
    calls, seen = [], []
    model = dg.Net(lambda x_t, t: calls.append(float(t[0])) or 0 * x_t, dg.vp(), predicts="x0", shape=(D,))
    sample(model, 2 * B + 1, steps=4, sampler=sampler, batch_size=B, generator=generator(), watch=lambda k, total: seen.append((k, total)))
    assert len(calls) == 3 * 4 * PASSES.get(sampler, 1)
    assert seen == [(k, 12) for k in range(1, 13)]


# Memory


@every_sampler
def test_memory_is_flat(sampler):
    alive, counts = [], []
    inner = exact_guided(world())
    scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    class Watched(dg.Denoiser):
        def forward(self, x_t, t, y=None):
            out = scale * inner(x_t, t, y)
            alive.append(weakref.ref(out))
            counts.append(sum(ref() is not None for ref in alive))
            return out

    model = Watched(inner.schedule, (D,))
    model.scale = scale
    out = sample(model, B, steps=12, sampler=sampler, generator=generator())
    assert not out.requires_grad
    assert max(counts) <= 3  # outputs of earlier steps are gone


# Weights, labels, units


def test_weight_replaces_the_models_own():
    truth = world()
    model = dg.Guided(truth.source, toward(truth.target), 1.0)
    for weight, same in ((0.0, truth.source), (None, truth.target), (1.0, truth.target), (interval(0.0, -99.0, 99.0), truth.source)):
        assert torch.equal(sample(model, B, steps=3, weight=weight, generator=generator()), sample(same, B, steps=3, generator=generator()))
    assert model.weight == 1.0
    with pytest.raises(BadModel, match="only a guided model"):
        sample(truth.source, B, weight=0.5)


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_labels_choose_the_conditional_law(kind):
    truth = world("vp", kind)
    y = label(kind)
    mixed = sample(truth.target, y=y, steps=5, generator=generator())
    for i in range(B):
        alone = sample(truth.target, y=y[i].expand(B, *y.shape[1:]).clone(), steps=5, generator=generator())
        torch.testing.assert_close(mixed[i], alone[i])


def test_labels_come_from_the_prior():
    model = world("vp", "classes").target
    seen = []
    model_seen = dg.Net(lambda x_t, t, y: seen.append(y) or x_t, dg.vp(), predicts="x0", shape=(D,), n_classes=3).like(model)
    sample(model_seen, 2003, steps=1, generator=generator())
    shares = torch.bincount(seen[0], minlength=3) / 2003
    torch.testing.assert_close(shares, model.prior.probs.float(), rtol=0, atol=0.04)


def test_samples_are_in_data_units():
    model = world().source
    moved = world().source
    x = sample(model, B, steps=3, generator=generator())
    transform, moved.transform = moved.transform, Transform(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 2.0, 4.0]))
    try:
        torch.testing.assert_close(sample(moved, B, steps=3, generator=generator()), x * moved.transform.scale + moved.transform.shift)
    finally:
        moved.transform = transform


def test_bad_requests_are_refused():
    plain, labelled = world().source, world("vp", "classes").source
    for model, request, message in (
        (plain, {}, "how many samples"),
        (plain, {"n": 0}, "how many samples"),
        (plain, {"n": 3, "x_start": rand(B, D)}, "must agree"),
        (plain, {"n": B, "steps": 0}, "steps must be at least 1"),
        (plain, {"y": torch.zeros(B)}, "takes no labels"),
        (labelled, {"y": torch.full((B,), 3)}, "below 3"),
        (labelled, {"y": torch.zeros(B, 5)}, "must have 3 columns"),
        (dg.Net(torch.nn.Identity(), dg.vp()), {"n": B}, "shape of a sample is not known"),
    ):
        with pytest.raises(BadData, match=message):
            sample(model, **request)
    with pytest.raises(BadPlan, match=r"'dpmpp_2x'.*'dpmpp_2"):
        sample(plain, B, sampler="dpmpp_2x")
