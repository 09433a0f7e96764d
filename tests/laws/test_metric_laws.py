"""What holds for every metric: equal laws score the floor, worse samples score worse, closed forms are met."""

import dataclasses
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import diffgraft as dg
from diffgraft import pairs
from diffgraft.data import Points
from diffgraft.errors import BadData, BadPlan
from diffgraft.metrics import protocol
from diffgraft.metrics.case import Case
from diffgraft.metrics.catalog import METRICS, evaluate
from diffgraft.metrics.protocol import distance
from diffgraft.metrics.transport import energy_distance, sliced_w2
from diffgraft.metrics.truth import entropy, kl_generated, score_error

DISTANCES = [name for name, m in METRICS.items() if m.kind in ("distance", "features") and not m.needs]
MEASURED = [name for name, m in METRICS.items() if m.kind == "measured"]
SYMMETRIC = ["energy", "sliced_w2", "frechet"]
BY_PAIRS = ["energy", "mmd", "precision", "recall", "density", "coverage"]
EXACT_AT_ONE = ["precision", "recall", "coverage"]


def normal(n, mean=0.0, std=1.0, seed=0, d=3):
    return mean + std * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DISTANCES)
def test_perfect_samples_score_near_their_floor_and_shifted_ones_far_beyond(name):
    metric, reference = METRICS[name], normal(4000, seed=1)
    good, bad = (evaluate(x, reference, metrics=[name])[name] for x in (normal(2000, seed=2), normal(2000, 1.5, seed=3)))
    error = good["floor"] - metric.perfect if metric.best == "low" else 0.02
    gain = {"low": 1, "high": -1}[metric.best]
    centre = metric.perfect if metric.best == "low" else good["floor"]
    assert abs(good["value"] - centre) < 4 * error + 1e-3
    assert gain * (bad["value"] - centre) > 10 * error
    assert good["n"] == 2000


def test_a_floor_is_the_mean_over_splits_of_its_own_reference():
    x, references = normal(200), [normal(400, std=s, seed=5) for s in (1.0, 3.0)]
    found = [evaluate(x, real, metrics=["sliced_w2"])["sliced_w2"]["floor"] for real in (*references, references[0])]
    assert found[0] == found[2] and found[0] != found[1]
    case = Case(Points(x), Points(references[0]), dg.Transform.fit(references[0]), 0)
    splits = [sliced_w2(*protocol._halves(case.clouds[1], 0, k, 200), 0) for k in range(protocol.SPLITS)]
    assert len(set(splits)) == protocol.SPLITS and found[0] == pytest.approx(sum(splits) / protocol.SPLITS)


@pytest.mark.parametrize("name", DISTANCES)
def test_the_order_of_points_does_not_matter(name):
    x, y = normal(101, seed=1), normal(73, 0.3, seed=2)
    compute, g = METRICS[name].compute, torch.Generator().manual_seed(0)
    perm_x, perm_y = torch.randperm(101, generator=g), torch.randperm(73, generator=g)
    assert compute(x[perm_x], y[perm_y], 0) == pytest.approx(compute(x, y, 0), rel=1e-6, abs=1e-9)
    if name in SYMMETRIC:
        assert compute(y, x, 0) == pytest.approx(compute(x, y, 0), rel=1e-6)


@pytest.mark.parametrize("name", DISTANCES)
def test_a_cloud_against_itself(name):
    x = normal(101, seed=1)
    value = METRICS[name].compute(x, x, 0)
    if METRICS[name].best == "low":
        assert value < METRICS[name].perfect + 1e-6  # nothing is farther than equal laws
    elif name in EXACT_AT_ONE:
        assert value == 1
    else:
        assert value == pytest.approx(6 / 5)  # density: each ball holds its own point and five more


@pytest.mark.parametrize("d", [3, 11])
@pytest.mark.parametrize("name", BY_PAIRS)
def test_pairs_in_blocks_give_the_same_numbers(name, d, monkeypatch):
    x, y = normal(101, seed=1, d=d), normal(73, 0.3, seed=2, d=d)
    whole = METRICS[name].compute(x, y, 0)
    monkeypatch.setattr(pairs, "CHUNK", 200)
    assert METRICS[name].compute(x, y, 0) == pytest.approx(whole, rel=1e-9)


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for a in out if isinstance(out, (tuple, list)) else (out,):
            self.numel = max(self.numel, a.numel() if isinstance(a, torch.Tensor) else 0)
        return out


@pytest.mark.parametrize("d", [3, 11])
@pytest.mark.parametrize("name", [*DISTANCES, "memorisation"])
def test_no_matrix_of_all_pairs_is_held(name, d, monkeypatch):
    monkeypatch.setattr(pairs, "CHUNK", 200_000)
    x, y = normal(1501, seed=1, d=d), normal(1301, seed=2, d=d)
    with Largest() as largest:
        METRICS[name].compute(x, y, normal(1301, seed=3, d=d) if name == "memorisation" else 0)
    assert largest.numel < 600_000 < 1301 * 1501


def test_energy_distance_of_shifted_normals_in_one_dimension():
    # E|N(m, 2)| has a closed form, so 2 E|X - Y| - E|X - X'| - E|Y - Y'| has one
    m, s = 1.5, math.sqrt(2)
    mean_abs = s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2)) + m * math.erf(m / (s * math.sqrt(2)))
    exact = 2 * mean_abs - 2 * s * math.sqrt(2 / math.pi)
    values = [energy_distance(normal(900, seed=k, d=1), normal(1100, m, seed=k + 50, d=1)) for k in range(20)]
    mean = sum(values) / 20
    error = (sum((v - mean) ** 2 for v in values) / 19 / 20) ** 0.5
    assert abs(mean - exact) < 4 * error and error < 0.02


def test_energy_distance_is_unbiased():
    values = [energy_distance(normal(30, seed=k), normal(20, seed=k + 999)) for k in range(400)]
    mean = sum(values) / 400
    error = (sum((v - mean) ** 2 for v in values) / 399 / 400) ** 0.5
    assert abs(mean) < 4 * error


def test_sliced_w2_of_a_shift_and_of_a_scale():
    x = normal(2003, seed=1)
    assert sliced_w2(x, x) == 0
    shift = torch.tensor([3.0, 0.0, 4.0])
    assert sliced_w2(x, x + shift) == pytest.approx(5 / math.sqrt(3), rel=0.1)  # E (theta . v)^2 = |v|^2 / d
    assert sliced_w2(x, 2 * x) == pytest.approx(float((x**2).mean().sqrt()), rel=0.05)


def test_sliced_w2_takes_unequal_sizes():
    assert sliced_w2(normal(3001, seed=1), normal(1999, seed=2)) < 0.1


def test_entropy_of_a_normal():
    exact = 3 / 2 * math.log(2 * math.pi * math.e * 4)
    assert entropy(normal(20_000, std=2.0)) == pytest.approx(exact, abs=0.03)


def test_kl_of_a_shifted_normal():
    law = torch.distributions.MultivariateNormal(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    assert kl_generated(normal(20_000, 0.5), law.log_prob) == pytest.approx(3 * 0.25 / 2, abs=0.04)


@pytest.mark.parametrize("labels", ["none", "classes", "multi-hot"])
@pytest.mark.parametrize("schedule", [dg.vp(), dg.rectified(), dg.edm()])
def test_score_error_of_the_truth_is_zero_under_any_schedule(schedule, labels):
    truth = dg.tasks.mixtures.hard(10, dim=3, labels=labels).truth
    assert score_error(truth.under(schedule).target, truth) < 1e-9
    assert score_error(truth.under(schedule).source, truth) > 0.01


def test_score_error_is_zero_for_the_truth_in_another_model_space():
    truth = dg.tasks.mixtures.hard(10, dim=3).truth
    transform = dg.Transform(torch.tensor([1.0, -2.0, 0.3]), torch.tensor([0.5, 2.0, 3.0]))
    model = truth.within(transform).target
    assert score_error(model, truth) > 0.1
    model.transform = transform
    assert score_error(model, truth) < 1e-9


def test_score_error_of_the_bare_source_in_section_4_1():
    truth = dg.tasks.mixtures.shifted(10).truth
    assert score_error(truth.source, truth) == pytest.approx(0.262, abs=0.015)


def test_evaluate_uses_the_models_units():
    task = dg.tasks.mixtures.shifted(10)
    x = task.truth.sample_target(1000, 1).x
    plain = dg.evaluate(x, task.test.x, model=task.truth.source, metrics=["energy"])["energy"]["value"]
    scaled = dg.evaluate(1000 * x, 1000 * task.test.x, metrics=["energy"])["energy"]["value"]
    assert scaled == pytest.approx(dg.evaluate(x, task.test.x, metrics=["energy"])["energy"]["value"], abs=1e-6)
    assert plain != scaled


def test_the_default_metrics_are_those_that_can_be_computed(leaves_rng_alone):
    task = dg.tasks.mixtures.shifted(10)
    x, model, reference = task.truth.sample_target(300, 1).x, task.truth.target, task.test.x[:300]
    alone = set(dg.evaluate(x, reference))
    assert alone == set(DISTANCES)
    assert set(dg.evaluate(x, reference, train=task.data.target.x)) - alone == {"memorisation", "copied"}
    assert set(dg.evaluate(x, reference, truth=task.truth)) - alone == {"kl_generated", "average_likelihood"}
    assert set(dg.evaluate(x, reference, model=model)) - alone == {"held_out_likelihood"}
    everything = {"truth": task.truth, "model": model, "train": task.data.target.x, "features": lambda z: z, "measures": quantities}
    expected = {name for name, m in METRICS.items() if m.kind != "downstream" and m.rank is None}  # which need labels, or signals
    assert set(dg.evaluate(x, reference, **everything)) == expected
    signals = [a.reshape(-1, 2, 16) for a in (normal(64, seed=1, d=32), normal(64, seed=2, d=32), normal(20, seed=3, d=32))]
    assert set(dg.evaluate(*signals[:2], train=signals[2])) - alone == {"memorisation", "memorisation_shifted", "copied"}


def quantities(x):
    """As of records: every metric's quantity is the first feature, and of points below zero it is not known."""
    return dict.fromkeys(MEASURED, torch.where(x[:, 0] < 0, float("nan"), x[:, 0]).numpy())


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_quantity_is_a_distance_between_those_that_are_known(name):
    reference, shifted = normal(900, 5.0, seed=1), normal(600, 5.75, seed=2)
    near, far = (evaluate(x, reference, metrics=[name], measures=quantities)[name] for x in (normal(600, 5.0, seed=3), shifted))
    assert abs(near["value"] - near["floor"]) < 0.15 and far["floor"] == near["floor"] > 0
    assert far["value"] == pytest.approx(0.75, abs=0.15) and far["n"] == 250  # 500 of the reference, in halves
    half = evaluate(normal(400, seed=4), reference, metrics=[name], measures=quantities)[name]
    assert 150 < half["n"] < 250 and half["value"] > 3


def test_what_cannot_be_measured_has_no_score():
    known = lambda x: {"heart_rate": x[:, 0], "pr_interval": torch.where(torch.arange(len(x)) < 9, x[:, 0], float("nan"))}  # noqa: E731
    scores = evaluate(normal(50), normal(60, seed=1), measures=known)
    assert set(scores) == {*DISTANCES, "heart_rate", "pr_interval"} and math.isfinite(scores["heart_rate"]["value"])
    assert scores["pr_interval"]["n"] == 9 and math.isnan(scores["pr_interval"]["value"]) and math.isnan(scores["pr_interval"]["floor"])
    with pytest.raises(BadData, match=r"qrs_duration needs measures of 'qrs_duration', got 'heart_rate', 'pr_interval'; return it"):
        evaluate(normal(50), normal(60, seed=1), measures=known, metrics=["qrs_duration"])


@pytest.mark.parametrize("name", [name for name, m in METRICS.items() if m.at_most])
def test_a_dear_metric_compares_clouds_of_bounded_size(name):
    metric = dataclasses.replace(METRICS[name], at_most=30)
    sizes = []
    metric = dataclasses.replace(metric, compute=lambda x, y, seed: sizes.append((len(x), len(y))) or 0.0)
    case = Case(Points(normal(100)), Points(normal(200)), dg.Transform.identity(), 0)
    assert distance(metric, case)["n"] == 30 and set(sizes) == {(30, 30)} and METRICS[name].at_most <= 5000


def test_above_64_dimensions_the_frechet_distance_waits_for_features():
    x, y = normal(40, seed=1, d=65), normal(60, seed=2, d=65)
    assert set(evaluate(x, y)) == set(DISTANCES) - {"frechet"}
    scores = evaluate(x, y, features=lambda z: z[:, :4])
    assert set(scores) == {*DISTANCES, "kid", "feature_coverage"} and scores["energy"] == evaluate(x, y, metrics=["energy"])["energy"]


def test_features_are_of_data_in_data_units_in_any_batches(monkeypatch):
    seen = []
    x, y = 100 * normal(50, seed=1), 100 * normal(80, seed=2)
    features = lambda z: seen.append(len(z)) or torch.stack([z[:, 0] * z[:, 1], z[:, 2]], 1)  # noqa: E731
    whole = evaluate(x, y, features=features, metrics=["frechet"])["frechet"]
    assert seen == [50, 80] and whole["floor"] > 1e3  # in data units
    monkeypatch.setattr("diffgraft.metrics.case.FEATURE_BATCH", 7)
    assert evaluate(x, y, features=features, metrics=["frechet"])["frechet"] == whole and max(seen[2:]) == 7


def test_samples_sorted_by_label_are_mixed_before_they_are_cut_in_batches():
    x = torch.cat([normal(200, -2.0, seed=1), normal(200, 2.0, seed=2)])
    reference = torch.cat([normal(100, -2.0, seed=3), normal(100, 2.0, seed=4)])
    assert evaluate(x, reference, metrics=["coverage"])["coverage"]["value"] > 0.9


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: evaluate(normal(9), normal(9, d=2)), BadData, "one shape"),
        (lambda: evaluate(normal(9), normal(3)), BadData, "at least 4 reference points"),
        (lambda: evaluate(normal(1), normal(9)), BadData, "at least 2 samples"),
        (lambda: evaluate(normal(9) * torch.nan, normal(9)), BadData, "finite.*row 0"),
        (lambda: evaluate(normal(9), normal(9), metrics=["enrgy"]), BadPlan, "did you mean 'energy'"),
        (lambda: evaluate(normal(9), normal(9), metrics=["score_error"]), BadData, "needs the exact truth and the model; pass truth=..., model="),
        (
            lambda: evaluate(normal(9), normal(9), train=normal(9), metrics=["memorisation_shifted"]),
            BadData,
            r"needs signals \(n, channels, samples\), got points of shape \(.*\); pass signals, or drop it",
        ),
        (lambda: evaluate(normal(9), normal(9), metrics=["memorisation"]), BadData, "needs the training target points; pass train="),
        (lambda: evaluate(normal(9), normal(9), train=normal(9, d=2)), BadData, "training points and reference must have one shape"),
        (lambda: evaluate(normal(9, d=65), normal(9, d=65), metrics=["frechet"]), BadData, "frechet needs features above 64 dimensions"),
        (lambda: evaluate(normal(9), normal(9), features=lambda z: z[:, 0]), BadData, r"features must map samples \(n, \*\) to \(n, F\), got \(9,\)"),
        (lambda: evaluate(normal(9), normal(9), features=lambda z: z / 0), BadData, "features must be finite, got"),
    ],
)
def test_wrong_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()


def test_the_nearest_other_point_is_never_the_point_itself(monkeypatch):
    monkeypatch.setattr(pairs, "CHUNK", 50)  # a few rows a block
    x = torch.cat([torch.arange(23.0)[:, None] ** 2, torch.tensor([[4.0]])])
    wanted = (x - x.T).abs().fill_diagonal_(torch.inf).amin(1)
    assert torch.equal(pairs.nearest_other(x), wanted) and float(wanted[2]) == 0 == float(wanted[-1])
