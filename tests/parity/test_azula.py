"""Samplers, preconditioning and guidance against azula: the same schedule, grid, start and noise must give the same samples."""

import pytest
import torch
from torch import nn

import diffgraft as dg
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.samplers import SAMPLERS, Grid

pytest.importorskip("azula", reason="azula is not installed: pip install --no-deps azula einops")

import azula.denoise
import azula.guidance.cfg
import azula.linalg.covariance
import azula.noise
import azula.sample

B, STEPS = 7, 25
TRUTH = dg.tasks.mixtures.hard(n_target=10, n_source=10, dim=3, labels="classes").truth
SCHEDULES = {
    "vp": dg.vp(),
    "cosine": dg.cosine(),
    "rectified": dg.rectified(),
    "edm": dg.edm(),
    "discrete": dg.discrete((1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)),
}

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


class Converted(azula.noise.Schedule):
    """Our schedule along the log-SNR grid, so that equal steps of azula's time are steps of that grid."""

    def __init__(self, schedule):
        self.schedule = schedule
        ends = torch.tensor([schedule.t_min, schedule.t_max], dtype=torch.float64)
        self.high, self.low = schedule.log_snr(ends)

    def time(self, u):
        return self.schedule.time_at(torch.lerp(self.high, self.low, u))

    def __call__(self, u):
        return self.schedule(self.time(u))


class Wrapped(azula.denoise.Denoiser):
    """Our denoiser as one of azula's."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule = denoiser, Converted(denoiser.schedule)

    def forward(self, x_t, t, label=None):
        return azula.denoise.DiracPosterior(mean=self.denoiser(x_t, self.schedule.time(t), label))


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(kind, denoiser, x, **settings):
    torch.manual_seed(5)
    sampler = getattr(azula.sample, kind)(Wrapped(denoiser), start=1.0, stop=0.0, steps=STEPS, silent=True, dtype=torch.float64, **settings)
    return sampler(x)


def ours(name, denoiser, x):
    torch.manual_seed(5)
    *_, x = SAMPLERS[name](denoiser, x, Grid.log_snr(denoiser.schedule, STEPS), noise=lambda i, x: torch.randn_like(x))
    return x


def start(schedule):
    return rand(B, 3) * torch.hypot(*schedule(torch.tensor(schedule.t_max, dtype=torch.float64)))


@every_schedule
@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("ddim", "DDIMSampler", {}),
        ("ddim", "EulerSampler", {}),
        ("ddim", "zEABSampler", {"order": 1}),
        ("ddim", "xEABSampler", {"order": 1}),
        ("ddpm", "DDPMSampler", {}),
        ("ddpm", "DDIMSampler", {"eta": 1.0}),
        ("heun", "HeunSampler", {}),
    ],
)
def test_samplers_agree(name, kind, settings, schedule):
    source = TRUTH.under(schedule).source
    # the differential forms divide by alpha, as small as 1e-3 at the start; a table snaps times to whole steps
    error = 1e-5 if schedule == SCHEDULES["discrete"] else 1e-8
    torch.testing.assert_close(ours(name, source, start(schedule)), theirs(kind, source, start(schedule), **settings), rtol=0, atol=error)


@every_schedule
def test_multistep_agrees_as_steps_grow_small(schedule):
    # both are second order with D linear in log-SNR; they integrate it by different rules
    source, errors = TRUTH.under(schedule).source, []
    for steps in (50, 100):
        sampler = azula.sample.xEABSampler(Wrapped(source), order=2, steps=steps, silent=True, dtype=torch.float64)
        *_, x = SAMPLERS["dpmpp_2m"](source, start(schedule), Grid.log_snr(schedule, steps))
        errors.append(float((x - sampler(start(schedule))).abs().max()))
    assert errors[1] < 0.4 * errors[0] < 0.05


@every_schedule
def test_labels_reach_the_denoiser(schedule):
    source, y = TRUTH.under(schedule).source, torch.tensor([0, 1, 2, -1, 0, 2, 1])
    sampler = azula.sample.DDIMSampler(Wrapped(source), steps=STEPS, silent=True, dtype=torch.float64)
    *_, x = SAMPLERS["ddim"](source, start(schedule), Grid.log_snr(schedule, STEPS), y)
    torch.testing.assert_close(x, sampler(start(schedule), label=y), rtol=0, atol=1e-5)


@every_schedule
def test_the_exact_denoiser_of_a_gaussian_agrees(schedule):
    mean, variance = rand(3), rand(3, seed=1) ** 2 + 0.1
    mixture = Mixture(torch.ones(1, dtype=torch.float64), mean[None], torch.diag(variance)[None])
    reference = azula.denoise.GaussianDenoiser(mean, azula.linalg.covariance.DiagonalCovariance(variance), Converted(schedule))
    for u in torch.linspace(0, 1, 11, dtype=torch.float64):
        t = reference.schedule.time(u)
        torch.testing.assert_close(MixtureDenoiser(mixture, schedule)(start(schedule), t), reference(start(schedule), u).mean, rtol=0, atol=1e-6)


@every_schedule
def test_edm_preconditioning_agrees_at_unit_scale(schedule):
    torch.manual_seed(0)
    linear = nn.Linear(3, 3).double()

    class Backbone(nn.Module):
        """Told log(sigma / alpha) by azula, t or the step by us."""

        def __init__(self, of_log_noise):
            super().__init__()
            self.linear, self.of_log_noise = linear, of_log_noise

        def forward(self, x, t):
            noise = t if self.of_log_noise else -schedule.log_snr(schedule.time_of(t)) / 2
            return self.linear(x) * noise[:, None]

    reference = azula.denoise.KarrasDenoiser(Backbone(True), Converted(schedule))
    mine = dg.Net(Backbone(False), schedule, predicts="edm")
    u = torch.linspace(0, 1, B, dtype=torch.float64)
    error = 1e-4 if schedule == SCHEDULES["discrete"] else 1e-9
    torch.testing.assert_close(mine(start(schedule), reference.schedule.time(u)), reference(start(schedule), u).mean, rtol=error, atol=error)


@every_schedule
@pytest.mark.parametrize("weight", [0.0, 1.0, 1.5, 3.0])
def test_classifier_free_guidance_agrees_with_w_one_larger(weight, schedule):
    target, y = TRUTH.under(schedule).target, torch.tensor([0, 1, 2, 1, 0, 2, 1])
    mine = dg.Guided(dg.drop_label(target), dg.toward(target), weight)
    reference = azula.guidance.cfg.CFGDenoiser(Wrapped(target))
    for u in torch.linspace(0, 1, 5, dtype=torch.float64):
        out = reference(start(schedule), u, positive={"label": y}, guidance=weight - 1).mean
        torch.testing.assert_close(mine(start(schedule), reference.schedule.time(u), y), out, rtol=0, atol=1e-9)
