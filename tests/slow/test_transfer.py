"""Whole transfers on section 4.1, with bounds against the exact target."""

import math
import runpy
from pathlib import Path

import pytest
import torch

import diffgraft as dg
from diffgraft.likelihood import log_prob
from diffgraft.metrics.truth import score_error
from diffgraft.pretrain import pretrain

pytestmark = pytest.mark.slow

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/conditional.py"))
TUNED = [dg.methods.Scratch(steps=1500, held_out=0.0), dg.methods.Finetune(steps=1500, held_out=0.0)]
"""The baselines that are best in hindsight at 100 points (`plans/gmm.toml`)."""


@pytest.fixture(scope="module")
def world():
    task = dg.tasks.mixtures.shifted(n_target=100, seed=1)
    return task, pretrain(task.data.source, 1, transform=task.transform)


def scores(model, task):
    x = dg.sample(model, 5000, generator=torch.Generator().manual_seed(2))
    return {name: s["value"] for name, s in dg.evaluate(x, task.test.x, model=model, truth=task.truth).items()}


def test_the_source_model_knows_its_own_domain(world):
    task, source = world
    x = dg.sample(source, 5000, generator=torch.Generator().manual_seed(2))
    assert dg.evaluate(x, task.truth.p.sample(10_000, 9).x, model=source, metrics=["energy"])["energy"]["value"] < 2e-3


@pytest.mark.parametrize(("method", "bound"), [(dg.methods.TGDP(), 0.006), (dg.methods.Finetune(), 0.05), (dg.methods.Scratch(), 0.05)])
def test_every_method_closes_most_of_the_gap(world, method, bound):
    task, source = world
    bare = scores(source, task)
    assert bare["score_error"] > 0.2 and bare["kl_generated"] > 2.5
    adapted = scores(method.fit(source, task.data, torch.Generator().manual_seed(0)), task)
    assert adapted["score_error"] < bound
    assert adapted["kl_generated"] < 0.15 * bare["kl_generated"]
    assert adapted["energy"] < 0.3 * bare["energy"]


def test_guidance_beats_tuned_baselines(world):
    task, source = world
    fitted = [m.fit(source, task.data, torch.Generator().manual_seed(0)) for m in (dg.methods.TGDP(), *TUNED)]
    ours, *theirs = (score_error(m, task.truth) for m in fitted)
    assert ours < 0.8 * min(theirs)


def test_one_conditional_fit_is_as_good_as_one_fit_a_label():
    rows = BENCHMARK["one_seed"](0, per_label=50, steps=1000, source_steps=2000)
    assert len(rows) == 3
    assert math.exp(sum(math.log(conditional / alone) for _, conditional, alone in rows) / 3) < 1.3


def test_likelihood_ranks_the_models(world):
    task, source = world
    model = dg.methods.TGDP().fit(source, task.data, torch.Generator().manual_seed(0))
    x = task.test.x[:500]
    exact = task.truth.log_prob_target(x.double()).mean()
    adapted, bare = (float(log_prob(m, x, steps=50).mean()) for m in (model, source))
    assert bare < exact - 1
    assert abs(adapted - float(exact)) < 0.3
