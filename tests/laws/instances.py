"""All instances that the laws run over. A new schedule, prediction type, net or sampler is one entry here."""

import torch
from torch import nn

import diffgraft as dg
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.guide import Steered, interval, ratio_shift, toward
from diffgraft.nets.mlp import MLP
from diffgraft.nets.unet import UNet
from diffgraft.ratio import LogRatio
from diffgraft.samplers import SAMPLERS  # noqa: F401
from diffgraft.shapes import expand
from diffgraft.tasks.mixtures import Truth

B, D, L = 7, 3, 11
IMAGE = (3, 11, 5)

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
LINEAR = (1 - BETAS).cumprod(0)


def zero_terminal_snr(alphas_cumprod):
    """The rescaled table of arXiv 2305.08891, algorithm 1: the last step holds no signal."""
    a = alphas_cumprod.sqrt()
    return ((a - a[-1]) * a[0] / (a[0] - a[-1])) ** 2


SCHEDULES = {
    "vp": dg.vp(),
    "cosine": dg.cosine(),
    "rectified": dg.rectified(),
    "edm": dg.edm(),
    "discrete": dg.discrete(LINEAR),
    "zero-snr": dg.discrete(zero_terminal_snr(LINEAR)),
}
PREDICTIONS = ("eps", "v", "x0", "flow", "edm")
LABELS = ("none", "classes", "multi-hot")
WORLDS = {kind: dg.tasks.mixtures.hard(n_target=10, n_source=10, dim=D, labels=kind).truth for kind in LABELS}


def world(schedule="vp", labels="none") -> Truth:
    """A pair of mixtures in D dimensions, known exactly."""
    return WORLDS[labels].under(SCHEDULES[schedule])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def times(schedule, n=B):
    """Times from data to noise."""
    return torch.linspace(schedule.t_min, 0.999 * schedule.t_max, n, dtype=torch.float64)


def label(kind, n=B, seed=0):
    """Labels that the worlds know, with a null among them."""
    if kind == "none":
        return None
    values = WORLDS[kind].source.prior.values
    y = values[torch.randint(len(values), (n,), generator=generator(seed))]
    y[n // 2] = -1
    return y


class Exact(nn.Module):
    """What a perfect network of a given prediction type returns."""

    def __init__(self, denoiser, predicts):
        super().__init__()
        self.denoiser, self.predicts, self.n_classes = denoiser, predicts, denoiser.n_classes

    def forward(self, x_in, step, y=None):
        schedule = self.denoiser.schedule
        t = schedule.time_of(step)
        alpha_t, sigma_t = (expand(a, x_in) for a in schedule(t))
        total = sigma_t**2 + alpha_t**2
        x_t = x_in * total.sqrt() if self.predicts == "edm" else x_in
        x_0 = self.denoiser(x_t, t, y)
        eps = (x_t - alpha_t * x_0) / sigma_t
        match self.predicts:
            case "eps":
                return eps
            case "v":
                return alpha_t * eps - sigma_t * x_0
            case "x0":
                return x_0
            case "flow":
                return eps - x_0
        # eq. 7 of arXiv 2206.00364 at sigma_data = 1 and noise level sigma_t / alpha_t
        return (x_0 - alpha_t / total * x_t) * total.sqrt() / sigma_t


def exact_net(truth, predicts):
    """The exact source denoiser as a `Net` of a prediction type."""
    return dg.Net(Exact(truth.source, predicts), truth.schedule, predicts=predicts, shape=(D,))


class ExactRatio(nn.Module):
    """What a perfect ratio network returns: it sees x_t at unit scale and the module's time."""

    def __init__(self, truth):
        super().__init__()
        self.truth, self.scale = truth, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, step, y=None):
        t = self.truth.schedule.time_of(step)
        return (self.scale * self.truth.log_h(x * expand(torch.hypot(*self.truth.schedule(t)), x), t, y))[:, None]


def exact_ratio(truth):
    return LogRatio(ExactRatio(truth), truth.schedule)


def exact_guided(truth, weight=1.0):
    return dg.Guided(truth.source, ratio_shift(truth.log_h, truth.schedule), weight)


def gaussian(mean, std, schedule):
    """The exact denoiser of N(mean, std^2), one dimension."""
    one = torch.ones(1, 1, dtype=torch.float64)
    return MixtureDenoiser(Mixture(one[0], mean * one, std**2 * one[None]), schedule)


def net(kind, schedule, n_classes=0, predicts="eps", **settings):
    """A small backbone with random weights as a denoiser."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = MLP((D,), schedule, n_classes, width=16, depth=2, **settings) if kind == "mlp" else UNet(IMAGE, schedule, n_classes, width=8, **settings)
        for p in module.parameters():
            nn.init.normal_(p, std=0.3)
    return dg.Net(module, schedule, predicts=predicts, shape=(D,) if kind == "mlp" else IMAGE)


def denoisers():
    """Every kind of denoiser, as `name: (denoiser, labels)`."""
    plain, classes, statements = (world("vp", kind) for kind in LABELS)
    cases = {f"net-{predicts}-{name}": (exact_net(world(name), predicts), "none") for predicts in PREDICTIONS for name in SCHEDULES}
    for kind in ("mlp", "unet"):
        for name, schedule in SCHEDULES.items():
            cases[f"{kind}-{name}"] = (net(kind, schedule), "none")
        cases[f"{kind}-classes"] = (net(kind, dg.cosine(), n_classes=3, predicts="v"), "classes")
        cases[f"{kind}-steered"] = (Steered(net(kind, dg.cosine(), n_classes=3, predicts="v", steered=True), 1.5), "classes")
        cases[f"{kind}-steered-interval"] = (Steered(net(kind, dg.vp(), steered=True), interval(1.5, -2.0, 2.0)), "none")
        cases[f"{kind}-multi-hot"] = (net(kind, dg.edm(), n_classes=3, predicts="edm"), "multi-hot")
    for kind, truth in zip(LABELS, (plain, classes, statements), strict=True):
        cases[f"mixture-{kind}"] = (truth.source, kind)
        cases[f"ratio-{kind}"] = (exact_guided(truth), kind)
        cases[f"toward-{kind}"] = (dg.Guided(truth.source, toward(truth.target), 1.5), kind)
    return {
        **cases,
        "ratio-interval": (exact_guided(plain, interval(1.5, -2.0, 2.0)), "none"),
        "toward-interval": (dg.Guided(plain.source, toward(plain.target), interval(1.5, -2.0, 2.0)), "none"),
        "with-schedule": (dg.with_schedule(classes.source, dg.edm()), "classes"),
        "drop-label": (dg.drop_label(classes.source), "classes"),
        "net-of-no-label": (dg.Net(lambda x_t, t: x_t / 2, dg.vp(), predicts="x0", shape=(D,)), "none"),
        "null-label": (dg.Net(net("mlp", dg.vp(), 4).module, dg.vp(), shape=(D,), n_classes=3, null_label=3), "classes"),
    }
