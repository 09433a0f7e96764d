"""Schedule: the noise level rises with time, and time and log-SNR are two names of one thing."""

import json
import math

import pytest
import torch
from instances import LINEAR, SCHEDULES, B, zero_terminal_snr

import diffgraft as dg
from diffgraft.errors import BadModel
from diffgraft.schedule import ALPHA_MIN, from_config

DISCRETE = {"discrete": LINEAR, "zero-snr": zero_terminal_snr(LINEAR)}

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
every_table = pytest.mark.parametrize(("name", "table"), DISCRETE.items(), ids=DISCRETE)


def span(schedule, n=1001, dtype=torch.float64):
    return torch.linspace(schedule.t_min, schedule.t_max, n, dtype=dtype)


@every_schedule
def test_snr_falls(schedule):
    log_snr = schedule.log_snr(span(schedule))
    assert torch.isfinite(log_snr).all()
    assert (log_snr.diff() < 0).all()


@every_schedule
def test_snr_falls_beyond_the_sampled_range_too(schedule):
    assert (schedule.log_snr(torch.linspace(1e-5, 1 - 1e-5, 1001, dtype=torch.float64)).diff() < 0).all()


@every_schedule
def test_time_at_inverts_log_snr(schedule):
    t = span(schedule)
    log_snr = schedule.log_snr(t)
    error = 1e-9
    assert (schedule.time_at(log_snr) - t).abs().max() < error
    assert (schedule.log_snr(schedule.time_at(log_snr)) - log_snr).abs().max() < 1e3 * error


@every_schedule
def test_time_at_inverts_log_snr_in_single_precision(schedule):
    t = span(schedule, dtype=torch.float32)
    log_snr = schedule.log_snr(t)
    assert (schedule.time_at(log_snr) - t).abs().max() < 1e-5
    assert (schedule.log_snr(schedule.time_at(log_snr)) - log_snr).abs().max() < 3e-3


@every_schedule
def test_alpha_and_sigma_agree_with_log_snr(schedule):
    t = span(schedule)
    alpha_t, sigma_t = schedule(t)
    torch.testing.assert_close(2 * (alpha_t / sigma_t).log(), schedule.log_snr(t), rtol=1e-9, atol=1e-9)


@every_schedule
def test_no_cancellation_near_the_data(schedule):
    t = torch.tensor([1e-5, 1e-4, 1e-3, 1e-2], dtype=torch.float64)
    for exact, single in zip(schedule(t), schedule(t.float()), strict=True):
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=0)


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (B,)])
def test_shape_and_dtype_of_t_are_kept(schedule, dtype, shape):
    t = torch.full(shape, 0.4, dtype=dtype)
    for a in (*schedule(t), schedule.log_snr(t), schedule.time_at(schedule.log_snr(t))):
        assert a.shape == shape
        assert a.dtype == dtype


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_sampling_starts_where_there_is_signal(schedule, dtype):
    alpha = float(schedule(torch.tensor(schedule.t_max, dtype=dtype))[0])
    assert alpha > 0.999 * ALPHA_MIN
    assert schedule.t_max == 1 or alpha < 1.1 * ALPHA_MIN


@pytest.mark.parametrize("schedule", [*SCHEDULES.values(), dg.vp(0.2, 15.0), dg.edm(0.01, 50.0, 5.0)], ids=[*SCHEDULES, "other-vp", "other-edm"])
def test_configuration_round_trip(schedule):
    config = json.loads(json.dumps(schedule.config()))
    copy = from_config(config)
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    t = span(schedule)
    assert torch.equal(copy.log_snr(t), schedule.log_snr(t))


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_levels_of_one_time_are_plain_floats_and_agree(schedule, dtype):
    t = torch.cat([torch.tensor([0.0, 1e-5, 0.0004, 0.0015, 1.0]), torch.linspace(schedule.t_min, schedule.t_max, 101)]).to(dtype)
    together = schedule.levels(t)
    for a, b in zip(together, (*schedule(t), schedule.module_time(t)), strict=True):
        assert torch.equal(a, b)
    alone = [schedule.levels(one) for one in t]
    assert all(type(a) is float for row in alone for a in row)
    for column, a in zip(zip(*alone, strict=True), together, strict=True):
        torch.testing.assert_close(torch.tensor(column, dtype=torch.float64), a.double(), rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=1e-12)


@every_schedule
def test_levels_keep_the_gradient_of_a_time_that_has_one(schedule):
    t = torch.tensor(0.4003, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(schedule.levels(t)[1], t)
    assert slope > 0


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_both_ends_are_defined(schedule, dtype):
    t = torch.tensor([0.0, 1.0], dtype=dtype)
    alpha_t, sigma_t = schedule(t)
    log_snr = schedule.log_snr(t)
    assert (alpha_t >= 0).all()
    assert (sigma_t >= 0).all()
    assert log_snr[0] > 9 > -8 > log_snr[1]  # infinite ones too, but no nan


def test_different_settings_compare_unequal():
    kinds = [*SCHEDULES.values(), dg.vp(0.1, 10.0), dg.edm(0.01), dg.discrete(LINEAR[:500])]
    assert all((a == b) == (i == j) for i, a in enumerate(kinds) for j, b in enumerate(kinds))


def test_an_unknown_configuration_is_refused():
    with pytest.raises(BadModel, match=r"'sigmoid'.*vp, cosine"):
        from_config({"name": "sigmoid"})


def test_closed_forms():
    t = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    alpha_t, sigma_t = dg.vp(0.1, 20.0)(t)
    beta = -2 * torch.autograd.grad(alpha_t.log().sum(), t)[0]  # d log alpha / dt = -beta(t) / 2
    torch.testing.assert_close(beta, 0.1 + 19.9 * t.detach())
    for name in ("vp", "cosine", "discrete", "zero-snr"):
        alpha_t, sigma_t = SCHEDULES[name](t.detach())
        torch.testing.assert_close(alpha_t**2 + sigma_t**2, torch.ones_like(alpha_t))
    alpha_t, sigma_t = dg.cosine()(t.detach())
    torch.testing.assert_close(torch.atan2(sigma_t, alpha_t), math.pi / 2 * t.detach())
    alpha_t, sigma_t = dg.rectified()(t.detach())
    torch.testing.assert_close((alpha_t, sigma_t), (1 - t.detach(), t.detach()))
    alpha_t, sigma_t = dg.edm(0.002, 80.0, 7.0)(t.detach())
    assert (alpha_t == 1).all()
    assert sigma_t[[0, -1]].tolist() == pytest.approx([0.002, 80])
    assert (sigma_t ** (1 / 7)).diff().std() < 1e-12


@every_table
def test_step_k_is_time_k_plus_1_over_T(name, table):
    schedule, k = SCHEDULES[name], torch.arange(1000)
    for dtype in (torch.float64, torch.float32):
        t = (k + 1).to(dtype) / 1000
        assert torch.equal(schedule.module_time(t), k.double())
        torch.testing.assert_close(schedule.time_of(k), t, check_dtype=False)
    alpha_t, sigma_t = schedule((k + 1).double() / 1000)
    last = 999 if table[-1] == 0 else 1000
    torch.testing.assert_close(alpha_t[:last] ** 2, table[:last], rtol=1e-11, atol=0)
    torch.testing.assert_close(sigma_t**2, 1 - table, rtol=1e-11, atol=0)
    assert (alpha_t[last:] < 1e-8).all()  # no signal at the last step, and still a finite log-SNR


@every_table
def test_between_steps_log_snr_is_linear_and_before_them_noise_is(name, table):
    schedule = SCHEDULES[name]
    steps = torch.tensor([3.0, 3.25, 3.5, 4.0], dtype=torch.float64)
    low, quarter, half, high = schedule.log_snr((steps + 1) / 1000).tolist()
    assert quarter == pytest.approx(0.75 * low + 0.25 * high, abs=1e-9)
    assert half == pytest.approx((low + high) / 2, abs=1e-9)
    alpha_t, sigma_t = schedule(torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64) / 1000)
    ratio = sigma_t / alpha_t
    torch.testing.assert_close(ratio / ratio[-1], torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64))
    assert schedule.module_time(torch.tensor(0.0003)) == 0


@pytest.mark.parametrize("table", [[0.5], [0.5, 0.6], [0.9, 0.5, 0.5], [1.0, 0.5], [0.9, -0.1], [float("nan"), 0.5]])
def test_a_table_that_is_no_schedule_is_refused(table):
    with pytest.raises(BadModel, match="alphas_cumprod"):
        dg.discrete(table)
