"""Gaussian mixtures: every closed form against an independent one."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

import diffgraft as dg
from diffgraft.errors import BadData
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.tasks.mixtures import Truth, hard, shifted

B = 7
SCHEDULES = {"vp": dg.vp(), "cosine": dg.cosine(), "rectified": dg.rectified(), "edm": dg.edm()}
DIMS = [1, 2, 3, 8, 32]

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_dim = pytest.mark.parametrize("dim", DIMS)


def world(dim=3, labels="none", **settings):
    return hard(11, n_source=13, dim=dim, labels=labels, **settings).truth


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def as_torch(mixture, alpha=1.0, sigma=0.0):
    """The noised mixture from torch.distributions."""
    eye = torch.eye(mixture.dim, dtype=torch.float64)
    parts = MultivariateNormal(alpha * mixture.means, alpha**2 * mixture.covs + sigma**2 * eye)
    return MixtureSameFamily(Categorical(mixture.weights), parts)


def only(mixture, kept):
    """The mixture of these components alone."""
    w = mixture.weights[kept]
    return Mixture(w / w.sum(), mixture.means[kept], mixture.covs[kept])


def posterior_mean(mixture, x_t, alpha, sigma):
    """E[x_0 | x_t] component by component, with explicit inverses."""
    eye = torch.eye(mixture.dim, dtype=torch.float64)
    log_p, means = [], []
    for w, m, c in zip(mixture.weights, mixture.means, mixture.covs, strict=True):
        noised = alpha**2 * c + sigma**2 * eye
        log_p.append(w.log() + MultivariateNormal(alpha * m, noised).log_prob(x_t))
        means.append(m + (x_t - alpha * m) @ torch.linalg.inv(noised) @ (alpha * c))
    return (torch.stack(log_p, 1).softmax(1)[..., None] * torch.stack(means, 1)).sum(1)


# Densities and denoisers


@every_dim
@every_schedule
def test_log_density_at_every_noise_level(schedule, dim):
    p = world(dim).p
    for t in torch.tensor([0.01, 0.3, 0.9], dtype=torch.float64):
        alpha, sigma = schedule(t)
        x = alpha * rand(B, dim) + sigma * rand(B, dim, seed=1)
        torch.testing.assert_close(p.log_prob(x, alpha, sigma), as_torch(p, alpha, sigma).log_prob(x))


@every_dim
def test_log_density_of_clean_points(dim):
    truth, x = world(dim), rand(B, dim)
    torch.testing.assert_close(truth.log_prob_source(x), as_torch(truth.p).log_prob(x))
    torch.testing.assert_close(truth.log_prob_target(x), as_torch(truth.q).log_prob(x))


def test_log_density_far_out_is_finite():
    x = torch.full((B, 3), 1e3, dtype=torch.float64)
    assert torch.isfinite(world().p.log_prob(x)).all()
    assert torch.isfinite(world().source(x, torch.tensor(0.01))).all()


@every_dim
@every_schedule
def test_the_denoiser_is_the_posterior_mean(schedule, dim):
    p = world(dim).p
    t = torch.linspace(0.05, 0.95, B, dtype=torch.float64)
    x = rand(B, dim)
    wanted = torch.cat([posterior_mean(p, x[i : i + 1], *schedule(t[i])) for i in range(B)])
    torch.testing.assert_close(MixtureDenoiser(p, schedule)(x, t), wanted)


@every_dim
def test_the_denoiser_obeys_tweedie(dim):
    p, schedule = world(dim).p, dg.vp()
    alpha, sigma = schedule(torch.tensor(0.3, dtype=torch.float64))
    x = rand(B, dim).requires_grad_()
    score = torch.autograd.grad(as_torch(p, alpha, sigma).log_prob(x).sum(), x)[0]
    wanted = (x.detach() + sigma**2 * score) / alpha
    torch.testing.assert_close(MixtureDenoiser(p, schedule)(x.detach(), torch.tensor(0.3, dtype=torch.float64)), wanted)


def test_the_denoiser_is_the_mean_of_clean_samples_near_a_noisy_one():
    p, n = world(1).p, 400_000
    x_0 = p.sample(n, seed=0).x.double()
    alpha, sigma = dg.vp()(torch.tensor(0.3, dtype=torch.float64))
    x_t = alpha * x_0 + sigma * rand(n, 1)
    at = torch.tensor([[-0.5], [0.0], [0.8]], dtype=torch.float64)
    for point, guess in zip(at, MixtureDenoiser(p, dg.vp())(at, torch.tensor(0.3, dtype=torch.float64)), strict=True):
        near = x_0[((x_t - point).abs() < 0.02)[:, 0]]
        assert abs(near.mean() - guess) < 4 * near.std() / len(near) ** 0.5 + 2e-3


def test_a_world_first_used_in_inference_mode_has_gradients_later():
    q, x, t = world().q, rand(B, 3).requires_grad_(), torch.tensor(0.3, dtype=torch.float64)
    fresh = Mixture(q.weights, q.means, q.covs)  # nothing kept yet
    with torch.inference_mode():
        fresh.log_prob(rand(B, 3), t, t)
    assert torch.isfinite(torch.autograd.grad(fresh.log_prob(x, t, t).sum(), x)[0]).all()


def test_single_precision_is_enough():
    truth = world(8)
    x, t = rand(B, 8), torch.linspace(0.001, 1, B, dtype=torch.float64)
    torch.testing.assert_close(truth.source(x.float(), t.float()).double(), truth.source(x, t), rtol=1e-3, atol=1e-4)


@every_dim
@every_schedule
def test_log_h_is_the_difference_of_the_log_densities(schedule, dim):
    truth = world(dim).under(schedule)
    assert isinstance(truth, Truth)
    assert truth.source.schedule == truth.target.schedule == schedule
    t = torch.tensor(0.4, dtype=torch.float64)
    x = rand(B, dim)
    wanted = as_torch(truth.q, *schedule(t)).log_prob(x) - as_torch(truth.p, *schedule(t)).log_prob(x)
    torch.testing.assert_close(truth.log_h(x, t), wanted)


# Labels


def chosen(mixture, y):
    """Which components carry a label."""
    if (y == -1).all():
        return torch.arange(len(mixture.weights))
    match = mixture.labels == y if mixture.labels.ndim == 1 else (mixture.labels == y).all(1)
    return match.nonzero()[:, 0]


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_a_label_leaves_its_components(kind):
    truth, t = world(labels=kind), torch.tensor(0.3, dtype=torch.float64)
    alpha, sigma = truth.schedule(t)
    values = truth.source.prior.values
    y = values[torch.arange(B) % len(values)].clone()
    y[3] = -1
    x = rand(B, 3)
    for mixture, denoiser in ((truth.p, truth.source), (truth.q, truth.target)):
        log_p, x_0 = mixture.log_prob(x, alpha, sigma, y), denoiser(x, t, y)
        for i in range(B):
            part = only(mixture, chosen(mixture, y[i]))
            torch.testing.assert_close(log_p[i : i + 1], as_torch(part, alpha, sigma).log_prob(x[i : i + 1]))
            torch.testing.assert_close(x_0[i : i + 1], posterior_mean(part, x[i : i + 1], alpha, sigma))


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_labels_mixed_by_their_prior_give_the_whole(kind):
    p, x = world(labels=kind).p, rand(B, 3)
    prior = MixtureDenoiser(p, dg.vp()).prior
    parts = torch.stack([p.log_prob(x, y=value.expand(B, *value.shape)) for value in prior.values])
    torch.testing.assert_close((prior.probs.double().log()[:, None] + parts).logsumexp(0), p.log_prob(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("kind", "n_classes"), [("none", 0), ("classes", 3), ("multi-hot", 3)])
def test_labels_of_the_components(kind, n_classes):
    p = world(labels=kind).p
    assert p.n_classes == MixtureDenoiser(p, dg.vp()).n_classes == n_classes
    if kind == "classes":
        assert p.labels.tolist() == [0, 0, 1, 1, 2, 2]
    if kind == "multi-hot":
        assert p.labels.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1]]


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_points_carry_the_label_of_their_component(kind):
    p = world(labels=kind).p
    tight = Mixture(p.weights, 50 * p.means, p.covs, p.labels)
    x, y = tight.sample(503, seed=0)
    nearest = torch.cdist(x.double(), tight.means).argmin(1)
    assert torch.equal(y, p.labels[nearest])


def test_a_label_for_a_world_without_labels_is_refused():
    with pytest.raises(BadData, match="no labels"):
        world().source(rand(B, 3), torch.tensor(0.5), torch.zeros(B).long())
    with pytest.raises(BadData, match="'multihot'"):
        hard(labels="multihot")


# Samples


@every_dim
def test_samples_follow_the_mixture(dim):
    p, n = world(dim).p, 20_000
    x = p.sample(n, seed=0).x
    assert x.dtype == torch.float32
    x = x.double()
    mean = p.weights @ p.means
    second = torch.einsum("k,kde->de", p.weights, p.covs + p.means[:, :, None] * p.means[:, None])
    assert (x.mean(0) - mean).abs().max() < 5 * x.std(0).max() / n**0.5
    assert (x.T @ x / n - second).abs().max() < 0.15
    surprise, reference = -p.log_prob(x[:2000]), -p.log_prob(as_torch(p).sample((2000,)))
    assert abs(surprise.mean() - reference.mean()) < 5 * surprise.std() * (2 / 2000) ** 0.5


def test_one_seed_gives_one_world_and_one_draw(leaves_rng_alone):
    a, b, c, d = hard(11, 0, n_source=13), hard(11, 0, n_source=13), hard(11, 1, n_source=13), hard(11, 0, n_source=13, world_seed=1)
    for x, y in ((a.data.source, b.data.source), (a.data.target, b.data.target), (a.test, b.test)):
        assert torch.equal(x.x, y.x)
    assert torch.equal(a.truth.p.means, c.truth.p.means)
    assert not torch.equal(a.truth.p.means, d.truth.p.means)
    for x, y in ((a.data.source, c.data.source), (a.data.target, c.data.target), (a.test, c.test)):
        assert len(torch.cat([x.x, y.x]).unique(dim=0)) == len(x.x) + len(y.x)


@pytest.mark.parametrize("make", [shifted, hard])
def test_a_task_has_disjoint_parts_of_the_sizes_asked_for(make):
    task = make(11, 3, n_source=13)
    assert (task.data.target.n, task.data.source.n) == (11, 13)
    rows = torch.cat([task.data.target.x, task.data.source.x, task.test.x])
    assert len(rows.unique(dim=0)) == len(rows)
    assert (task.config["n_target"], task.config["n_source"], task.config["seed"]) == (11, 13, 3)
    assert torch.equal(task.transform.forward(rows), rows)
    assert task.truth.schedule == dg.vp()
    assert make(11, schedule=dg.edm(), n_source=13).truth.schedule == dg.edm()


def test_perfect_samples_of_the_target():
    task = shifted(11, n_source=13)
    x = task.truth.sample_target(20_000, 5).x
    assert torch.equal(x, task.truth.sample_target(20_000, 5).x)
    assert float(task.truth.log_prob_target(x.double()).exp().mean()) == pytest.approx(0.4006, abs=0.01)


# The simulation of section 4.1


def test_shifted_is_the_simulation_of_the_paper():
    p, q = shifted(11, n_source=13).truth.p, shifted(11, n_source=13).truth.q
    assert p.means.tolist() == [[0.5, 0.5], [-0.5, -0.5]]
    assert q.means.tolist() == [[0.5, -0.5], [-0.5, 0.5]]
    for mixture in (p, q):
        assert mixture.weights.tolist() == [0.5, 0.5]
        torch.testing.assert_close(mixture.covs, 0.1 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2))


def test_the_average_likelihood_of_perfect_samples():
    q = shifted(11, n_source=13).truth.q
    both = MultivariateNormal(q.means[:, None].expand(2, 2, 2), (q.covs[:, None] + q.covs[None]))
    overlap = both.log_prob(q.means[None].expand(2, 2, 2)).exp()  # int N(m_i, C_i) N(m_j, C_j)
    assert float(q.weights @ overlap @ q.weights) == pytest.approx(0.4006, abs=5e-5)


def test_the_divergence_of_the_target_from_the_source():
    truth = shifted(11, n_source=13).truth
    line = torch.linspace(-3, 3, 601, dtype=torch.float64)
    x = torch.cartesian_prod(line, line)
    log_q, log_p = truth.log_prob_target(x), truth.log_prob_source(x)
    cell = float(line[1] - line[0]) ** 2
    assert float(log_q.exp().sum()) * cell == pytest.approx(1, abs=1e-6)
    assert float((log_q.exp() * (log_q - log_p)).sum()) * cell == pytest.approx(3.1, abs=0.05)


@every_dim
def test_hard_worlds_are_proper(dim):
    truth = world(dim)
    for mixture in (truth.p, truth.q):
        assert float(mixture.weights.sum()) == pytest.approx(1)
        assert (mixture.weights > 0).all()
        var = torch.linalg.eigvalsh(mixture.covs)
        assert (var > 0.049).all()
        assert (var < 0.51).all()
    assert not torch.isclose(truth.p.means, truth.q.means).any()
    assert torch.equal(truth.p.covs, truth.q.covs)
    same = hard(11, n_source=13, dim=dim, shift=0.0).truth
    torch.testing.assert_close(same.p.means, same.q.means)
    torch.testing.assert_close(same.p.weights, same.q.weights)


def test_the_prior_of_a_denoiser_is_the_weight_of_its_labels():
    p = world(labels="classes").p
    prior = MixtureDenoiser(p, dg.vp()).prior
    assert prior.values.tolist() == [0, 1, 2]
    torch.testing.assert_close(prior.probs.double(), p.weights.reshape(3, 2).sum(1), rtol=1e-6, atol=1e-6)
    assert MixtureDenoiser(world().p, dg.vp()).prior is None
    assert math.isclose(float(prior.probs.sum()), 1, abs_tol=1e-6)


def test_a_label_that_no_component_carries_is_refused():
    truth = dg.tasks.mixtures.hard(7, dim=3, labels="classes").truth
    with pytest.raises(BadData, match="no component"):
        truth.target(torch.zeros(2, 3), torch.tensor(0.5), torch.tensor([0, 99]))
