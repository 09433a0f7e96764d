"""Denoiser: E[x_0 | x_t, y] of each sample by itself, in the dtype and on the device of x_t."""

import copy

import pytest
import torch
from instances import IMAGE, LABELS, PREDICTIONS, SCHEDULES, B, D, Exact, denoisers, exact_net, generator, label, rand, times, world
from torch import nn

import diffgraft as dg
from diffgraft.denoise import denoising_loss, known_labels, matches, noised, regression_loss, score
from diffgraft.errors import BadModel, BadPlan
from diffgraft.schedule import ALPHA_MIN
from diffgraft.shapes import expand

DENOISERS = denoisers()
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

every_denoiser = pytest.mark.parametrize(("model", "kind"), DENOISERS.values(), ids=DENOISERS)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_prediction = pytest.mark.parametrize("predicts", PREDICTIONS)


def batch(model, kind, dtype=torch.float64):
    """A denoiser in one dtype, and points, times and labels for it."""
    x_t = rand(B, *(model.shape or (D,)), dtype=dtype)
    return copy.deepcopy(model).to(dtype), x_t, times(model.schedule), label(kind)


@every_denoiser
def test_a_batch_of_n_equals_n_singles(model, kind):
    model, x_t, t, y = batch(model, kind)
    together = model(x_t, t, y)
    singles = [model(x_t[i : i + 1], t[i], None if y is None else y[i : i + 1]) for i in range(B)]
    torch.testing.assert_close(torch.cat(singles), together, rtol=1e-9, atol=1e-9)


@every_denoiser
def test_scalar_t_equals_batched_t(model, kind):
    model, x_t, t, y = batch(model, kind)
    for s in t[::2]:
        torch.testing.assert_close(model(x_t, s, y), model(x_t, s.expand(B), y), rtol=1e-9, atol=1e-9)


@every_denoiser
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_device_are_kept(model, kind, dtype, device):
    model, x_t, t, y = batch(model, kind, dtype)
    model, x_t, y = model.to(device), x_t.to(device), None if y is None else y.to(device)
    for time in (t.to(device), t.float().to(device), t[3], t[3].float()):
        out = model(x_t, time, y)
        assert out.shape == x_t.shape
        assert (out.dtype, out.device.type) == (dtype, device)
        assert torch.isfinite(out).all()


@every_denoiser
def test_no_label_is_minus_one_and_labels_count(model, kind):
    model, x_t, t, y = batch(model, kind)
    if kind == "none":
        assert model.n_classes == 0
        return
    none = model(x_t, t, None)
    torch.testing.assert_close(model(x_t, t, torch.full_like(y, -1)), none)
    torch.testing.assert_close(model(x_t, t, y)[B // 2], none[B // 2])
    assert (model.n_classes == 0) == torch.equal(model(x_t, t, y), none)  # without classes labels are ignored


@every_denoiser
def test_the_input_is_left_as_it_was(model, kind):
    model, x_t, t, y = batch(model, kind)
    before = [a.clone() for a in (x_t, t)]
    model(x_t, t, y)
    assert torch.equal(x_t, before[0])
    assert torch.equal(t, before[1])


def everywhere(schedule, n=101):
    """Times from end to end where there is signal, and points of the right scale there."""
    t = torch.linspace(schedule.t_min, schedule.t_max, n, dtype=torch.float64)
    t = t[schedule(t)[0] >= ALPHA_MIN]
    x_t = noised(schedule, rand(len(t), D, seed=1), t, rand(len(t), D, seed=2))
    return x_t, t


@every_schedule
@every_prediction
def test_a_perfect_network_of_any_prediction_type_is_the_exact_denoiser(predicts, name):
    truth = world(name)
    x_t, t = everywhere(truth.schedule)
    torch.testing.assert_close(exact_net(truth, predicts)(x_t, t), truth.source(x_t, t), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["cosine", "rectified", "zero-snr"])
@pytest.mark.parametrize("predicts", sorted(set(PREDICTIONS) - {"eps"}))
def test_pure_noise_is_no_singularity_but_for_eps(predicts, name):
    model, x_t = dg.Net(lambda x_t, t: x_t / 2, SCHEDULES[name], predicts=predicts), rand(B, D)
    for dtype in (torch.float64, torch.float32):
        one = torch.ones((), dtype=dtype)
        assert torch.isfinite(model(x_t, one)).all()
        torch.testing.assert_close(model(x_t, one), model(x_t, one.expand(B)))


@every_prediction
@pytest.mark.parametrize("kind", LABELS)
def test_labels_reach_the_network(kind, predicts):
    truth = world("cosine", kind)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    torch.testing.assert_close(exact_net(truth, predicts)(x_t, t, y), truth.source(x_t, t, y), rtol=0, atol=1e-10)


@every_schedule
def test_score_is_the_gradient_of_the_log_density(name):
    truth = world(name)
    x_t, t = everywhere(truth.schedule)
    x = x_t.clone().requires_grad_()
    exact = torch.autograd.grad(truth.p.log_prob(x, *truth.schedule(t)).sum(), x)[0]
    torch.testing.assert_close(score(truth.source, x_t, t), exact, rtol=1e-8, atol=1e-8)


@every_schedule
@pytest.mark.parametrize("other", SCHEDULES)
def test_with_schedule_is_the_exact_denoiser_of_the_other_process(name, other):
    moved = dg.with_schedule(world(name).source, SCHEDULES[other])
    # where the net's own process ends, a noisier one has no answer
    x_t, t = everywhere(SCHEDULES[other])
    reach = SCHEDULES[name].log_snr(torch.tensor([SCHEDULES[name].t_max, SCHEDULES[name].t_min], dtype=torch.float64))
    log_snr = SCHEDULES[other].log_snr(t)
    inside = (log_snr > reach[0] + 1e-6) & (log_snr < reach[1] - 1e-6)
    assert inside.sum() > 50
    # a table snaps times to whole steps within a thousandth of a step, which moves log-SNR by up to 1e-4
    error = 3e-4 if "discrete" in (name, other) or "zero-snr" in (name, other) else 1e-8
    torch.testing.assert_close(moved(x_t, t)[inside], world(other).source(x_t, t)[inside], rtol=0, atol=error)


def test_with_schedule_returns_a_denoiser_that_has_it_already():
    source = world("vp").source
    assert dg.with_schedule(source, dg.vp()) is source


def test_wrappers_keep_shape_transform_and_prior():
    source = world("vp", "classes").source
    moved, dropped = dg.with_schedule(source, dg.edm()), dg.drop_label(source)
    assert moved.schedule == dg.edm()
    assert (moved.shape, moved.n_classes, moved.prior, moved.transform) == (source.shape, source.n_classes, source.prior, source.transform)
    assert (dropped.schedule, dropped.shape, dropped.n_classes, dropped.prior, dropped.transform) == (dg.vp(), source.shape, 0, None, source.transform)


@every_schedule
@every_prediction
def test_the_loss_is_the_networks_own_squared_error(predicts, name):
    schedule = SCHEDULES[name]
    x_0, eps, t = rand(B, D), rand(B, D, seed=1), times(schedule)
    model = dg.Net(lambda x_t, step: 0.3 * x_t, schedule, predicts=predicts, shape=(D,))
    alpha_t, sigma_t = (expand(a, x_0) for a in schedule(t))
    x_t = alpha_t * x_0 + sigma_t * eps
    total = alpha_t**2 + sigma_t**2
    wanted = {
        "eps": eps,
        "v": alpha_t * eps - sigma_t * x_0,
        "x0": x_0,
        "flow": eps - x_0,
        "edm": (sigma_t * x_0 - alpha_t * eps) / total.sqrt(),
    }[predicts]
    seen = x_t / total.sqrt() if predicts == "edm" else x_t
    loss = denoising_loss(model, x_0, t, eps)
    assert loss.shape == (B,)
    torch.testing.assert_close(loss, ((0.3 * seen - wanted) ** 2).mean(1), rtol=1e-8, atol=1e-8)


@every_schedule
def test_the_exact_denoiser_has_the_least_loss(name):
    truth, n = world(name), 4001
    x_0, eps = truth.p.sample(n, seed=0).x.double(), rand(n, D, seed=1)
    t = times(truth.schedule, n)
    best = denoising_loss(truth.source, x_0, t, eps)
    for factor in (0.8, 1.2):
        worse = dg.Net(lambda x_t, step: factor * truth.source(x_t, truth.schedule.time_of(step)), truth.schedule, predicts="x0")  # noqa: B023
        gap = (denoising_loss(worse, x_0, t, eps) / worse.loss_weight(t) - best / truth.source.loss_weight(t)).clamp(-100, 100)
        assert gap.mean() > 3 * gap.std() / n**0.5


def test_sigma_data_of_an_edm_net_is_the_scale_of_its_data():
    # a network that returns 0 leaves the best linear guess for data of that scale
    model = dg.Net(lambda x_t, t: 0 * x_t, dg.edm(), predicts="edm", sigma_data=0.5)
    x_t, t = rand(B, D), times(dg.edm())
    variance = expand(dg.edm()(t)[1] ** 2, x_t)
    torch.testing.assert_close(model(x_t, t), 0.25 / (0.25 + variance) * x_t)


class Spy(nn.Module):
    """Remembers what it was called with."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x_t, t, y=None):
        self.seen.append((t, y))
        return x_t


@pytest.mark.parametrize("name", ["discrete", "zero-snr"])
def test_a_network_of_a_table_receives_steps(name):
    spy = Spy()
    whole = dg.Net(spy, SCHEDULES[name], round_steps=True)
    floating = dg.Net(spy, SCHEDULES[name])
    for model in (floating, whole):
        model(rand(B, D, dtype=torch.float32), torch.tensor(0.5004))
    assert spy.seen[0][0].tolist() == pytest.approx([499.4] * B, abs=1e-3)
    assert spy.seen[1][0].tolist() == [499.0] * B
    assert spy.seen[0][0].dtype == torch.float32


def test_a_network_of_a_continuous_schedule_receives_t():
    spy = Spy()
    dg.Net(spy, dg.vp())(rand(B, D), torch.tensor(0.25))
    assert spy.seen[0][0].tolist() == [0.25] * B


def test_null_label_is_translated():
    spy = Spy()
    model = dg.Net(spy, dg.vp(), n_classes=10, null_label=10)
    model(rand(B, D), torch.tensor(0.5), torch.tensor([0, 1, -1, 9, -1, 2, 3]))
    model(rand(B, D), torch.tensor(0.5))
    assert spy.seen[0][1].tolist() == [0, 1, 10, 9, 10, 2, 3]
    assert spy.seen[1][1].tolist() == [10] * B


def test_a_network_without_a_label_argument_is_called_without_one():
    model = dg.Net(lambda x_t, t: 2 * x_t, dg.vp(), predicts="x0")
    x_t = rand(B, D)
    assert torch.equal(model(x_t, torch.tensor(0.5), torch.zeros(B).long()), 2 * x_t)


def test_an_unknown_prediction_type_is_refused_with_the_nearest():
    with pytest.raises(BadPlan, match=r"'flows'.*'flow'"):
        dg.Net(nn.Identity(), dg.vp(), predicts="flows")


def test_a_network_that_returns_another_shape_is_refused():
    model = dg.Net(lambda x_t, t: x_t[:, :1], dg.vp(), predicts="x0")
    with pytest.raises(BadModel, match=r"\(7, 3\).*\(7, 1\)"):
        denoising_loss(model, rand(B, D), times(dg.vp()), rand(B, D, seed=1))


def test_images_too():
    model = dg.Net(Exact(dg.Net(lambda x_t, t: x_t / 2, dg.cosine(), predicts="x0"), "v"), dg.cosine(), predicts="v")
    x_t = rand(B, *IMAGE)
    torch.testing.assert_close(model(x_t, times(dg.cosine())), x_t / 2)


@pytest.mark.parametrize("schedule", [dg.rectified()], ids=["rectified"])
def test_an_eps_network_in_pure_noise_is_refused_by_name(schedule):
    model = dg.Net(lambda x_t, t: 0 * x_t, schedule, "eps", (3,))
    with pytest.raises(BadModel, match="alpha_t = 0"):
        model(torch.zeros(7, 3), torch.tensor(1.0))


@every_schedule
def test_regression_on_the_exact_denoiser_has_the_gradient_of_score_matching(name):
    # E[D* - x_0 | x_t] = 0, so the two losses differ by a constant; seen here as one mean over many draws
    truth = world(name)
    scale = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    class Scaled(dg.Denoiser):
        def forward(self, x_t, t, y=None):
            return scale * truth.source(x_t, t, y)

    model, x_0 = Scaled(truth.schedule, (D,)), truth.p.sample(40_000, 1).x.double()
    t = torch.linspace(truth.schedule.t_min, 0.9, 40_000, dtype=torch.float64)[torch.randperm(40_000, generator=generator())]
    eps = rand(*x_0.shape)
    x_t = noised(truth.schedule, x_0, t, eps)
    for loss in (regression_loss(model, truth.source, x_t, t), denoising_loss(model, x_0, t, eps)):
        assert loss.shape == (40_000,)
    weight = model.loss_weight(t).clamp(max=100)  # the same bound for both keeps the mean's spread small
    a, b = (
        torch.autograd.grad((each / model.loss_weight(t) * weight).mean(), scale)[0]
        for each in (regression_loss(model, truth.source, x_t, t), denoising_loss(model, x_0, t, eps))
    )
    assert float(b) == pytest.approx(float(a), rel=0.05)
    assert float(a) < 0
    assert float(regression_loss(truth.source, truth.source, x_t, t).abs().max()) == 0


@pytest.mark.parametrize("kind", ["classes", "multi-hot"])
def test_a_label_that_the_base_does_not_know_is_dropped(kind):
    truth = world("vp", kind)
    x_t, t, values = rand(B, D), times(truth.schedule), truth.source.prior.values
    model = known_labels(truth.source, values[:1], truth.source.n_classes + 2)
    known, unknown = (v.expand(B, *v.shape) for v in (values[0], values[1]))
    torch.testing.assert_close(model(x_t, t, known), truth.source(x_t, t, known))
    torch.testing.assert_close(model(x_t, t, unknown), truth.source(x_t, t, None))
    torch.testing.assert_close(model(x_t, t, None), truth.source(x_t, t, None))
    mixed = torch.where(torch.arange(B)[:, None] % 2 == 0 if kind == "multi-hot" else torch.arange(B) % 2 == 0, known, unknown)
    torch.testing.assert_close(model(x_t, t, mixed)[::2], truth.source(x_t, t, known)[::2])
    torch.testing.assert_close(model(x_t, t, mixed)[1::2], truth.source(x_t, t, None)[1::2])


def test_statements_that_a_base_knows_are_known_together():
    seen = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    asked = torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0], [-1, -1, -1, -1]])
    assert matches(asked, seen).tolist() == [True, False, False, False, False]
    assert matches(asked, torch.zeros(1, 4)).tolist() == [False, False, False, True, True]


def test_classes_are_unknown_to_a_base_of_statements():
    truth = world("vp", "multi-hot")
    model = known_labels(truth.source, truth.source.prior.values, truth.source.n_classes + 2)
    x_t, t = rand(B, D), times(truth.schedule)
    torch.testing.assert_close(model(x_t, t, torch.full((B,), truth.source.n_classes)), truth.source(x_t, t, None))


def test_a_base_without_labels_takes_any():
    truth = world()
    model = known_labels(truth.source, torch.arange(0), 3)
    x_t, t = rand(B, D), times(truth.schedule)
    torch.testing.assert_close(model(x_t, t, torch.arange(B) % 3), truth.source(x_t, t))
    assert model.n_classes == 3


def test_the_target_given_a_label_unknown_to_the_source_is_reached_from_its_unconditional_score():
    # score_q(x_t | y) = score_p(x_t) + grad log q_t(x_t | y) / p_t(x_t)
    truth = world("vp", "classes")
    x_t, t, y = rand(B, D), times(truth.schedule), torch.full((B,), 1)

    def log_h(x_t, t, y):
        return truth.q.log_prob(x_t, *truth.schedule(t), y) - truth.p.log_prob(x_t, *truth.schedule(t))

    base = known_labels(truth.source, torch.tensor([0]), 3)
    model = dg.Guided(base, dg.ratio_shift(log_h, truth.schedule))
    torch.testing.assert_close(model(x_t, t, y), truth.target(x_t, t, y), rtol=0, atol=1e-9)
