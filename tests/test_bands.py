"""What a ratio of signals sees beside its network's features: how loud they are in each band of frequencies."""

import math
from itertools import pairwise

import pytest
import torch

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.methods.classify import new_ratio
from diffgraft.nets.catalog import build
from diffgraft.nets.probe import LOWEST, band_edges, band_powers

TINY = {"width": 8, "depth": 1, "states": 4, "groups": 4, "n_told": 16}


@pytest.mark.parametrize("length", [6, 16, 83, 256, 1000])
def test_bands_cover_all_frequencies_once(length):
    edges = band_edges(length)
    assert edges[0] == 0 and edges[-1] == length // 2 + 1
    assert all(b - a >= LOWEST - 1 for a, b in pairwise(edges))
    assert band_edges(5) == []


@pytest.mark.parametrize("length", [16, 256])
def test_what_a_band_says_of_noise_changes_smoothly(length):
    # the mean square of a slope has no bound where a band holds one or two frequencies: the mean of 1 / chi^2 is finite from three on
    x = torch.randn(20_000, 1, length, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for band in band_powers(x, band_edges(length)).unbind(1):
        (slope,) = torch.autograd.grad(band.sum(), x, retain_graph=True)
        square = slope.square().sum((1, 2))
        assert float(square.max()) < 300 * float(square.mean())


def test_a_sine_is_loud_in_its_band_alone():
    time, edges = torch.arange(256) / 256, band_edges(256)
    x = torch.stack([2 * torch.sin(2 * torch.pi * 40 * time), torch.zeros(256)])[None]
    sine, silence = band_powers(x, edges).view(2, -1).exp()
    k = next(k for k, end in enumerate(edges[1:]) if end > 40)
    # of amplitude 2 it has power 2, and so half of 2 x 256 at the one of its two frequencies that is counted
    assert float(sine[k]) * (edges[k + 1] - edges[k]) == pytest.approx(256, rel=1e-3)
    assert float(sine.sum() - sine[k]) < 1e-3 and float(silence.max()) < 1e-5


def test_a_ratio_hears_noise():
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(200, 2, 32, generator=g), torch.full((200,), 0.01)
    log_h = new_ratio(dg.Net(build("sssd", (2, 32), dg.vp(), **TINY), dg.vp(), shape=(2, 32)), Points(x[:7]), 0)
    soft, loud = (log_h.seen(size * x, t)[:, -1] for size in (1.0, 1.3))
    torch.testing.assert_close(loud - soft, torch.full((200,), 2 * math.log(1.3)), atol=1e-3, rtol=0.0)


def test_one_pass_and_two_say_the_same():
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(5, 2, 32, generator=g), torch.full((5,), 0.3)
    net = dg.Net(build("sssd", (2, 32), dg.vp(), **TINY), dg.vp(), shape=(2, 32))
    log_h = new_ratio(net, Points(x), 0)
    torch.nn.init.normal_(log_h.module.head[-1].weight)
    found = log_h.beside(net, x, t[0])
    assert found is not None
    torch.testing.assert_close(found[1], log_h(x, t), rtol=1e-4, atol=1e-5)
