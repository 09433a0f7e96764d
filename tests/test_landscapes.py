"""Landscapes: exact values lie where the axes say, an exact ratio leaves no difference, and a run writes what is missing."""

import numpy as np
import pytest
import torch

import diffgraft as dg
from diffgraft import experiment, landscapes
from diffgraft.guide import ratio_shift, toward
from laws.instances import exact_ratio
from test_experiment import plan

TASK = dg.tasks.mixtures.hard(n_target=30, n_source=200, dim=2)


def test_exact_values_lie_where_the_axes_say():
    found = dict(landscapes.clean_ratios(TASK, 0))
    assert list(found) == ["kernel", "network"]
    for name, scape in found.items():
        i, j = 7, 40
        at = torch.stack([scape.x[j], scape.y[i]])[None].double()
        exact = scape.exact.reshape(landscapes.SIDE, landscapes.SIDE)[i, j]
        assert float(exact) == pytest.approx(float(TASK.truth.log_prob_target(at) - TASK.truth.log_prob_source(at)), abs=1e-5)
        assert scape.source.n == scape.target.n == 30 and name in scape.title
        agree = np.corrcoef(scape.learned.numpy(), scape.exact.numpy())[0, 1]
        assert agree > 0.3, agree


def test_the_exact_ratio_is_drawn_without_a_difference():
    model = dg.Guided(TASK.truth.source, ratio_shift(exact_ratio(TASK.truth), TASK.truth.schedule))
    scape = landscapes.learned_guidance(model, TASK)
    torch.testing.assert_close(scape.learned.double(), scape.exact, rtol=0, atol=1e-4)
    assert scape.exact.std() > 0.1


def test_only_log_ratios_are_drawn():
    log_c = exact_ratio(TASK.truth)
    log_c.link = "log_c"
    shifts = (toward(TASK.truth.target), ratio_shift(log_c, TASK.truth.schedule))
    assert [landscapes.learned_guidance(dg.Guided(TASK.truth.source, s), TASK) for s in shifts] == [None, None]
    assert landscapes.learned_guidance(TASK.truth.target, TASK) is None
    assert [landscapes.is_flat(dg.tasks.mixtures.hard(n_target=9, n_source=20, **k)) for k in ({"dim": 2}, {"dim": 3}, {"dim": 2, "labels": "classes"})] == [
        True,
        False,
        False,
    ]


def test_a_run_writes_the_landscapes_of_its_first_seeds_and_later_what_is_missing(tmp_path):
    methods = [
        {"name": "finetune", "steps": 5, "batch_size": 8},
        *({"name": "tgdp", "label": name, "steps": 5, "batch_size": 8, "augment": "none"} for name in "ab"),
    ]
    experiment.run(plan(method=methods), tmp_path / "run", quiet=True)
    files = {"modes-n9-clean-ratio-kernel.npz", "modes-n9-clean-ratio-network.npz", "modes-n9-a-s0.npz", "modes-n9-b-s0.npz"}
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "fields").iterdir()}
    assert before.keys() == files
    (tmp_path / "run" / "fields" / "modes-n9-a-s0.npz").unlink()
    experiment.run(plan(method=methods), tmp_path / "run", resume=True, quiet=True)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / "fields").iterdir()}
    assert after.keys() == files and [name for name in files if after[name] != before[name]] == ["modes-n9-a-s0.npz"]
    with np.load(tmp_path / "run" / "fields" / "modes-n9-a-s0.npz", allow_pickle=False) as file:
        assert file["learned"].shape == file["exact"].shape == (landscapes.SIDE, landscapes.SIDE) and file["target"].shape == (9, 2)
