"""The training loop: exact resume, averaging, early stopping, the same run on any number of processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from diffgraft.data import Points
from diffgraft.draw import Draw
from diffgraft.errors import BadModel, BadPlan, OutOfMemory
from diffgraft.fit import Training, train
from diffgraft.machine import Machine, current, on
from diffgraft.schedule import vp

POOL = Points(torch.linspace(-1, 1, 33)[:, None].repeat(1, 3))


def make(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 11), nn.Tanh(), nn.Linear(11, 3))


def regression(net):
    def loss(draw):
        x, _ = draw.rows(POOL, "x")
        return ((net(x + 0.3 * draw.noise(x)) - x) ** 2).mean(1)

    return loss


SETTINGS = Training(steps=23, batch_size=7, warmup=3, check_every=5, patience=100, checkpoint_every=4)


def run(folder=None, until=None, settings=SETTINGS, **kwargs):
    net = make()
    curve = []
    for p in train(net, regression(net), settings, 5, held_out=regression(net), folder=folder, **kwargs):
        curve.append(p)
        if until is not None and p.step >= until:
            break
    return net, curve


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("stop", [1, 4, 5, 9, 16, 22, 23])
def test_a_run_that_stopped_anywhere_resumes_to_the_same_bits(tmp_path, stop):
    whole, _ = run()
    run(tmp_path, until=stop)
    resumed, curve = run(tmp_path)
    assert equal(whole, resumed)
    assert stop < 4 or not curve or curve[0].step > 4 * (stop // 4) - 4


def test_resume_under_other_settings_is_refused_with_the_difference(tmp_path):
    run(tmp_path, until=9)
    with pytest.raises(BadModel, match=r"batch_size: 7 before, 8 now"):
        run(tmp_path, settings=Training(steps=23, batch_size=8, warmup=3, check_every=5, patience=100, checkpoint_every=4))


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, _ = run(tmp_path)
    again, curve = run(tmp_path)
    assert equal(first, again) and curve == []


@pytest.mark.parametrize("checked", [None, 50])
def test_early_stopping_keeps_the_best_average(checked):
    settings = Training(steps=500, batch_size=7, warmup=1, learning_rate=0.3, check_every=5, patience=3, checked=checked)
    net, curve = run(settings=settings)
    assert curve[-1].step < 500
    best = min(p.held_out for p in curve if p.held_out is not None)
    held = regression(net)(Draw(5, -1, checked or 7)).double().mean()
    assert held.item() == pytest.approx(best, rel=1e-6)


def test_the_average_warms_up():
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    settings = Training(steps=2, batch_size=2, warmup=1, learning_rate=0.1, ema=0.9999, clip=1e9)

    def loss(draw):
        return -net.weight.sum() * torch.ones(2)

    list(train(net, loss, settings, 0))
    first = 0.1  # Adam's first step is the learning rate
    second = first + settings.rate_at(1)
    expected = (1 - 1 / 10) * first
    expected = expected + (1 - 2 / 11) * (second - expected)
    assert net.weight.item() == pytest.approx(expected, rel=1e-4)


def test_a_diverging_loss_names_the_step():
    net = make()
    with pytest.raises(BadModel, match=r"diverged.*at step 1"):
        list(train(net, lambda draw: net(torch.ones(7, 3)).sum(1) * torch.inf, SETTINGS, 0))


def test_nothing_to_train_is_an_error():
    with pytest.raises(BadModel, match="nothing to train"):
        list(train(make().requires_grad_(False), lambda draw: torch.ones(1), SETTINGS, 0))


def test_shares_of_a_draw_are_pieces_of_the_whole():
    whole = Draw(3, 8, 11)
    parts = [Draw(3, 8, 11, rank, 3) for rank in range(3)]
    assert [p.share.stop - p.share.start for p in parts] == [3, 4, 4]
    x = whole.rows(POOL, "x").x
    assert torch.equal(torch.cat([p.rows(POOL, "x").x for p in parts]), x)
    assert torch.equal(torch.cat([p.times(vp()) for p in parts]), whole.times(vp()))
    assert torch.equal(torch.cat([p.noise(p.rows(POOL, "x").x) for p in parts]), whole.noise(x))
    assert torch.equal(torch.cat([p.uniform("u") for p in parts]), whole.uniform("u"))


def test_times_are_stratified():
    t = Draw(3, 8, 11).times(vp())
    u = (t - 1e-3) / (1 - 1e-3) * 11
    assert torch.equal(u.floor(), torch.arange(11.0))


def test_dropped_labels_are_null_and_others_stay():
    y = torch.arange(400) % 7
    out = Draw(0, 0, 400).drop(y, 0.25)
    assert 50 < int((out == -1).sum()) < 150
    assert torch.equal(out[out >= 0], y[out >= 0])
    rows = Draw(0, 0, 400).drop(torch.ones(400, 3), 0.25)
    assert torch.equal((rows == -1).all(1), out == -1)


SCRIPT = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_fit
net = test_fit.make()
settings = test_fit.Training(steps=int(sys.argv[4]), batch_size=8, warmup=3, check_every=5, patience=10**6, checkpoint_every=4)
folder = None if sys.argv[3] == "none" else Path(sys.argv[3])
curve = []
for p in test_fit.train(net, test_fit.regression(net), settings, 5, held_out=test_fit.regression(net), folder=folder):
    curve.append([p.loss, p.held_out])
    print(p.step, flush=True)
import json, os
if os.environ.get("RANK", "0") == "0":
    Path(sys.argv[2]).write_text(json.dumps([curve, [q.tolist() for q in net.parameters()]]))
"""


def launch(tmp_path, name, *, processes=1, folder="none", steps=40, **kwargs):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    args = [str(script), os.path.dirname(__file__), str(tmp_path / name), str(folder), str(steps)]
    run = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--master_port=29517"] if processes > 1 else []
    return subprocess.Popen([sys.executable, *run, *args], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)


def result(tmp_path, name):
    return json.loads((tmp_path / name).read_text())


def test_two_processes_give_the_loss_curve_of_one(tmp_path):
    one, two = launch(tmp_path, "one"), launch(tmp_path, "two", processes=2)
    for process in (one, two):
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err.decode()[-8000:]
    (a, weights_a), (b, weights_b) = result(tmp_path, "one"), result(tmp_path, "two")
    assert len(a) == len(b) == 40
    for (loss_a, held_a), (loss_b, held_b) in zip(a, b, strict=True):
        assert loss_a == pytest.approx(loss_b, rel=1e-6)
        assert held_a is None or held_a == pytest.approx(held_b, rel=1e-6)
    torch.testing.assert_close([torch.tensor(w) for w in weights_a], [torch.tensor(w) for w in weights_b], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_resumes_to_the_same_bits(tmp_path, number):
    whole = launch(tmp_path, "whole", steps=3000)
    process = launch(tmp_path, "never", folder=tmp_path / "run", steps=3000)
    for line in process.stdout:
        if int(line) >= 300:
            break
    time.sleep(0.037)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0 and not (tmp_path / "never").exists()
    resumed = launch(tmp_path, "resumed", folder=tmp_path / "run", steps=3000)
    first = int(resumed.stdout.readline())
    assert first > 280
    for p in (whole, resumed):
        _, err = p.communicate(timeout=120)
        assert p.returncode == 0, err.decode()[-2000:]
    assert result(tmp_path, "whole")[1] == result(tmp_path, "resumed")[1]


class HalfUsed(nn.Module):
    """A network with a parameter that its loss does not depend on, such as the last bias of a log ratio that is known by its gradient."""

    def __init__(self):
        super().__init__()
        self.net, self.unused = make(), nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.net(x)


def test_a_run_with_an_unused_parameter_resumes_too(tmp_path):
    whole, first, resumed = HalfUsed(), HalfUsed(), HalfUsed()
    list(train(whole, regression(whole), SETTINGS, 5))
    for p in train(first, regression(first), SETTINGS, 5, folder=tmp_path):
        if p.step >= 9:
            break
    list(train(resumed, regression(resumed), SETTINGS, 5, folder=tmp_path))
    assert equal(whole, resumed) and torch.equal(resumed.unused, torch.ones(3))


# The machine: speed and memory, no result


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_a_batch_in_parts_takes_the_steps_of_the_whole(parts):
    whole, curve = run()
    with on(Machine(accumulate=parts)):
        cut, again = run()
    for a, b in zip(whole.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert [p.loss for p in again] == pytest.approx([p.loss for p in curve], rel=1e-5)


def test_half_precision_learns_much_the_same():
    whole, curve = run()
    with on(Machine(precision="bf16")):
        half, again = run()
    assert not equal(whole, half) and again[-1].loss == pytest.approx(curve[-1].loss, rel=0.05)
    assert next(half.parameters()).dtype == torch.float32  # the weights stay whole


def test_settings_of_the_machine_end_with_their_block():
    with on(Machine(accumulate=3)):
        assert current().accumulate == 3
    assert current() == Machine()


def test_settings_of_the_machine_that_make_no_sense_are_refused():
    with pytest.raises(BadPlan, match="known are: bf16, fp16, no"):
        Machine(precision="bf8")
    with pytest.raises(BadPlan, match="at least 1 part"):
        Machine(accumulate=0)
    with pytest.raises(BadPlan, match="batch of 7 cannot be cut into 8"), on(Machine(accumulate=8)):
        run()
    with pytest.raises(BadPlan, match="networks of diffusers can"), on(Machine(checkpointing=True)):
        run()


def test_what_a_full_gpu_leaves_behind_goes_on(tmp_path, monkeypatch):
    whole, _ = run()
    calls = []

    def full(loss, draw):
        calls.append(draw.step)
        if len(calls) == 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(draw)

    net = make()
    loss = regression(net)
    with pytest.raises(OutOfMemory, match="batch of 7; go on with --resume and --accumulate 2"):
        list(train(net, lambda draw: full(loss, draw), SETTINGS, 5, held_out=regression(net), folder=tmp_path))
    resumed, _ = run(tmp_path)
    assert equal(whole, resumed)


class Remembers(nn.Module):
    """A network that can compute its activations again, and says when."""

    _supports_gradient_checkpointing = True

    def __init__(self):
        super().__init__()
        self.net, self.told = make(), []

    def enable_gradient_checkpointing(self):
        self.told.append("on")

    def disable_gradient_checkpointing(self):
        self.told.append("off")

    def forward(self, x):
        return self.net(x)


def test_checkpointing_is_on_while_training():
    net = Remembers()
    with on(Machine(checkpointing=True)):
        list(train(net, regression(net), SETTINGS, 5))
    assert net.told == ["on", "off"]


@pytest.mark.slow
def test_a_compiled_network_learns_the_same_and_is_plain_afterwards():
    whole, _ = run()
    with on(Machine(compiled=True)):
        compiled, _ = run()
    assert compiled._compiled_call_impl is None
    for a, b in zip(whole.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
