"""LogRatio: log h is the log of q_t / p_t, the mean of the clean ratio given x_t, and the logistic loss knows it."""

import pytest
import torch
from instances import LABELS, SCHEDULES, WORLDS, B, D, ExactRatio, exact_ratio, label, rand, times, world
from torch import nn

import diffgraft as dg
from diffgraft.errors import BadModel
from diffgraft.guide import gradient, ratio_shift
from diffgraft.nets import catalog
from diffgraft.ratio import LogRatio, guidance_loss, logistic_loss, soft_logistic_loss
from diffgraft.shapes import expand
from diffgraft.tasks.mixtures import Truth

every_schedule = pytest.mark.parametrize("name", SCHEDULES)
every_label = pytest.mark.parametrize("kind", LABELS)

LINE = dg.tasks.mixtures.hard(n_target=10, n_source=10, dim=1, n_components=4).truth
"""A pair of worlds on the line, where integrals are sums."""


def grid(schedule, t, n=4001, reach=8.0):
    """Points that cover p_t and q_t on the line, and the step between them."""
    scale = float(torch.hypot(*schedule(t)))
    x = torch.linspace(-reach * scale, reach * scale, n, dtype=torch.float64)
    return x[:, None], float(x[1] - x[0])


@every_label
@every_schedule
def test_the_exact_ratio_gives_the_target(name, kind):
    truth = world(name, kind)
    log_h = exact_ratio(truth)
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    torch.testing.assert_close(log_h(x_t, t, y), truth.log_h(x_t, t, y), rtol=1e-9, atol=1e-9)
    model = dg.Guided(truth.source, ratio_shift(log_h, truth.schedule))
    for s in (t, t[2], t[5]):
        torch.testing.assert_close(model(x_t, s, y), truth.target(x_t, s, y), rtol=0, atol=1e-10)


@every_label
@every_schedule
def test_equal_domains_give_zero(name, kind):
    p = world(name, kind).p
    truth = Truth(p, p, SCHEDULES[name])
    x_t, t, y = rand(B, D), times(truth.schedule), label(kind)
    assert torch.equal(exact_ratio(truth)(x_t, t, y), torch.zeros(B, dtype=torch.float64))
    assert torch.equal(gradient(exact_ratio(truth), x_t, t, y), torch.zeros_like(x_t))
    assert torch.equal(dg.Guided(truth.source, ratio_shift(exact_ratio(truth), truth.schedule))(x_t, t, y), truth.source(x_t, t, y))


@every_schedule
def test_h_has_mean_one_under_the_source(name):
    truth = LINE.under(SCHEDULES[name])
    for t in times(truth.schedule):
        x_t, step = grid(truth.schedule, t)
        mean = (truth.p.log_prob(x_t, *truth.schedule(t)) + exact_ratio(truth)(x_t, t)).exp().sum() * step
        assert float(mean.detach()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("level", [3.0, 0.0, -3.0])
@every_schedule
def test_h_is_the_mean_of_the_clean_ratio_given_x_t(name, level):
    # eq. 12 of arXiv 2405.16876, by quadrature over x_0
    truth = LINE.under(SCHEDULES[name])
    t = truth.schedule.time_at(torch.tensor(level, dtype=torch.float64))
    alpha_t, sigma_t = truth.schedule(t)
    x_0, _ = grid(truth.schedule, torch.zeros((), dtype=torch.float64))
    x_t = rand(B, 1) * torch.hypot(alpha_t, sigma_t)
    kernel = torch.distributions.Normal(alpha_t * x_0.T, sigma_t).log_prob(x_t)  # (B, n)
    joint = (kernel + truth.p.log_prob(x_0)).exp()
    mean = (joint * (truth.log_prob_target(x_0) - truth.log_prob_source(x_0)).exp()).sum(1) / joint.sum(1)
    torch.testing.assert_close(exact_ratio(truth)(x_t, t).exp(), mean, rtol=1e-5, atol=1e-7)


@every_schedule
def test_the_exact_ratio_has_the_least_logistic_loss(name):
    truth = LINE.under(SCHEDULES[name])
    for t in times(truth.schedule)[1:-1]:
        x_t, step = grid(truth.schedule, t)
        p, q = (m.log_prob(x_t, *truth.schedule(t)).exp() for m in (truth.p, truth.q))
        log_h = exact_ratio(truth)(x_t, t).detach()

        def cost(f, p=p, q=q, step=step):
            nothing = torch.full_like(f, -1e9)
            at_source, at_target = logistic_loss(f, -nothing), logistic_loss(nothing, f)  # one term each, the other is 0
            return float((p * at_source + q * at_target).sum() * step)

        best = cost(log_h)
        x = x_t[:, 0] / x_t.abs().max()
        for bend in (torch.ones_like(x), x, (9 * x).sin()):
            assert cost(log_h + 0.1 * bend) > best + 1e-5
            assert cost(log_h - 0.1 * bend) > best + 1e-5


@pytest.mark.parametrize("level", [3.0, 0.0, -3.0])
@every_schedule
def test_the_exact_ratio_has_the_least_guidance_loss(name, level):
    # eq. 8 of arXiv 2405.16876 over pairs (x_0, x_t) of the source, by quadrature in both
    truth = LINE.under(SCHEDULES[name])
    t = truth.schedule.time_at(torch.tensor(level, dtype=torch.float64))
    alpha_t, sigma_t = truth.schedule(t)
    (x_0, _), (x_t, _) = grid(truth.schedule, torch.zeros((), dtype=torch.float64), n=801), grid(truth.schedule, t, n=401)
    joint = (torch.distributions.Normal(alpha_t * x_0.T, sigma_t).log_prob(x_t) + truth.p.log_prob(x_0)).exp()
    joint = joint / joint.sum()
    log_r = (truth.log_prob_target(x_0) - truth.log_prob_source(x_0)).expand(len(x_t), -1).flatten()
    log_h = exact_ratio(truth)(x_t, t).detach()

    def cost(f):
        return float((joint.flatten() * guidance_loss(f[:, None].expand(-1, len(x_0)).flatten(), log_r)).sum())

    best, x = cost(log_h), x_t[:, 0] / x_t.abs().max()
    for bend in (torch.ones_like(x), x, (9 * x).sin()):
        assert cost(log_h + 0.05 * bend) > best
        assert cost(log_h - 0.05 * bend) > best


def test_the_soft_logistic_loss_has_the_guidance_losss_minimum():
    # two clean points seen as one: h is their mean ratio, whatever the loss
    log_r = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    f = log_r.exp().mean().log().expand(2).clone().requires_grad_()
    soft_logistic_loss(f, log_r).sum().backward()
    assert abs(float(f.grad.sum())) < 1e-12
    costs = [float(soft_logistic_loss(f.detach() + step, log_r).sum()) for step in (-0.1, 0.0, 0.1)]
    assert costs[1] < min(costs[0], costs[2])


def test_the_soft_logistic_loss_of_each_sample():
    f, log_r = torch.tensor([0.0, 2.0, -90.0]), torch.tensor([0.0, -1.0, -torch.inf])
    assert soft_logistic_loss(f, log_r).tolist() == pytest.approx([2 * 0.6931472, 2.1269281 + 0.3678794 * 0.1269280, 0.0], abs=1e-6)


def test_the_guidance_loss_of_each_sample_teaches_h_alone():
    f, log_r = torch.tensor([0.0, 1.0, -90.0], requires_grad=True), torch.tensor([0.0, 0.0, 2.0], requires_grad=True)
    loss = guidance_loss(f, log_r)
    assert loss.tolist() == pytest.approx([0.0, (2.7182818 - 1) ** 2, 7.3890561**2], rel=1e-5)
    loss.sum().backward()
    assert log_r.grad is None
    assert f.grad[1] == pytest.approx(2 * (2.7182818 - 1) * 2.7182818, rel=1e-5)


def test_the_probability_link_scales_the_gradient_by_the_probability_of_the_source():
    # Remark 3.4 of arXiv 2405.16876: grad log c = (1 - c) grad log h
    truth = world()
    x_t, t = rand(B, D), times(truth.schedule)
    log_h, log_c = exact_ratio(truth), LogRatio(ExactRatio(truth), truth.schedule, "log_c")
    c = log_c(x_t, t).exp()
    torch.testing.assert_close(c, (truth.log_h(x_t, t)).sigmoid())
    torch.testing.assert_close(gradient(log_c, x_t, t), (1 - c)[:, None] * gradient(log_h, x_t, t))


@every_schedule
@every_label
def test_the_gradient_written_out_is_that_of_autograd(kind, name):
    schedule = SCHEDULES[name]
    n_classes, y = WORLDS[kind].source.n_classes, label(kind)
    log_h = LogRatio(catalog.ratio_net((D,), schedule, n_classes, width=16, depth=3).double(), schedule)
    nn.init.normal_(log_h.module.head.weight, generator=torch.Generator().manual_seed(0))
    x_t, t = rand(B, D), times(schedule)
    written, known = gradient(log_h, x_t, t, y), gradient(lambda *a: log_h(*a), x_t, t, y)
    with torch.no_grad():
        assert torch.equal(gradient(log_h, x_t, t, y), log_h.gradient(x_t, t, y))
        torch.testing.assert_close(gradient(log_h, x_t, t, y), known.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(written, known, rtol=0, atol=1e-12)
    assert LogRatio(log_h.module, schedule, "log_c").gradient(x_t, t, y) is None
    slopes = [torch.autograd.grad((g**2).sum(), list(log_h.module.layers.parameters()), allow_unused=True) for g in (written, known)]
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


def test_classifier_guidance_leads_between_the_domains():
    # at t = 0 the guided density is p c, which is p q / (p + q) up to its mass
    truth = world()
    x = rand(B, D).requires_grad_()
    t = torch.tensor(1e-9, dtype=torch.float64)
    between = truth.log_prob_source(x) + truth.log_prob_target(x) - torch.logaddexp(truth.log_prob_source(x), truth.log_prob_target(x))
    c = LogRatio(ExactRatio(truth), truth.schedule, "log_c")
    score = torch.autograd.grad(truth.log_prob_source(x).sum(), x)[0] + gradient(c, x.detach(), t)
    torch.testing.assert_close(score, torch.autograd.grad(between.sum(), x)[0], rtol=1e-4, atol=1e-4)


def test_the_logistic_loss_of_each_pair():
    f, g = torch.tensor([0.0, 2.0, -50.0]), torch.tensor([0.0, -1.0, 50.0])
    wanted = [2 * 0.6931472, 2.1269281 + 1.3132617, 0.0]
    assert logistic_loss(f, g).tolist() == pytest.approx(wanted, abs=1e-6)
    assert torch.isfinite(logistic_loss(torch.tensor([1e4]), torch.tensor([-1e4]))).all()


def test_unequal_shapes_are_refused():
    for f, g in ((torch.zeros(B), torch.zeros(B, 1)), (torch.zeros(B), torch.zeros(D)), (torch.zeros(B, 1), torch.zeros(B, 1)), (torch.zeros(()),) * 2):
        with pytest.raises(BadModel, match="one shape"):
            logistic_loss(f, g)
        with pytest.raises(BadModel, match="one shape"):
            guidance_loss(f, g)
        with pytest.raises(BadModel, match="one shape"):
            soft_logistic_loss(f, g)


@every_schedule
def test_an_untrained_ratio_net_is_zero_everywhere(name):
    for shape, kind in (((D,), "mlp"), ((3, 11, 5), "encoder")):
        log_h = LogRatio(catalog.ratio_net(shape, SCHEDULES[name], 4), SCHEDULES[name])
        assert catalog.describe(log_h.module)["net"] == kind
        x_t, t = rand(B, *shape, dtype=torch.float32), times(SCHEDULES[name]).float()
        for y in (None, torch.arange(B) % 4, torch.eye(B, 4)):
            out = log_h(x_t, t, y)
            assert torch.equal(out, torch.zeros(B))


@every_schedule
def test_the_network_sees_unit_scale_and_its_own_time(name):
    schedule, seen = SCHEDULES[name], []

    class Spy(nn.Module):
        def forward(self, x, t, y):
            seen.append((x, t, y))
            return x[:, 0]

    x_t, t, y = rand(B, D), times(schedule), torch.arange(B)
    LogRatio(Spy(), schedule)(x_t, t, y)
    alpha_t, sigma_t = (expand(a, x_t) for a in schedule(t))
    torch.testing.assert_close(seen[0][0] * (alpha_t**2 + sigma_t**2).sqrt(), x_t)
    torch.testing.assert_close(seen[0][1], schedule.module_time(t))
    assert seen[0][2] is y


def test_one_output_in_a_column_is_taken_as_one_value_a_sample():
    x_t = rand(B, D)
    assert torch.equal(LogRatio(lambda x, t, y: x_t[:, :1], dg.vp())(x_t, torch.tensor(0.5)), x_t[:, 0])


@pytest.mark.parametrize("wrong", [lambda x, t, y: x, lambda x, t, y: x[:, :2], lambda x, t, y: x.sum(), lambda x, t, y: x[:3, 0]])
def test_a_network_with_another_number_of_outputs_is_refused(wrong):
    with pytest.raises(BadModel, match=r"one value a sample, \(7,\)"):
        LogRatio(wrong, dg.vp())(rand(B, D), torch.tensor(0.5))
