"""Where the ratio of target to source is known, methods take it instead of learning one, and come closer to the truth."""

import pytest
import torch

import diffgraft as dg
from diffgraft.errors import BadData
from diffgraft.fit import Training
from diffgraft.pretrain import pretrain


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def world():
    task = dg.tasks.mixtures.shifted(n_target=10, seed=0)
    x = task.data.source.x
    return task, task.truth.log_prob_target(x.double()) - task.truth.log_prob_source(x.double())


def error(model, task):
    x = dg.sample(model, 100, steps=5, generator=seeded())
    given = {"model": model, "truth": task.truth, "metrics": ["score_error"], "generator": seeded()}
    return dg.evaluate(x, task.test.x, **given)["score_error"]["value"]


@pytest.mark.parametrize("name", ["TGDP", "CEP", "Importance"])
def test_a_known_ratio_beats_one_that_ten_points_tell(name, world):
    task, log_r = world
    source = task.truth.source
    if name == "Importance":  # which trains the source's own network
        source = pretrain(task.data.source, 0, training=Training(steps=500, batch_size=256, learning_rate=2e-3))
    method = getattr(dg.methods, name)(steps=500)
    known, learned = (
        method.fit(source, dg.Data(source=task.data.source, target=task.data.target, log_ratio=log_r if is_known else None), seeded())
        for is_known in (True, False)
    )
    assert known.notes["ratio"]["known"] and "known" not in learned.notes.get("ratio", {})
    assert error(known, task) < 0.8 * error(learned, task)


def test_what_is_no_ratio_of_source_samples_is_refused(world):
    task, log_r = world
    with pytest.raises(BadData, match=r"one finite number a source sample, \(10000,\), got \(9999,\)"):
        dg.Data(source=task.data.source, target=task.data.target, log_ratio=log_r[1:])
    with pytest.raises(BadData, match="there are none; pass source=x, or drop log_ratio"):
        dg.Data(target=task.data.target, log_ratio=log_r)
