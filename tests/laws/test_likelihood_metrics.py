"""Metrics of densities: the exact model scores the floor, and others what exact densities say."""

import math

import pytest
import torch

import diffgraft as dg
from diffgraft import rng
from diffgraft.data import Points
from diffgraft.errors import BadData
from diffgraft.metrics.model import held_out_likelihood, kl_model, log_likelihoods, n_points
from diffgraft.metrics.truth import average_likelihood

LIKELIHOODS = ["held_out_likelihood", "kl_model"]


def score(model, task, n=150, truth=True, metrics=LIKELIHOODS, labelled=True, likelihoods=None):
    x, y = task.test.x[:n], None if task.test.y is None or not labelled else task.test.y[:n]
    reference = x if y is None else (x, y)
    return dg.evaluate(x[:5], reference, model=model, truth=task.truth if truth else None, metrics=metrics, likelihoods=likelihoods)


@pytest.mark.parametrize("labels", ["none", "classes", "multi-hot"])
@pytest.mark.parametrize("schedule", [dg.vp(), dg.rectified(), dg.edm()])
def test_the_exact_model_scores_the_floor_under_any_schedule(schedule, labels):
    task = dg.tasks.mixtures.hard(10, dim=2, labels=labels)
    s = score(task.truth.under(schedule).target, task, n=60)
    assert abs(s["kl_model"]["value"]) < 0.003 and s["kl_model"]["floor"] == 0
    assert s["held_out_likelihood"]["value"] == pytest.approx(s["held_out_likelihood"]["floor"], abs=0.003)


@pytest.mark.parametrize("labels", ["none", "classes"])
def test_the_source_model_scores_what_exact_densities_say(labels):
    task = dg.tasks.mixtures.hard(10, dim=2, labels=labels, shift=1.5)
    x, y = task.test.take(torch.arange(150))
    log_q, log_p = task.truth.log_prob_target(x.double(), y), task.truth.log_prob_source(x.double(), y)
    s = score(task.truth.source, task)
    assert s["kl_model"]["value"] == pytest.approx(float((log_q - log_p).mean()), rel=0.015, abs=0.01) and s["kl_model"]["value"] > 0.2
    assert s["held_out_likelihood"]["value"] == pytest.approx(float(log_p.mean()), rel=0.01)
    assert s["held_out_likelihood"]["floor"] == pytest.approx(float(log_q.mean()), abs=1e-6)
    assert s["kl_model"]["n"] == s["held_out_likelihood"]["n"] == 150


def test_the_formulas():
    log_p, log_q = torch.tensor([-1.0, -3.0]).double(), torch.tensor([-0.5, -1.0]).double()
    assert held_out_likelihood(log_p) == -2 and kl_model(log_p, log_q) == 1.25


def test_a_model_in_another_space_scores_the_same():
    task = dg.tasks.mixtures.hard(10, dim=2)
    transform = dg.Transform(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0]))
    model = task.truth.within(transform).source
    model.transform = transform
    inside, outside = score(model, task), score(task.truth.source, task)
    assert all(inside[name]["value"] == pytest.approx(outside[name]["value"], abs=0.01) for name in LIKELIHOODS)


def test_at_most_so_many_points_are_used(monkeypatch):
    assert [n_points(d) for d in (1, 4, 5, 16, 17, 64)] == [2000, 2000, 500, 500, 200, 200]
    monkeypatch.setattr("diffgraft.metrics.model.MANY", 30)
    task = dg.tasks.mixtures.shifted(10)
    assert {s["n"] for s in score(task.truth.source, task).values()} == {30}
    assert {s["n"] for s in score(task.truth.source, task, likelihoods=20).values()} == {20}


def test_both_come_from_one_pass_over_the_points(monkeypatch):
    calls = []
    monkeypatch.setattr("diffgraft.metrics.case.log_likelihoods", lambda model, points, seed: calls.append(1) or torch.zeros(points.n))
    task = dg.tasks.mixtures.shifted(10)
    score(task.truth.source, task)
    assert len(calls) == 1


def test_without_truth_the_floor_is_not_known():
    task = dg.tasks.mixtures.shifted(10)
    s = score(task.truth.source, task, n=20, truth=False, metrics=["held_out_likelihood"])["held_out_likelihood"]
    assert math.isnan(s["floor"]) and math.isfinite(s["value"])


def test_labels_come_from_the_reference_or_else_from_the_truth():
    task = dg.tasks.mixtures.hard(10, dim=2, labels="classes")
    model, x = task.truth.target, task.test.x[:40]
    s = score(model, task, n=40, labelled=False)
    assert abs(s["kl_model"]["value"]) < 0.003 and s["kl_model"]["n"] == 40
    assert "held_out_likelihood" not in dg.evaluate(x, x, model=model)
    assert "held_out_likelihood" in dg.evaluate(x, (x, task.test.y[:40]), model=model)
    with pytest.raises(BadData, match=r"held_out_likelihood needs labels of the reference.*pass reference=\(x, y\)"):
        dg.evaluate(x, x, model=model, metrics=["held_out_likelihood"])


def test_a_model_without_labels_is_scored_without_those_of_the_reference():
    task = dg.tasks.mixtures.hard(10, dim=2, labels="classes")
    s = score(dg.drop_label(task.truth.target), task, n=60)
    assert abs(s["kl_model"]["value"]) < 0.003
    assert s["held_out_likelihood"]["floor"] == pytest.approx(float(task.truth.log_prob_target(task.test.x[:60].double()).mean()), abs=1e-6)


def test_above_64_dimensions_likelihood_is_computed_only_when_asked_for(monkeypatch):
    monkeypatch.setattr("diffgraft.metrics.model.STEPS", 2)
    model = dg.Net(lambda x_t, t: x_t, schedule=dg.vp(), predicts="eps", shape=(65,))
    x = torch.randn(12, 65, generator=rng.generator(0))
    assert "held_out_likelihood" not in dg.evaluate(x, x, model=model)
    assert math.isfinite(dg.evaluate(x, x, model=model, metrics=["held_out_likelihood"])["held_out_likelihood"]["value"])


def test_the_estimated_trace_agrees_with_the_exact_one(monkeypatch):
    task = dg.tasks.mixtures.hard(10, dim=12)
    points = Points(task.test.x[:200])
    exact = log_likelihoods(task.truth.source, points, 0)
    assert exact.numpy() == pytest.approx(task.truth.log_prob_source(points.x.double()).numpy(), abs=0.2)
    monkeypatch.setattr("diffgraft.metrics.model.EXACT_UP_TO", 2)
    gap = log_likelihoods(task.truth.source, points, 0) - exact
    assert float(gap.abs().mean()) > 0 and abs(float(gap.mean())) < 4 * float(gap.std()) / 200**0.5


def test_average_likelihood_of_a_normal():
    # the mean of N(0, s^2 I) under itself is (4 pi s^2)^(-D / 2)
    law = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=torch.float64), 0.25 * torch.eye(2, dtype=torch.float64))
    x = 0.5 * torch.randn(40_000, 2, generator=rng.generator(0))
    assert average_likelihood(x, law.log_prob) == pytest.approx(1 / (4 * math.pi * 0.25), rel=0.01)


def test_average_likelihood_in_batches(monkeypatch):
    truth = dg.tasks.mixtures.shifted(10).truth
    x = truth.sample_target(101, 1).x
    whole = average_likelihood(x, truth.log_prob_target)
    monkeypatch.setattr("diffgraft.metrics.truth.BATCH", 7)
    assert average_likelihood(x, truth.log_prob_target) == pytest.approx(whole, rel=1e-12)


def test_the_ideal_average_likelihood_of_section_4_1_and_what_exceeds_it():
    task = dg.tasks.mixtures.shifted(10)
    x = task.truth.sample_target(10_000, 1).x
    perfect, crowded, source = (
        dg.evaluate(a, task.test.x, truth=task.truth, metrics=["average_likelihood"])["average_likelihood"]
        for a in (x, 0.5 * x.sign() * torch.ones(2), task.truth.p.sample(10_000, 1).x)
    )
    assert perfect["floor"] == pytest.approx(0.4006, abs=0.002) and perfect["value"] == pytest.approx(0.4006, abs=0.01)
    assert source["value"] == pytest.approx(0.0653, abs=0.005)
    assert crowded["value"] > 1.5 * crowded["floor"]  # all points near the modes: above the ideal, not better
