"""Guided: w = 0 is the base, w = 1 the target, for every schedule, prediction type and kind of label."""

import copy

import pytest
import torch
from instances import LABELS, PREDICTIONS, SCHEDULES, B, D, exact_guided, exact_net, exact_ratio, generator, label, net, rand, times, world

import diffgraft as dg
from diffgraft.denoise import denoising_loss, drop_label, known_labels, noised
from diffgraft.errors import BadModel, ScheduleMismatch
from diffgraft.guide import gradient, interval, ratio_shift, reweighted, toward
from diffgraft.methods.lead import led_by_label
from diffgraft.nets.catalog import PROBE, build
from diffgraft.nets.mlp import MLP
from diffgraft.ratio import LogRatio
from diffgraft.schedule import ALPHA_MIN

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_prediction = pytest.mark.parametrize("predicts", PREDICTIONS)
every_label = pytest.mark.parametrize("kind", LABELS)


class Counted(dg.Denoiser):
    """A denoiser that counts its passes."""

    def __init__(self, base):
        super().__init__(base.schedule, base.shape, base.n_classes)
        self.base, self.passes = base, 0

    def forward(self, x_t, t, y=None):
        self.passes += 1
        return self.base(x_t, t, y)


def everywhere(schedule, n=101):
    """Times from end to end where there is signal, and points of the right scale there."""
    t = torch.linspace(schedule.t_min, schedule.t_max, n, dtype=torch.float64)
    t = t[schedule(t)[0] >= ALPHA_MIN]
    return noised(schedule, rand(len(t), D, seed=1), t, rand(len(t), D, seed=2)), t


def ratio_net(schedule, n_classes=0):
    module = MLP((D,), schedule, n_classes, n_out=1, width=16, depth=2)
    return LogRatio(module, schedule)


def shifts(truth):
    return {"toward": toward(truth.target), "ratio": ratio_shift(truth.log_h, truth.schedule)}


# The exact ratio gives the target


@every_schedule
@every_prediction
def test_the_exact_ratio_gives_the_target(predicts, name):
    truth = world(name)
    x_t, t = everywhere(truth.schedule)
    model = dg.Guided(exact_net(truth, predicts), ratio_shift(truth.log_h, truth.schedule))
    torch.testing.assert_close(model(x_t, t), truth.target(x_t, t), rtol=0, atol=1e-10)
    for x, s in zip(x_t[::10], t[::10], strict=True):
        torch.testing.assert_close(model(x[None], s), truth.target(x[None], s), rtol=0, atol=1e-10)


@every_schedule
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_first_step_of_sampling_is_guided(name, dtype):
    truth = world(name)
    t = torch.tensor(truth.schedule.t_max, dtype=dtype)
    x_t = rand(B, D) * torch.hypot(*truth.schedule(t.double()))
    for time in (t, t.expand(B)):
        torch.testing.assert_close(exact_guided(truth)(x_t, time), truth.target(x_t, time), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["cosine", "rectified", "zero-snr"])
def test_pure_noise_is_left_to_the_base(name):
    truth, x_t = world(name), rand(B, D)
    for t in (torch.ones((), dtype=torch.float64), torch.ones(B, dtype=torch.float64)):
        out = exact_guided(truth)(x_t, t)
        assert torch.isfinite(out).all()
        assert torch.equal(out, truth.source(x_t, t))


@every_schedule
@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_the_exact_ratio_gives_the_target_under_every_label(kind, name):
    truth = world(name, kind)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    model = exact_guided(truth)
    torch.testing.assert_close(model(x_t, t, y), truth.target(x_t, t, y), rtol=0, atol=1e-10)
    torch.testing.assert_close(model(x_t, t), truth.target(x_t, t), rtol=0, atol=1e-10)
    null = torch.full_like(y, -1)
    torch.testing.assert_close(model(x_t, t, null), truth.target(x_t, t), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_a_source_without_labels_reaches_the_labelled_target(kind):
    # score_q(x_t | y) = score_p(x_t) + grad log q_t(x_t | y) / p_t(x_t): exact with the label dropped from the source alone
    truth = world("vp", kind)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)

    def log_h(x_t, t, y):
        return truth.q.log_prob(x_t, *truth.schedule(t), y) - truth.p.log_prob(x_t, *truth.schedule(t))

    model = dg.Guided(dg.drop_label(truth.source), ratio_shift(log_h, truth.schedule))
    torch.testing.assert_close(model(x_t, t, y), truth.target(x_t, t, y), rtol=0, atol=1e-10)


@every_label
@pytest.mark.parametrize("own", SCHEDULES)
def test_two_models_under_different_schedules_meet_through_with_schedule(own, kind):
    base, other = world("vp", kind), world(own, kind)
    x_t, y = rand(B, D), label(kind)
    t = torch.linspace(0.1, 0.9, B, dtype=torch.float64)
    model = dg.Guided(base.source, toward(dg.with_schedule(other.target, dg.vp())), 1.0)
    half = dg.Guided(base.source, toward(dg.with_schedule(other.target, dg.vp())), 0.5)
    error = 1e-3 if own in ("discrete", "zero-snr") else 1e-9  # a table snaps times to whole steps
    torch.testing.assert_close(model(x_t, t, y), base.target(x_t, t, y), rtol=0, atol=error)
    torch.testing.assert_close(half(x_t, t, y), (base.source(x_t, t, y) + base.target(x_t, t, y)) / 2, rtol=0, atol=error)


@every_schedule
@pytest.mark.parametrize("other", SCHEDULES)
def test_unequal_schedules_are_refused_with_the_remedy(name, other):
    base, tuned = world(name), world(other)
    for shift in shifts(tuned).values():
        if name == other:
            dg.Guided(base.source, shift)
            continue
        with pytest.raises(ScheduleMismatch, match="with_schedule"):
            dg.Guided(base.source, shift)


# The weight


@every_label
@pytest.mark.parametrize("which", ["toward", "ratio"])
def test_w_0_is_the_base_bit_for_bit_and_calls_no_shift(which, kind):
    truth = world("vp", kind)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    base, tuned = Counted(truth.source), Counted(truth.target)

    def log_h(x_t, t, y):
        raise AssertionError("the shift was called")

    shift = toward(tuned) if which == "toward" else ratio_shift(log_h, truth.schedule)
    assert torch.equal(dg.Guided(base, shift, 0.0)(x_t, t, y), truth.source(x_t, t, y))
    assert (base.passes, tuned.passes) == (1, 0)


@every_label
def test_w_1_of_toward_is_the_target_bit_for_bit_and_calls_no_base(kind):
    truth = world("vp", kind)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    base, tuned = Counted(truth.source), Counted(truth.target)
    for x, s, labels in ((x_t, t, y), (x_t, t[3], y), (x_t, t, None)):
        assert torch.equal(dg.Guided(base, toward(tuned), 1.0)(x, s, labels), truth.target(x, s, labels))
    assert (base.passes, tuned.passes) == (0, 3)


@every_label
@pytest.mark.parametrize("weight", [-0.5, 0.3, 2.0])
def test_in_between_and_beyond_the_output_is_linear_in_w(weight, kind):
    truth = world("vp", kind)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    d, target = truth.source(x_t, t, y), truth.target(x_t, t, y)
    for name, shift in shifts(truth).items():
        base = Counted(truth.source)
        torch.testing.assert_close(dg.Guided(base, shift, weight)(x_t, t, y), d + weight * (target - d), rtol=0, atol=1e-9, msg=name)
        assert base.passes == 1


def test_the_ratio_is_asked_once_a_pass():
    truth, calls = world(), []

    def log_h(x_t, t, y):
        calls.append(len(x_t))
        return truth.log_h(x_t, t, y)

    base = Counted(truth.source)
    dg.Guided(base, ratio_shift(log_h, truth.schedule))(rand(B, D), times(truth.schedule))
    assert calls == [B]
    assert base.passes == 1


def test_classifier_free_guidance_is_toward_the_labelled_net_from_the_unlabelled():
    truth = world("vp", "classes")
    x_t, t, y = rand(B, D), times(truth.schedule), label("classes")
    model = dg.Guided(dg.drop_label(truth.target), toward(truth.target), 1.5)
    none = truth.target(x_t, t)
    torch.testing.assert_close(model(x_t, t, y), none + 1.5 * (truth.target(x_t, t, y) - none))


def test_a_guided_model_is_led_by_its_label_within_bounds():
    truth = world("vp", "classes")
    x_t, y = rand(B, D), label("classes")
    guided = dg.Guided(truth.source, toward(truth.target), 0.7)
    led = led_by_label(guided, 1.5, [-2.0, 2.0])
    for log_snr, w in ((-3.0, 1.0), (0.0, 1.5), (3.0, 1.0)):
        t = truth.schedule.time_at(torch.tensor(log_snr, dtype=torch.float64)).expand(B)
        none = guided(x_t, t)
        torch.testing.assert_close(led(x_t, t, y), none + w * (guided(x_t, t, y) - none))
    by_ratio = dg.Guided(truth.source, ratio_shift(truth.log_h, truth.schedule), 0.7)
    _, _, step = by_ratio.parts(x_t, t, y)
    none = truth.source(x_t, t)
    led = led_by_label(by_ratio, 1.5)
    torch.testing.assert_close(led(x_t, t, y), none + 1.5 * (truth.source(x_t, t, y) - none) + 0.7 * step)
    with pytest.raises(BadModel, match=r"^a label weight leads by labels, and this model knows none; drop it$"):
        led_by_label(world("vp").source, 1.5)


def test_labels_of_the_target_can_be_sampled_though_the_base_drops_them():
    truth = world("vp", "classes")
    model = dg.Guided(dg.drop_label(truth.source), toward(truth.target), 1.0)
    y = torch.tensor([0, 1, 2, -1, 2, 1, 0])
    asked, drawn = ([dg.sample(m, generator=generator(), steps=5, **request) for m in (model, truth.target)] for request in ({"y": y}, {"n": B}))
    assert torch.equal(*asked)
    assert torch.equal(*drawn)  # with labels from the target's prior


@pytest.mark.parametrize("kind", ["unet", "sssd"])
@pytest.mark.parametrize("wrapped", [lambda net: net, drop_label, lambda net: known_labels(net, torch.arange(0), 3)], ids=["plain", "drop", "known"])
def test_a_head_on_the_base_is_read_in_the_bases_own_pass(kind, wrapped):
    shape = (1, 8, 8) if kind == "unet" else (2, 24)
    small = {"width": 8} if kind == "unet" else {"width": 8, "depth": 2, "states": 4, "groups": 4}
    body = build(kind, shape, dg.vp(), **small)
    for p in body.parameters():
        torch.nn.init.normal_(p, std=0.2, generator=generator())
    base = dg.Net(body, dg.vp(), shape=shape)
    log_h = LogRatio(build(PROBE, shape, dg.vp(), 3, body=body), dg.vp())
    model = dg.Guided(wrapped(base), ratio_shift(log_h, dg.vp()), 1.5).requires_grad_(False)
    x_t, t, y, calls = torch.randn(3, *shape, generator=generator()), torch.tensor(0.4), torch.tensor([0, 2, -1]), []
    apart = base(x_t, t) + 1.5 * model.shift(x_t, t, y, None)
    body.down.stem.register_forward_hook(lambda *_: calls.append(1)) if kind == "unet" else body.stem.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x_t, t, y), apart)
    assert len(calls) == 1
    other = dg.Guided(dg.Net(copy.deepcopy(body), dg.vp(), shape=shape), model.shift, 1.5).requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(other(x_t, t, y), apart)


def test_guided_models_nest():
    truth = world()
    x_t, t = rand(B, D), times(truth.schedule)
    inner = dg.Guided(truth.source, ratio_shift(truth.log_h, truth.schedule), 0.5)
    model = dg.Guided(inner, ratio_shift(truth.log_h, truth.schedule), 0.5)
    torch.testing.assert_close(model(x_t, t), truth.target(x_t, t), rtol=0, atol=1e-10)


def test_reweighted_shares_the_networks_and_refuses_a_plain_one():
    truth = world()
    model = exact_guided(truth)
    x_t, t = rand(B, D), times(truth.schedule)
    other = reweighted(model, 0.0)
    assert other.base is model.base
    assert other.shift is model.shift
    assert torch.equal(other(x_t, t), truth.source(x_t, t))
    assert model.weight == 1.0
    with pytest.raises(BadModel, match="only a guided model"):
        reweighted(truth.source, 0.5)


# Intervals


@pytest.mark.parametrize(("which", "outside", "wanted"), [("toward", None, 1), ("ratio", None, 0), ("toward", 0.5, 0.5), ("ratio", 0.5, 0.5)])
def test_an_interval_sets_the_weight_inside_a_range_of_log_snr(which, outside, wanted):
    truth = world()
    model = dg.Guided(truth.source, shifts(truth)[which], interval(2.0, -3.0, 1.0, outside))
    log_snr = torch.tensor([8.0, 1.01, 0.99, 0.0, -2.99, -3.01, -8.0], dtype=torch.float64)
    t, x_t = truth.schedule.time_at(log_snr), rand(B, D)
    w = torch.tensor([wanted, wanted, 2, 2, 2, wanted, wanted])[:, None]
    d, target = truth.source(x_t, t), truth.target(x_t, t)
    torch.testing.assert_close(model(x_t, t), d + w * (target - d), rtol=0, atol=1e-9)
    for i in range(B):
        torch.testing.assert_close(model(x_t[i : i + 1], t[i]), model(x_t, t)[i : i + 1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("which", "passes"), [("toward", (1, 2)), ("ratio", (2, 1))])
def test_outside_the_interval_the_spare_pass_is_saved(which, passes):
    truth = world()
    base, tuned, asked = Counted(truth.source), Counted(truth.target), []

    def log_h(x_t, t, y):
        asked.append(t)
        return truth.log_h(x_t, t, y)

    shift = toward(tuned) if which == "toward" else ratio_shift(log_h, truth.schedule)
    model, x_t = dg.Guided(base, shift, interval(2.0, -3.0, 1.0)), rand(B, D)
    for log_snr in (0.0, 5.0):  # inside, then outside
        model(x_t, truth.schedule.time_at(torch.tensor(log_snr, dtype=torch.float64)))
    assert (base.passes, tuned.passes + len(asked)) == passes


# Gradients


@every_label
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
@pytest.mark.parametrize("weight", [1.0, interval(1.5, -2.0, 2.0)], ids=["number", "interval"])
@every_schedule
def test_every_grad_mode_gives_the_same_numbers(name, weight, mode, kind):
    schedule, n_classes = SCHEDULES[name], 0 if kind == "none" else 3
    model = dg.Guided(net("mlp", schedule, n_classes), ratio_shift(ratio_net(schedule, n_classes), schedule), weight)

    def outputs():
        x_t, t, y = rand(B, D, dtype=torch.float32), times(schedule).float(), label(kind)
        return [model(x_t, t, y), *(model(x_t, s, y) for s in times(schedule)[::3])]

    wanted = [out.detach() for out in outputs()]
    with mode():
        got = outputs()  # from tensors made inside the mode
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    for out, want in zip(got, wanted, strict=True):
        assert out.requires_grad == (mode is torch.enable_grad)
        torch.testing.assert_close(out.detach().clone(), want, rtol=1e-5, atol=1e-5)


def test_the_shift_teaches_the_ratio_and_leaves_the_source_untouched():
    base, log_h = net("mlp", dg.vp()).double(), ratio_net(dg.vp()).double()
    before = [p.detach().clone() for p in base.parameters()]
    base.requires_grad_(False)
    model = dg.Guided(base, ratio_shift(log_h, dg.vp()))
    optimiser = torch.optim.SGD(log_h.parameters(), lr=1e-2)
    x_0, eps, t = rand(B, D), rand(B, D, seed=1), times(dg.vp())
    losses = []
    for _ in range(3):
        loss = denoising_loss(model, x_0, t, eps).mean()
        optimiser.zero_grad()
        loss.backward()
        silent = [name for name, p in log_h.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == ["module.head.bias"]  # a constant in log h has no gradient in x
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[1] < losses[0]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, base.parameters(), strict=True))


def test_the_gradient_of_the_gradient_is_right():
    truth = world()
    log_h = exact_ratio(truth)
    x_t, t = rand(B, D), times(truth.schedule)
    total = gradient(log_h, x_t, t).sum()
    # log h is linear in its scale, so d/dscale of the gradient's sum is the sum itself
    (slope,) = torch.autograd.grad(total, log_h.module.scale)
    torch.testing.assert_close(slope, total.detach())


def test_the_jacobian_of_a_guided_model_is_that_of_the_target():
    truth = world()
    x_t, t = rand(B, D), times(truth.schedule)
    jacobian = [torch.autograd.functional.jacobian(lambda x, model=model: model(x, t).sum(0), x_t) for model in (exact_guided(truth), truth.target)]
    torch.testing.assert_close(*jacobian, rtol=0, atol=1e-9)


def test_sampling_time_calls_keep_no_graph_and_leave_no_gradients():
    model = dg.Guided(net("mlp", dg.vp()), ratio_shift(ratio_net(dg.vp()), dg.vp()))
    with torch.no_grad():
        out = model(rand(B, D, dtype=torch.float32), torch.tensor(0.5))
    assert not out.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_a_ratio_of_another_shape_is_refused():
    x_t, t = rand(B, D), times(dg.vp())
    for wrong in (lambda x, t, y: x, lambda x, t, y: x[:, :1], lambda x, t, y: x.sum()):
        with pytest.raises(BadModel, match=r"\(7,\)"):
            gradient(wrong, x_t, t)


def test_a_guided_model_takes_transform_prior_shape_and_labels_from_its_base():
    truth = world("vp", "classes")
    model = exact_guided(truth)
    assert (model.shape, model.n_classes) == ((D,), 3)
    assert model.prior is truth.source.prior
    assert model.transform is truth.source.transform
