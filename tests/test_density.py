"""The density of few points: candidates, their weights, and what the source lends."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

import diffgraft as dg
from diffgraft import density
from diffgraft.data import Points
from diffgraft.gaussians import Mixture, MixtureDenoiser

B, D = 7, 3


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(mean=0.0, scale=1.0, dim=D):
    return Mixture(torch.ones(1).double(), torch.full((1, dim), mean).double(), scale**2 * torch.eye(dim).double()[None])


ROOT = rand(D, D, seed=3)
COV = ROOT @ ROOT.T / D + 0.2 * torch.eye(D).double()


def test_a_kernel_density_is_the_mean_of_its_kernels():
    x, at = rand(11, D), rand(B, D, seed=1)
    made = density.kernels(x, 1.4, COV)
    h = 1.4 * density.bandwidth(x, COV)
    direct = torch.stack([MultivariateNormal(c, h**2 * COV).log_prob(at) for c in x]).logsumexp(0) - math.log(11)
    torch.testing.assert_close(made.log_prob(at), direct)


def test_the_bandwidth_has_the_largest_leave_one_out_likelihood():
    x = rand(23, D)

    def left_out(h):
        parts = [torch.stack([MultivariateNormal(x[j], h**2 * COV).log_prob(x[i]) for j in range(23) if j != i]).logsumexp(0) for i in range(23)]
        return float(sum(parts))

    h = density.bandwidth(x, COV)
    assert left_out(h) > max(left_out(0.9 * h), left_out(1.1 * h))


def test_the_bandwidth_stays_within_bounds_where_points_coincide():
    assert 0.02 < density.bandwidth(torch.zeros(9, D).double(), COV) < 0.04


def test_moving_a_component_is_the_mean_under_its_prior():
    x, source = rand(11, D) + 2, normal()
    made = density.moved(x, source, 5.0)
    torch.testing.assert_close(made.means[0], x.sum(0) / 16)
    torch.testing.assert_close(made.covs, source.covs * (1 + 1 / 16))  # the mean is as good as 16 points make it
    assert float(made.weights) == pytest.approx(1)


def test_moved_components_come_near_their_own_modes():
    task = dg.tasks.mixtures.hard(400, dim=2, n_components=3, shift=0.8)
    made = density.moved(task.data.target.x.double(), task.truth.p, 1.0)
    before = float((task.truth.p.means - task.truth.q.means).norm())
    assert float((made.means - task.truth.q.means).norm()) < 0.6 * before


def test_weights_of_moved_components_are_counts_beside_a_prior_worth_five_points():
    apart = Mixture(torch.tensor([0.3, 0.7]).double(), torch.tensor([[0.0] * D, [50.0] * D]).double(), torch.eye(D).double().expand(2, D, D))
    made = density.moved(rand(10, D), apart, 1.0)
    torch.testing.assert_close(made.weights, torch.tensor([11.5 / 15, 3.5 / 15]).double())


@pytest.mark.filterwarnings("error")
def test_no_more_centres_are_placed_than_there_are_different_points():
    made = density.placed(rand(2, D).repeat(6, 1), normal(), 3, 0)
    assert made.means.shape == (2, D) and bool(made.covs.isfinite().all())


def test_centres_are_placed_on_the_modes_with_the_sources_shape():
    task = dg.tasks.mixtures.shifted(400)
    made = density.placed(task.data.target.x.double(), task.truth.p, 2, 0)
    centres = made.means[:: len(task.truth.p.weights)]
    assert float(torch.cdist(task.truth.q.means, centres).min(1).values.max()) < 0.08
    assert float(made.weights.sum()) == pytest.approx(1)
    torch.testing.assert_close(made.covs, 0.1 * torch.eye(2).double().expand(4, 2, 2), rtol=0.02, atol=0)


def test_weights_are_a_softmax_of_the_bootstrapped_likelihood():
    scores = torch.stack([torch.full((50,), -1.0), torch.full((50,), -1.02), torch.full((50,), -9.0)], 1).double()
    weights = density.stacking_weights(scores, 0)  # equal rows: no spread over the bootstrap
    torch.testing.assert_close(weights, (50 * scores[0]).softmax(0))
    torch.testing.assert_close(density.stacking_weights(scores[:, [2, 0, 1]], 0), weights[[2, 0, 1]])


def test_noisy_scores_share_the_weight():
    z = rand(100)
    lead = 3 * (z - z.mean()) / z.std() + 0.1  # 10 nats over 100 points, with a standard error of 30
    scores = torch.stack([lead, torch.zeros(100)], 1).double()
    assert float((100 * scores.mean(0)).softmax(0)[0]) > 0.9999
    assert 0.55 < float(density.stacking_weights(scores, 0)[0]) < 0.75  # the share of draws in which the lead is positive, P(N(0, 1) < 1/3)


def test_the_stack_is_proper_and_judges_by_points_it_has_not_seen():
    task = dg.tasks.mixtures.shifted(60)
    fitted = density.stack(task.data.target.x, task.truth.p, 0)
    assert sum(fitted.weights.values()) == pytest.approx(1, abs=0.05)
    assert float(fitted.mixture.weights.sum()) == pytest.approx(1)
    best = max(fitted.held_out, key=fitted.held_out.get)
    made = density.candidates(60, task.truth.p, 0)[best]
    assert float(made(task.data.target.x.double()).log_prob(task.data.target.x.double()).mean()) > fitted.held_out[best]


@pytest.mark.parametrize(("n", "share"), [(10, 0.85), (100, 0.6)])
def test_the_sources_shape_helps_where_it_is_shared(n, share):
    lost = torch.zeros(2)
    for seed in range(4):
        task = dg.tasks.mixtures.shifted(n, seed)
        test, x = task.test.x[:2000].double(), task.data.target.x
        fitted = [density.stack(x, task.truth.p, 0, shape=shape).mixture.log_prob(test).mean() for shape in (True, False)]
        lost += torch.stack([task.truth.log_prob_target(test).mean() - value for value in fitted])
    assert lost[0] < share * lost[1]


def test_where_the_shape_is_not_shared_the_target_decides():
    source = density.fit_mixture(normal(scale=3.0).sample(2000, 0).x, 0)
    target = normal(scale=0.3)
    fitted = density.stack(target.sample(200, 1).x, source, 0)
    x = target.sample(2000, 2).x.double()
    assert float((target.log_prob(x) - fitted.mixture.log_prob(x)).mean()) < 0.15
    assert sum(w for name, w in fitted.weights.items() if "kernels x" in name) > 0.9


def test_points_where_the_source_has_none_are_counted():
    task = dg.tasks.mixtures.shifted(1000)
    shares = [density.share_outside(x, task.truth.p, 0) for x in (task.data.source.x, task.data.target.x, task.data.target.x + 9)]
    assert 0 <= shares[0] < 0.003 and shares[0] < shares[1] < 0.4 and shares[2] == 1
    assert density.stack(task.data.target.x[:50] + 9, task.truth.p, 0).outside == 1
    labelled = dg.tasks.mixtures.hard(40, dim=2, labels="classes")
    far = torch.where(labelled.data.target.y[:, None] == 0, 50.0, 0.0) + labelled.data.target.x
    found = density.stack_by_label(Points(far, labelled.data.target.y), labelled.data.source, 0).outside
    assert found == pytest.approx(float((labelled.data.target.y == 0).double().mean()), abs=0.1)


def test_one_seed_gives_one_stack():
    task = dg.tasks.mixtures.shifted(20)
    a, b = (density.stack(task.data.target.x, task.truth.p, 5) for _ in range(2))
    assert torch.equal(a.mixture.means, b.mixture.means) and a.weights == b.weights


@pytest.mark.parametrize("n", [1, 2, 3])
def test_fewer_points_than_can_be_split_move_the_source(n):
    fitted = density.stack(rand(n, D), normal(), 0)
    assert all(name.startswith("moved") for name in fitted.weights) and fitted.held_out == {}
    assert torch.isfinite(fitted.mixture.log_prob(rand(B, D))).all()


def test_constant_features_and_far_points_are_no_trouble():
    x = rand(12, D) + 1000
    x[:, 1] = 4.0
    fitted = density.stack(x, normal(), 0)
    assert torch.isfinite(fitted.mixture.log_prob(x)).all()


def test_the_size_of_a_mixture_follows_the_points():
    two = density.fit_mixture(dg.tasks.mixtures.shifted(10).data.source.x, 0)
    assert len(two.weights) == 2
    assert len(density.fit_mixture(normal().sample(3000, 0).x, 0).weights) == 1


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_each_label_has_its_own_stack(kind):
    task = dg.tasks.mixtures.hard(60, dim=2, labels=kind)
    fitted = density.stack_by_label(task.data.target, task.data.source, 0)
    values, counts = task.data.target.y.unique(dim=0, return_counts=True)
    denoiser = MixtureDenoiser(fitted.mixture, dg.vp())
    assert torch.equal(denoiser.prior.values, values)
    torch.testing.assert_close(denoiser.prior.probs, counts / 60, rtol=1e-5, atol=1e-5)
    y = values[0].expand(500, *values[0].shape)
    x = task.truth.q.sample(4000, 9)
    mine = x.take((x.y == values[0]) if kind == "classes" else (x.y == values[0]).all(1))
    other = x.take((x.y == values[1]) if kind == "classes" else (x.y == values[1]).all(1))
    y = values[0]
    own, foreign = (fitted.mixture.log_prob(part.x.double(), y=y.expand(part.n, *y.shape)).mean() for part in (mine, other))
    assert own > foreign


def test_a_label_that_the_source_lacks_takes_the_shape_of_the_whole():
    source = Points(rand(300, D).float(), torch.zeros(300).long())
    assert density.lenders(source, torch.tensor(0)).shape[0] == 300
    source.y[:5] = 1
    assert density.lenders(source, torch.tensor(1)).shape[0] == 300
    assert density.lenders(source, torch.tensor(0)).shape[0] == 295
    assert density.lenders(Points(source.x), torch.tensor(0)).shape[0] == 300


def test_a_tilt_of_one_gaussian_moves_its_mean_and_keeps_its_shape():
    """exp(theta^T x) N(m, C) = N(m + C theta, C): without a penalty the mean is the points' own."""
    cov = torch.tensor([[1.0, 0.3], [0.3, 0.5]], dtype=torch.float64)
    source = Mixture(torch.ones(1, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64), cov[None])
    x = torch.randn(31, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.5, -0.2])
    found = density.tilted(x, source)
    theta = torch.linalg.solve(cov + density.TILT_RIDGE * torch.eye(2, dtype=torch.float64), x.mean(0))
    torch.testing.assert_close(found.means[0], cov @ theta, atol=1e-4, rtol=0)
    assert torch.equal(found.covs, source.covs)


def test_a_tilt_multiplies_the_density_by_an_exponential():
    weights, means = torch.tensor([0.3, 0.7]), torch.tensor([[1.0, 0], [-0.5, 0.4]])
    source = Mixture(weights.double(), means.double(), torch.stack([torch.eye(2), 0.3 * torch.eye(2)]).double())
    x = torch.tensor([[0.6, 0.1], [0.2, 0.3], [0.5, 0.4], [0.9, 0.1], [0.0, 0.2]], dtype=torch.float64)
    found = density.tilted(x, source)
    grid = torch.randn(17, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    log_ratio = found.log_prob(grid) - source.log_prob(grid)
    design = torch.cat([grid, torch.ones(17, 1, dtype=torch.float64)], 1)
    fit = torch.linalg.lstsq(design, log_ratio[:, None]).solution
    torch.testing.assert_close(design @ fit, log_ratio[:, None], atol=1e-8, rtol=0)
    assert found.log_prob(x).mean() > source.log_prob(x).mean()
