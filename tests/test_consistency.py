"""The consistency loss of a head on frozen features has the value and gradient of plain score matching; weights are calibrated to the target."""

import pytest
import torch
from torch import nn

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.denoise import Net, denoising_loss
from diffgraft.draw import Draw
from diffgraft.gaussians import Mixture, MixtureDenoiser
from diffgraft.methods.classify import new_ratio
from diffgraft.methods.consistency import MOST, calibrated_weight, consistency_loss, has_frozen_features
from diffgraft.nets.sssd import SSSD
from diffgraft.pretrain import LABEL_DROPOUT
from diffgraft.ratio import LogRatio

SHAPE, MEAN = (2, 32), 0.8


@pytest.fixture
def source():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = SSSD(SHAPE, dg.vp(), 2, width=8, depth=2, states=4, groups=4, n_told=16, n_label=8)
    return Net(body, dg.vp(), shape=SHAPE).double().requires_grad_(False).eval()


@pytest.mark.parametrize("labelled", [False, True])
def test_it_is_score_matching_of_the_guided_model(source, labelled):
    g = torch.Generator().manual_seed(1)
    pool = Points(torch.randn(30, *SHAPE, generator=g, dtype=torch.float64), torch.arange(30) % 2 if labelled else None)
    log_h = new_ratio(source, pool, 0).double()
    trained = [p for p in log_h.parameters() if p.requires_grad]
    with torch.random.fork_rng():
        torch.manual_seed(2)
        for p in trained:
            nn.init.normal_(p, std=0.2)
    draw, guided = Draw(3, 0, 8), dg.Guided(source, dg.ratio_shift(log_h, source.schedule))
    x, y = draw.rows(pool, "target")
    plain = denoising_loss(guided, x, draw.times(source.schedule), draw.noise(x), draw.drop(y, LABEL_DROPOUT))
    fast = consistency_loss(source, log_h, pool)(draw)
    close = {"rtol": 1e-5, "atol": 1e-6}  # times, and so levels of noise, are float32
    torch.testing.assert_close(fast, plain, **close)
    assert has_frozen_features(log_h) and float((plain - plain.mean()).abs().max().detach()) > 1e-3
    for one, other in zip(*(torch.autograd.grad(loss.mean(), trained, allow_unused=True) for loss in (fast, plain)), strict=True):
        if other is not None:  # a constant in log h has no gradient
            torch.testing.assert_close(torch.zeros_like(other) if one is None else one, other, **close)


class Part(nn.Module):
    """A share of the exact log h between N(0, 1) and N(MEAN, 1), in each of four numbers."""

    def __init__(self, share):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, x, t, y=None):
        alpha = dg.vp()(t)[0][:, None] if t.ndim == 1 else dg.vp()(t)[0]
        return self.share * (alpha * MEAN * x - (alpha * MEAN) ** 2 / 2).sum(1)


@pytest.mark.parametrize(("share", "weight"), [(0.5, 2.0), (0.8, 1.25), (1.0, 1.0), (0.1, MOST), (-1.0, 1.0)])
def test_the_weight_is_what_takes_samples_to_the_target(share, weight):
    one = torch.ones(4, dtype=torch.float64)
    source = MixtureDenoiser(Mixture(one[:1], 0 * one[None], torch.diag(one)[None]), dg.vp())
    log_h = LogRatio(Part(share), dg.vp())
    pool = Points(MEAN + torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0)))
    found, notes = calibrated_weight(dg.Guided(source, dg.ratio_shift(log_h, dg.vp())), log_h, pool, seed=0)
    assert found == pytest.approx(weight, abs=0.15)
    assert notes["calibrated"].get("failed", False) == (share < 0)
