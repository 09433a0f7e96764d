"""Samplers against diffusers' schedulers: the same table, steps, start and noise must give the same samples."""

import pytest
import torch

import diffgraft as dg
from diffgraft.samplers import SAMPLERS, Grid
from diffgraft.shapes import expand

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'diffgraft[parity]'")

B, STEPS = 7, 25
TRUTH = dg.tasks.mixtures.hard(n_target=10, n_source=10, dim=3).truth
TABLE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear", "timestep_spacing": "trailing"}


def make(kind, **settings):
    """A scheduler, ready to walk, and our schedule of its table."""
    scheduler = getattr(diffusers, kind)(**{**TABLE, **settings})
    scheduler.set_timesteps(STEPS)
    table = scheduler.alphas_cumprod.double()
    if settings.get("rescale_betas_zero_snr"):
        table[-1] = 0.0
    return scheduler, dg.discrete(table)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def predict(denoiser, predicts, x_t, t):
    """What a network of a prediction type would say, from the denoiser."""
    alpha_t, sigma_t = (expand(a, x_t) for a in denoiser.schedule(t))
    x_0 = denoiser(x_t, t)
    eps = (x_t - alpha_t * x_0) / sigma_t
    return {"epsilon": eps, "sample": x_0, "v_prediction": alpha_t * eps - sigma_t * x_0}[predicts]


def theirs(scheduler, denoiser, x, predicts="epsilon", generator=None):
    """The scheduler's samples after every step, driven by one of our denoisers."""
    path, extra = [], {} if generator is None else {"generator": generator}
    for step in scheduler.timesteps:
        t = (step.double() + 1) / 1000
        out = predict(denoiser, predicts, scheduler.scale_model_input(x, step), t)
        x = scheduler.step(out, step, x, **extra).prev_sample
        path.append(x)
    return path


def ours(sampler, denoiser, x, steps, noise=None):
    """Our samples after every step, through the given steps of the table."""
    times = (torch.tensor(steps, dtype=torch.float64) + 1) / 1000
    return list(SAMPLERS[sampler](denoiser, x, Grid.at(denoiser.schedule, times), None, noise))


def assert_same_path(a, b, error=1e-5):
    assert len(a) == len(b) > 20
    for k, (x, y) in enumerate(zip(a, b, strict=True)):
        torch.testing.assert_close(x.double(), y.double(), rtol=error, atol=error, msg=lambda m, k=k: f"step {k}: {m}")


@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_ddim(predicts):
    scheduler, schedule = make("DDIMScheduler", clip_sample=False, set_alpha_to_one=False, prediction_type=predicts)
    source, x = TRUTH.under(schedule).source, rand(B, 3)
    assert_same_path(theirs(scheduler, source, x, predicts), ours("ddim", source, x, [*scheduler.timesteps.tolist(), 0]))


def test_ddpm_with_the_same_noise():
    scheduler, schedule = make("DDPMScheduler", clip_sample=False)
    source, x, steps = TRUTH.under(schedule).source, rand(B, 3), scheduler.timesteps.tolist()
    g = torch.Generator().manual_seed(5)
    path = theirs(scheduler, source, x, generator=torch.Generator().manual_seed(5))
    mine = ours("ddpm", source, x, steps, lambda i, x: torch.randn(x.shape, generator=g, dtype=x.dtype))
    assert_same_path(path[:-1], mine)  # diffusers' last step jumps to the data, ours ends before it


@pytest.mark.parametrize(("order", "sampler"), [(1, "ddim"), (2, "dpmpp_2m")])
@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_dpm_solver(predicts, order, sampler):
    scheduler, schedule = make("DPMSolverMultistepScheduler", solver_order=order, final_sigmas_type="sigma_min", prediction_type=predicts)
    source, x = TRUTH.under(schedule).source, rand(B, 3)
    assert_same_path(theirs(scheduler, source, x, predicts), ours(sampler, source, x, [*scheduler.timesteps.tolist(), 0]), error=1e-4)  # it works in float32


def test_sde_dpm_solver_is_ddpm():
    scheduler, schedule = make("DPMSolverMultistepScheduler", solver_order=1, final_sigmas_type="sigma_min", algorithm_type="sde-dpmsolver++")
    source, x = TRUTH.under(schedule).source, rand(B, 3)
    g = torch.Generator().manual_seed(5)
    path = theirs(scheduler, source, x, generator=torch.Generator().manual_seed(5))
    mine = ours("ddpm", source, x, [*scheduler.timesteps.tolist(), 0], lambda i, x: torch.randn(x.shape, generator=g).to(x))
    assert_same_path(path, mine, error=1e-4)


def test_heun():
    scheduler, schedule = make("HeunDiscreteScheduler")
    source, x = TRUTH.under(schedule).source, rand(B, 3)
    steps = scheduler.timesteps.long().tolist()
    steps = [steps[0], *steps[1::2]]
    alpha = schedule((torch.tensor(steps) + 1).double() / 1000)[0]
    path = theirs(scheduler, source, x / alpha[0])  # it holds x / alpha
    after = path[1::2]  # a step is two passes; the last, to sigma = 0, has one
    mine = [step / a for step, a in zip(ours("heun", source, x, steps), alpha[1:], strict=True)]
    assert_same_path(after, mine, error=1e-4)


def test_flow_matching_euler_is_ddim_on_the_straight_line():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(STEPS)
    source, x = TRUTH.under(dg.rectified()).source, rand(B, 3)
    path, sigmas, z = [], scheduler.sigmas.double(), x
    for step, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        flow = (z - source(z, sigma)) / sigma  # eps - x_0
        z = scheduler.step(flow, step, z).prev_sample.double()
        path.append(z)
    mine = list(SAMPLERS["ddim"](source, x, Grid.at(dg.rectified(), sigmas[:-1])))
    assert_same_path(path[:-1], mine, error=1e-4)


# diffusers' schedulers can drive a guided model


SCHEDULERS = {
    "DDIMScheduler": {"clip_sample": False},
    "DDPMScheduler": {"clip_sample": False},
    "DPMSolverMultistepScheduler": {},
    "DPMSolverSinglestepScheduler": {},
    "UniPCMultistepScheduler": {},
    "DEISMultistepScheduler": {},
    "EulerDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
}


@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_driving_a_guided_model_reach_the_target(kind, predicts):
    settings = {k: v for k, v in TABLE.items() if k != "timestep_spacing" or kind != "DPMSolverSinglestepScheduler"}
    paths = []
    for which in ("guided", "target", "source"):
        scheduler = getattr(diffusers, kind)(**settings, **SCHEDULERS[kind], prediction_type=predicts)
        scheduler.set_timesteps(STEPS)
        truth = TRUTH.under(dg.discrete(scheduler.alphas_cumprod))
        guided = dg.Guided(truth.source, dg.ratio_shift(truth.log_h, truth.schedule))
        model = {"guided": guided, "target": truth.target, "source": truth.source}[which]
        x = rand(B, 3) * float(scheduler.init_noise_sigma)
        extra = torch.Generator().manual_seed(5) if kind == "DDPMScheduler" else None
        paths.append(theirs(scheduler, model, x, predicts, extra)[-1])
    guided, target, source = paths
    torch.testing.assert_close(guided, target, rtol=1e-4, atol=1e-4)
    assert (guided - source).abs().max() > 0.1


def test_zero_terminal_snr_with_v_prediction_starts_from_pure_noise_without_nan():
    scheduler, schedule = make("DDIMScheduler", clip_sample=False, set_alpha_to_one=False, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert scheduler.alphas_cumprod[-1] == 0
    truth, x = TRUTH.under(schedule), rand(501, 3)
    guided = dg.Guided(truth.source, dg.ratio_shift(truth.log_h, schedule))
    out, target, source = (theirs(scheduler, model, x, "v_prediction")[-1] for model in (guided, truth.target, truth.source))
    assert torch.isfinite(out).all()
    # the one step of pure noise is the source's: it moves the start by alpha of the next step, and no more
    assert (out - target).norm() < 0.02 * (source - target).norm()
