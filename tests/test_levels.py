"""Noise levels that count alike in training."""

from dataclasses import replace

import pytest
import torch

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.fit import Training
from diffgraft.pretrain import Levels, pretrain
from diffgraft.schedule import vp

BRIEF = Training(steps=12, batch_size=8, checkpoint_every=5, balanced=True)


def test_what_is_learned_is_the_mean_loss_at_each_level():
    schedule = vp()
    levels, t = Levels(schedule), torch.linspace(0.01, 1, 400)
    mean = 1 + 0.8 * torch.sin(4 * t)
    optimizer = torch.optim.Adam(levels.parameters(), lr=0.02)
    for _ in range(1500):
        optimizer.zero_grad()
        levels(mean, t).mean().backward()
        optimizer.step()
    shares = (levels(mean, t) - levels(torch.zeros_like(mean), t)).detach()
    assert float((shares - 1).abs().max()) < 0.1
    torch.testing.assert_close(levels(torch.zeros_like(mean), t).detach(), mean.log(), atol=0.1, rtol=0.0)


def test_at_the_start_losses_are_as_they_are():
    loss = torch.rand(5)
    assert torch.equal(Levels(vp())(loss, torch.rand(5)), loss)


@pytest.fixture
def pool():
    return Points(torch.randn(40, 2, 32, generator=torch.Generator().manual_seed(0)))


def made(pool, **more):
    return pretrain(pool, 0, settings={"width": 8, "depth": 1}, **{"training": BRIEF, **more})


def test_balancing_is_no_part_of_the_model(pool, tmp_path):
    model = made(pool)
    assert not [name for name, _ in model.named_parameters() if "levels" in name]
    dg.save(model, tmp_path / "m")
    assert dg.load(tmp_path / "m").shape == (2, 32)


def losses(pool, balanced):
    told = []
    made(pool, training=replace(BRIEF, balanced=balanced, steps=1), watch=lambda progress: told.append(progress.loss))
    return told


def test_the_loss_that_is_told_is_the_plain_one(pool):
    assert losses(pool, True) == losses(pool, False) != []


def test_a_balanced_training_resumes_to_the_same_bits(pool, tmp_path):
    whole, stopped = made(pool), []

    def stop(progress):
        stopped.append(progress.step)
        if progress.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(pool, folder=tmp_path, watch=stop)
    again = made(pool, folder=tmp_path)
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert max(stopped) == 7
