"""Closed forms of the metrics between clouds."""

import math
from statistics import NormalDist

import pytest
import torch

from diffgraft import pairs
from diffgraft.errors import BadData
from diffgraft.metrics.catalog import evaluate
from diffgraft.metrics.classifier import two_sample
from diffgraft.metrics.kernel import bandwidth, kernel_inception_distance, mmd
from diffgraft.metrics.neighbours import coverage, density, memorisation, memorisation_shifted, precision, radii, recall
from diffgraft.metrics.transport import frechet


def normal(n, mean=0.0, std=1.0, seed=0, d=3):
    return mean + std * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def close_in_the_mean(values, exact, within=4.0):
    mean = sum(values) / len(values)
    error = (sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)) ** 0.5
    return abs(mean - exact) < within * error and error < 0.05 * max(abs(exact), 0.1)


# kernel


def test_mmd_of_shifted_normals():
    m, gaps = 0.8, []
    for k in range(20):
        x, y = normal(400, m, seed=k, d=2), normal(300, seed=k + 50, d=2)
        variances = [(2.0**j * bandwidth(y)) ** 2 for j in range(-2, 3)]
        exact = sum(2 * v / (v + 2) * (1 - math.exp(-2 * m**2 / (2 * (v + 2)))) for v in variances) / 5  # E k is (v / (v + 2))^(d / 2) exp(...)
        gaps.append(mmd(x, y) - exact)
    assert exact > 0.05 and close_in_the_mean(gaps, 0.0)


def test_mmd_is_unbiased():
    assert close_in_the_mean([mmd(normal(30, seed=k), normal(20, seed=k + 999)) for k in range(400)], 0.0)


def test_the_bandwidth_is_the_median_distance_and_never_zero():
    assert bandwidth(torch.tensor([[0.0], [1.0], [3.0]])) == 2
    assert bandwidth(torch.tensor([[0.0]] * 9 + [[5.0]])) == pytest.approx(1.0)  # 9 of 45 distances are 5
    assert bandwidth(torch.zeros(4, 2)) == 1
    assert mmd(torch.zeros(4, 2), torch.zeros(5, 2)) == 0


def test_mmd_does_not_depend_on_the_units():
    x, y = normal(90, 0.5, seed=1), normal(70, seed=2)
    assert mmd(1000 * x, 1000 * y) == pytest.approx(mmd(x, y), rel=1e-4)


# Frechet


def whitened(n, d, seed):
    """Points with mean exactly 0 and covariance exactly the identity."""
    z = normal(n, seed=seed, d=d).double()
    z = z - z.mean(0)
    return torch.linalg.qr(z)[0] * math.sqrt(n - 1)


def test_frechet_of_normals_with_common_axes():
    a, b = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 0.1, 0.5]).double()
    shift = torch.tensor([1.0, -2.0, 0.5]).double()
    axes = torch.linalg.qr(normal(3, seed=5).double())[0]
    x, y = (whitened(101, 3, 1) * a) @ axes, (whitened(73, 3, 2) * b + shift) @ axes
    assert frechet(x, y) == pytest.approx(float((shift**2).sum() + ((a - b) ** 2).sum()), rel=1e-9)


def test_frechet_with_fewer_points_than_features():
    x, y = normal(6, seed=1, d=40).double(), normal(9, 0.5, seed=2, d=40).double()
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    # the covariances are A A^T and B B^T with thin A and B, and tr (A A^T B B^T)^(1/2) = |A^T B| in nuclear norm
    a, b = ((z - z.mean(0)).T / math.sqrt(len(z) - 1) for z in (x, y))
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * torch.linalg.matrix_norm(a.T @ b, ord="nuc")
    assert frechet(x, y) == pytest.approx(float(exact), rel=1e-6)
    assert frechet(torch.zeros(4, 3), torch.ones(5, 3)) == pytest.approx(3)


# neighbours


def test_density_is_one_in_the_mean_for_equal_laws_of_any_size():
    assert close_in_the_mean([density(normal(60, seed=k), normal(90, seed=k + 999)) for k in range(200)], 1.0)


def test_coverage_of_equal_laws_in_the_mean():
    m, k = 80, 5
    exact = 1 - math.prod((m - i) / (2 * m - i) for i in range(1, k + 1))
    assert close_in_the_mean([coverage(normal(m, seed=s), normal(m, seed=s + 999)) for s in range(200)], exact)


def test_four_scores_on_a_line():
    y = torch.tensor([[0.0], [1.0], [3.0], [7.0]])  # radii of two neighbours: 3, 2, 3, 6
    assert radii(y.double(), 2).tolist() == [3, 2, 3, 6]
    x = torch.tensor([[-3.0], [-3.5], [2.0]])  # on the edge of the first ball, outside, in all four
    assert precision(x, y, k=2) == pytest.approx(2 / 3)
    assert density(x, y, k=2) == pytest.approx((1 + 0 + 4) / (2 * 3))
    assert coverage(x[:2], y, k=2) == 1 / 4
    # radii of the samples to their second neighbour: 5, 5.5, 5.5; together they reach from -9 to 7.5
    assert recall(x, y, k=2) == 1 and recall(x, y + 0.6, k=2) == 3 / 4


def test_precision_sees_strays_and_recall_sees_a_lost_mode():
    y = torch.cat([normal(300, -4.0, seed=1), normal(300, 4.0, seed=2)])
    one_mode = normal(600, 4.0, seed=3)
    assert precision(one_mode, y) > 0.9 and recall(one_mode, y) == pytest.approx(0.5, abs=0.06) and coverage(one_mode, y) == pytest.approx(0.5, abs=0.06)
    strays = torch.cat([y[:300] + 0.01, y[300:] + 0.01, normal(600, 50.0, seed=4)])
    assert precision(strays, y) == pytest.approx(0.5, abs=0.05) and density(strays, y) < 0.7 and recall(strays, y) > 0.9


@pytest.mark.parametrize("d", [1, 8, 9])
def test_the_tree_finds_the_same_radii_as_all_distances(d):
    y = torch.cat([normal(50, seed=1, d=d), normal(50, seed=1, d=d)[:20]]).double()  # twenty points occur twice
    exact = torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist").kthvalue(4, dim=1).values
    assert torch.equal(radii(y, 3), exact)


def test_few_points_have_few_neighbours():
    x, y = normal(2, seed=1), normal(3, seed=2)
    assert all(math.isfinite(score(x, y)) for score in (precision, recall, density, coverage))
    assert density(y, y) == 3 / 2  # every ball holds all three, and k is two


# copies


def test_memorisation_by_hand():
    train, held_out = torch.tensor([[0.0], [10.0]]), torch.tensor([[4.0], [6.0]])
    x = torch.tensor([[1.0], [9.0], [5.0], [0.0]])  # ratios 1/3, 1/3, 5, 0
    assert memorisation(x, train, held_out) == pytest.approx(1 / 3)
    assert memorisation(x, x, x) == 1 and memorisation(train, train, held_out) == 0 and memorisation(held_out, train, held_out) == math.inf


def test_copies_score_far_below_the_floor_and_new_points_score_the_floor():
    train, reference = normal(100, seed=1), normal(2000, seed=2)
    copies = train[torch.randint(100, (1000,), generator=torch.Generator().manual_seed(0))] + normal(1000, std=0.02, seed=3)
    copied, new = (evaluate(x, reference, train=train, metrics=["memorisation"])["memorisation"] for x in (copies, normal(1000, seed=4)))
    assert copied["value"] < 0.2 and copied["floor"] == pytest.approx(1, abs=0.1)
    assert new["value"] == pytest.approx(new["floor"], abs=0.08) and new["n"] == 1000


def test_an_odd_draw_of_training_points_moves_floor_and_value_alike():
    train, reference = normal(100, 1.0, 0.3, seed=1), normal(2000, seed=2)  # training points in a corner: all others are far from them
    s = evaluate(normal(1000, seed=4), reference, train=train, metrics=["memorisation"])["memorisation"]
    assert s["floor"] > 1.5 and s["value"] == pytest.approx(s["floor"], rel=0.1)


def test_more_training_than_held_out_points():
    s = evaluate(normal(500, seed=4), normal(41, seed=2), train=normal(500, seed=1), metrics=["memorisation"])["memorisation"]
    assert s["floor"] < 0.6 and s["value"] == pytest.approx(s["floor"], rel=0.15)


@pytest.mark.parametrize(("n", "held_out"), [(90, 91), (500, 2000), (500, 41)])
def test_a_copy_of_any_training_point_is_one(n, held_out):
    train, reference = normal(n, seed=1, d=400).reshape(n, 4, 100), normal(held_out, seed=2, d=400).reshape(held_out, 4, 100)
    s = evaluate(train, reference, train=train, metrics=["memorisation", "memorisation_shifted", "copied"])
    assert s["memorisation"]["value"] == s["memorisation_shifted"]["value"] == 0 and s["copied"]["value"] == 1
    assert s["memorisation"]["floor"] > 0.8 and s["copied"]["floor"] == 0


def test_few_copies_are_counted():
    train, reference, x = (normal(n, seed=n, d=400).reshape(n, 4, 100) for n in (80, 200, 100))
    x[:5] = train[:5].roll(20, -1)  # copies that begin elsewhere
    s = evaluate(x, reference, train=train, metrics=["memorisation_shifted", "copied"])
    assert s["copied"]["value"] == pytest.approx(0.05) and s["memorisation_shifted"]["value"] > 0.9
    flat = evaluate(torch.cat([x.flatten(1)[5:], train.flatten(1)[:10]]), reference.flatten(1), train=train.flatten(1), metrics=["copied"])["copied"]
    assert flat["value"] == pytest.approx(10 / 105) and flat["floor"] == 0


@pytest.mark.parametrize("length", [16, 33])
def test_a_distance_at_any_shift_by_hand(length):
    x, y = (normal(n, seed=n, d=2 * length).reshape(n, 2, length).double() for n in (7, 5))

    def at(a, b, shift):
        lo, hi = max(0, shift), min(length, length + shift)
        return ((a[:, lo:hi] - b[:, lo - shift : hi - shift]).square().sum() * length / (hi - lo)).sqrt()

    shifts = range(-(length // 2), length // 2 + 1)
    exact = [min(float(at(a, b, shift)) for b in y for shift in shifts) for a in x]
    assert pairs.nearest_shifted(x, y).tolist() == pytest.approx(exact, rel=1e-9)
    assert (pairs.nearest_shifted(x, y) <= pairs.nearest(x, y) * (1 + 1e-9)).all()


def test_copies_that_begin_elsewhere_are_found():
    long, reference = normal(40, seed=1, d=2 * 96).reshape(40, 2, 96), normal(400, seed=2, d=128).reshape(400, 2, 64)
    train, copies = long[..., :64], long[..., 20:84]
    points = {"x": copies, "reference": reference, "train": train}
    scores = evaluate(**points, metrics=["memorisation", "memorisation_shifted"])
    assert memorisation_shifted(copies, train, reference) == 0 and scores["memorisation_shifted"]["value"] < 1e-6
    assert scores["memorisation"]["value"] > 0.9 and scores["memorisation_shifted"]["floor"] == pytest.approx(1, abs=0.05)
    assert evaluate(reference[:50], reference[50:], train=train, metrics=["memorisation_shifted"])["memorisation_shifted"]["value"] == pytest.approx(1, abs=0.1)


def test_signals_at_any_shift_come_in_blocks(monkeypatch):
    x, y = normal(31, seed=1, d=64).reshape(31, 2, 32), normal(17, seed=2, d=64).reshape(17, 2, 32)
    whole = pairs.nearest_shifted(x, y)
    monkeypatch.setattr(pairs, "CHUNK", 5_000)
    assert torch.allclose(pairs.nearest_shifted(x, y), whole, rtol=1e-12)


# classifier


@pytest.mark.parametrize("m", [0.5, 1.0, 2.0])
def test_area_under_the_curve_of_shifted_normals(m):
    areas = [two_sample(normal(700, m, seed=k, d=1), normal(900, seed=k + 50, d=1)) for k in range(4)]
    assert sum(areas) / 4 == pytest.approx(NormalDist().cdf(m / math.sqrt(2)), abs=0.015)


def test_nobody_can_tell_equal_laws():
    assert close_in_the_mean([two_sample(normal(60, seed=k), normal(80, seed=k + 999)) for k in range(60)], 0.5)


def test_it_sees_modes_that_moved_under_equal_means_and_variances():
    sign = torch.where(torch.arange(600) % 2 == 0, 1.0, -1.0)[:, None]
    x, y = (0.5 * sign * torch.tensor([1.0, s]) + normal(600, std=0.3, seed=2 + int(s), d=2) for s in (1.0, -1.0))
    assert two_sample(x, y) > 0.9


def test_two_points_a_cloud_are_enough_for_it():
    assert 0 <= two_sample(normal(2, seed=1), normal(2, seed=2)) <= 1
    assert two_sample(torch.zeros(5, 2), torch.zeros(7, 2)) == 0.5


def test_many_dimensions_are_seen_through_projections():
    x, y, z = normal(300, 0.15, seed=1, d=1000), normal(300, seed=2, d=1000), normal(300, seed=3, d=1000)
    assert two_sample(x, y) > 0.8 and two_sample(z, y) == pytest.approx(0.5, abs=0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.linear_model.LogisticRegression", Narrow)
        assert two_sample(x, y) == 0.5


class Narrow:
    """In the classifier's place: takes no more features than 256 projections make, and tells nothing."""

    def __init__(self, **settings):
        pass

    def fit(self, features, is_sample):
        assert features.shape[1] == 2 * 256 + 2 * 128
        return self

    def decision_function(self, features):
        return features[:, 0] * 0


@pytest.mark.parametrize("dim", [63, 64, 256])
def test_distances_in_many_dimensions_are_those_of_direct_differences(dim):
    x, y = torch.randn(7, dim), torch.randn(11, dim)
    y[3] = x[2]
    y[5] = x[2] + 1e-4
    found = torch.cat(list(pairs.blocks(x, y)))
    expected = (x[:, None].double() - y.double()).norm(dim=2).float()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert found[2, 3] == 0 and found[2, 5] > 0


def test_kid_is_the_mean_of_its_kernel_over_distinct_pairs(monkeypatch):
    x, y = torch.randn(13, 4, generator=torch.Generator().manual_seed(0)), torch.randn(7, 4, generator=torch.Generator().manual_seed(1)) + 1
    k = lambda a, b: (float(a.double() @ b.double()) / 4 + 1) ** 3  # noqa: E731
    within = [sum(k(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1)) for z in (x, y)]
    between = sum(k(a, b) for a in x for b in y) / (13 * 7)
    assert kernel_inception_distance(x, y) == pytest.approx(sum(within) - 2 * between, rel=1e-9)
    monkeypatch.setattr("diffgraft.metrics.kernel.PAIRS", 20)
    assert kernel_inception_distance(x, y) == pytest.approx(sum(within) - 2 * between, rel=1e-9)


def test_kid_of_equal_laws_is_zero_in_the_mean_however_few_the_points():
    g = torch.Generator().manual_seed(0)
    found = torch.tensor([kernel_inception_distance(torch.randn(10, 3, generator=g), torch.randn(12, 3, generator=g)) for _ in range(400)])
    assert abs(float(found.mean())) < 3 * float(found.std()) / 20


def test_kid_waits_for_features():
    x, y = (torch.randn(50, 3, generator=torch.Generator().manual_seed(k)) for k in range(2))
    assert "kid" not in evaluate(x, y)
    with pytest.raises(BadData, match="kid needs a map to features; pass features"):
        evaluate(x, y, metrics=["kid"])
    told = evaluate(x, y, features=lambda z: 2 * z, metrics=["kid"])["kid"]
    assert abs(told["value"]) < 5 * told["floor"]
