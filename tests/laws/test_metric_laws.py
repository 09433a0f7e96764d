"""What holds for every metric: equal laws score the floor, worse samples score worse, closed forms are met."""

import math

import pytest
import torch

import diffgraft as dg
from diffgraft.errors import BadData, BadPlan
from diffgraft.metrics.catalog import METRICS, evaluate
from diffgraft.metrics.transport import energy_distance, sliced_w2
from diffgraft.metrics.truth import entropy, kl_generated, score_error

DISTANCES = [name for name, m in METRICS.items() if m.kind == "distance"]


def normal(n, mean=0.0, std=1.0, seed=0, d=3):
    return mean + std * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DISTANCES)
def test_perfect_samples_score_near_their_floor_and_shifted_ones_far_above(name):
    reference = normal(4000, seed=1)
    good, bad = (evaluate(x, reference, metrics=[name])[name] for x in (normal(2000, seed=2), normal(2000, 1.0, seed=3)))
    assert abs(good["value"]) < 4 * good["floor"] + 1e-3
    assert bad["value"] > 10 * good["floor"]
    assert good["n"] == 2000 and METRICS[name].best == "low"


@pytest.mark.parametrize("name", DISTANCES)
def test_the_order_of_points_does_not_matter(name):
    x, y = normal(101, seed=1), normal(73, 0.3, seed=2)
    perm = torch.randperm(101, generator=torch.Generator().manual_seed(0))
    compute = METRICS[name].compute
    assert compute(x[perm], y, 0) == pytest.approx(compute(x, y, 0), rel=1e-6)
    assert compute(y, x, 0) == pytest.approx(compute(x, y, 0), rel=1e-6)


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


def test_energy_distance_in_chunks_equals_the_whole(monkeypatch):
    x, y = normal(101, seed=1), normal(73, 0.3, seed=2)
    whole = energy_distance(x, y)
    monkeypatch.setattr("diffgraft.metrics.transport.CHUNK", 200)
    assert energy_distance(x, y) == pytest.approx(whole, rel=1e-9)


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


def test_the_default_metrics_are_those_that_can_be_computed():
    task = dg.tasks.mixtures.shifted(10)
    x = task.truth.sample_target(500, 1).x
    assert set(dg.evaluate(x, task.test.x)) == set(DISTANCES)
    assert set(dg.evaluate(x, task.test.x, truth=task.truth, model=task.truth.target)) == set(METRICS)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: evaluate(normal(9), normal(9, d=2)), BadData, "one shape"),
        (lambda: evaluate(normal(9), normal(3)), BadData, "at least 4 reference points"),
        (lambda: evaluate(normal(1), normal(9)), BadData, "at least 2 samples"),
        (lambda: evaluate(normal(9) * torch.nan, normal(9)), BadData, "finite.*row 0"),
        (lambda: evaluate(normal(9), normal(9), metrics=["enrgy"]), BadPlan, "did you mean 'energy'"),
        (lambda: evaluate(normal(9), normal(9), metrics=["score_error"]), BadData, "needs the exact truth and the model"),
    ],
)
def test_wrong_input_is_named(call, error, says):
    with pytest.raises(error, match=says):
        call()
