"""Backbones for signals: the size of the paper, what each block is told, model folders."""

import pytest
import torch

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.fit import Training
from diffgraft.methods.classify import new_ratio
from diffgraft.nets.adapters import merged, with_lora
from diffgraft.nets.catalog import build, describe, more_labels, ratio_net, rebuilt, silenced
from diffgraft.nets.probe import Probe
from diffgraft.nets.s4 import DENSE_UP_TO
from diffgraft.nets.sssd import PAPER, SMALL, SSSD, Equaliser, NormedConv, SignalEncoder, StepEmbedding
from diffgraft.pretrain import pretrain

B, SHAPE = 5, (3, 83)
TINY = {"width": 8, "depth": 3, "states": 4, "groups": 4, "n_told": 16, "n_label": 8}
TABLE = dg.discrete((1 - torch.linspace(1e-4, 0.02, 200, dtype=torch.float64)).cumprod(0))


def size(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def make(n_classes=0, schedule=None, **settings):
    net = SSSD(SHAPE, schedule or dg.vp(), n_classes, **{**TINY, **settings})
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def batch(n=B):
    return torch.randn(n, *SHAPE), torch.linspace(0.1, 0.9, n)


def test_the_papers_network_has_its_number_of_parameters():
    # the paper's network has no vector for "no label", ours has one, as wide as those of the 71 statements
    net = build("sssd", (8, 1000), TABLE, 71, **PAPER)
    assert size(net) - net.label.table.weight[-1].numel() == 50_202_504
    assert size(net.blocks) == 36 * 1_383_168
    assert {size(block) for block in net.blocks} == {16 * 256**2 + 1307 * 256}


def test_the_small_network_is_the_default():
    net = SSSD((8, 1000), dg.vp())
    assert net.config == SSSD((8, 1000), dg.vp(), **SMALL).config
    assert size(net) == 1_225_166


def test_layers_share_one_basis_that_no_folder_holds():
    net = SSSD(SHAPE, dg.vp(), **TINY)
    assert [name for name, _ in net.named_buffers() if "phi" in name] == ["blocks.0.first.conv.kernel.basis.phi"]
    assert not [name for name in net.state_dict() if "phi" in name or "frequencies" in name]


@pytest.mark.parametrize("length", [1, 7, DENSE_UP_TO, SHAPE[1]])
@pytest.mark.parametrize("kind", ["fixed", "s4d"])
def test_any_length_up_to_that_of_the_shape(length, kind):
    x = torch.randn(B, SHAPE[0], length)
    assert make(kind=kind)(x, torch.full((B,), 0.5)).shape == x.shape


@pytest.mark.parametrize("told", ["noise", "steps"])
@pytest.mark.parametrize("schedule", [dg.vp(), dg.edm(), TABLE], ids=["vp", "edm", "discrete"])
def test_one_time_of_all_rows_is_a_time_a_row(told, schedule):
    net, (x, t) = make(told=told, schedule=schedule).double(), batch()
    x, step = x.double(), schedule.module_time(t.double())
    alone = torch.cat([net(x[k : k + 1], step[k]) for k in range(B)])
    torch.testing.assert_close(net(x, step), alone)
    torch.testing.assert_close(net(x, step[2]), net(x, step[2].expand(B)))
    torch.testing.assert_close(net(x, step[2]), net(x, step[2].repeat(B)))


def test_steps_are_told_alike_in_continuous_time_and_from_a_table():
    t = torch.tensor([0.0, 7.0, 199.0])
    rows = StepEmbedding(TABLE)(t)
    torch.testing.assert_close(StepEmbedding(dg.vp())(t / 200), rows, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rows[0], torch.cat([torch.zeros(64), torch.ones(64)]))
    torch.testing.assert_close(rows[1, [0, 63]], torch.tensor([7.0, 7e-4]).sin())


def test_labels_in_every_form():
    net, (x, t) = make(4), batch(3)
    rows = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1], [-1, -1, -1, -1]])
    table = net.label.table.weight
    torch.testing.assert_close(net.label(rows, 3), torch.stack([table[0] + table[2], table[3], table[4]]))
    out = net(x, t, rows)
    torch.testing.assert_close(out[1:], net(x[1:], t[1:], torch.tensor([3, -1])))
    torch.testing.assert_close(out[2:], net(x[2:], t[2:], None))
    assert not torch.allclose(out[:1], net(x[:1], t[:1], torch.tensor([0])))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_features_are_means_over_time_of_its_maps(depth):
    net, (x, t) = make(2, depth=depth, patch=1), batch()
    maps = net.maps(x, t)
    assert [a.shape[1] for a in maps] == net.map_sizes
    features = net.features(x, t)
    assert features.shape == (B, sum(net.map_sizes))
    torch.testing.assert_close(features, torch.cat([a.mean(2) for a in maps], 1))
    torch.testing.assert_close(net(x, t), net.head(maps[-1]) + net.shortcut(x, net.told(net.noise(t))))


@pytest.mark.parametrize("length", [80, 83])
def test_blocks_see_four_samples_as_one(length):
    net, t = make(shortcut=False), torch.full((B,), 0.5)
    x = torch.randn(B, 3, length)
    (*_, last) = net.maps(x, t)
    assert last.shape == (B, net.width, -(-length // 4))
    out, heard = net(x, t), net.head(last)  # (B, 3 * 4, 20 or 21): of each channel four samples
    torch.testing.assert_close(out[:, 1, 8:12], heard[:, 4:8, 2])
    torch.testing.assert_close(net._patches(x)[:, 4:8, 2], x[:, 1, 8:12])


def test_an_equaliser_is_wieners_filter_of_each_record():
    # white signals of power S, 0.04 or 1: the best guess keeps the share S / (S + sigma²) of them, its error is S sigma² / (S + sigma²)
    g, sigma, told = torch.Generator().manual_seed(0), 0.5, torch.ones(1, 4)
    power = torch.tensor([0.04, 1.0])

    def records(n):
        which = torch.arange(n) % 2
        return power[which].sqrt()[:, None, None] * torch.randn(n, 1, 256, generator=g)

    def error(bands):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Equaliser(1, 4, bands)
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
        for step in range(301):
            x = records(32 if step < 300 else 1000)
            off = (net(x + sigma * torch.randn(x.shape, generator=g), told) - x).square()
            optimiser.zero_grad()
            off.mean().backward()
            optimiser.step()
        return off.mean((1, 2)).detach().view(-1, 2).mean(0)

    torch.testing.assert_close(error(6), power * sigma**2 / (power + sigma**2), rtol=0.05, atol=0)
    share = power.mean() / (power.mean() + sigma**2)  # one for all records
    torch.testing.assert_close(error(0), (1 - share) ** 2 * power + share**2 * sigma**2, rtol=0.05, atol=0)


def test_a_new_network_answers_zero_and_learns_at_once():
    net, (x, t) = SSSD(SHAPE, dg.vp(), **TINY), batch()
    assert torch.equal(net(x, t), torch.zeros_like(x))
    (net(x, t) - x).square().sum().backward()
    assert (net.head[-1].weight.grad != 0).any()


def test_a_normed_convolution_begins_as_torchs_and_has_filters_of_its_lengths():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conv = NormedConv(3, 7, 3)
        torch.manual_seed(0)
        plain = torch.nn.Conv1d(3, 7, 3, padding=1)
    x = torch.randn(B, 3, 11)
    torch.testing.assert_close(conv(x), plain(x))
    with torch.no_grad():
        conv.direction.mul_(5)
        torch.testing.assert_close(conv(x), plain(x))
        conv.length.mul_(2)
        plain.weight.mul_(2)
        torch.testing.assert_close(conv(x), plain(x))


def test_only_the_spare_residual_gets_no_gradient():
    net, (x, t) = make(spare=True), batch()
    net(x, t).square().sum().backward()
    out, r = net.blocks[-1].out, TINY["width"]
    assert (out.direction.grad[:r] != 0).any() and not (out.direction.grad[r:] != 0).any()
    assert size(net) - size(make()) == r * (r + 2)


def test_more_labels_keep_what_is_known():
    net, (x, t) = make(2), batch()
    more = more_labels(net, dg.vp(), 4)
    y = torch.tensor([0, 1, -1, 0, 1])
    torch.testing.assert_close(more(x, t, y), net(x, t, y))
    assert torch.equal(more.label.table.weight[3], net.label.table.weight[-1])


def test_a_merged_adapter_leaves_a_network_of_the_same_description():
    net, (x, t) = make(2), batch()
    with_lora(net, 2, 2.0)
    for name, p in net.named_parameters():
        if name.endswith(".b"):
            torch.nn.init.normal_(p)
    expected, whole = net(x, t), merged(net)
    copy = rebuilt(describe(whole), dg.vp())
    copy.load_state_dict(whole.state_dict())
    torch.testing.assert_close(copy(x, t), expected, rtol=1e-4, atol=1e-4)


def test_a_ratio_of_signals_is_a_head_on_the_sources_own_features():
    net = dg.Net(make(2), dg.vp(), shape=SHAPE)
    log_h = new_ratio(net, Points(torch.randn(9, *SHAPE), torch.arange(9) % 2), 0)
    assert isinstance(log_h.module, Probe) and log_h.module.body is net.module
    assert log_h(torch.randn(4, *SHAPE), torch.full((4,), 0.3), torch.tensor([0, 1, -1, 0])).shape == (4,)


@pytest.mark.parametrize("length", [1, 7, 250])
def test_an_encoder_of_signals_of_any_length(length):
    net = SignalEncoder((3, 250), dg.vp(), 2, width=8, n_out=4)
    x, y = torch.randn(B, 3, length), torch.tensor([0, 1, -1, 0, 1])
    out = net(x, torch.tensor(0.3), y)
    assert out.shape == (B, 4)
    torch.testing.assert_close(out, net(x, torch.full((B,), 0.3), y))
    assert not silenced(net)(x, torch.tensor(0.3), y).any()


def test_the_slope_of_a_ratio_of_signals_can_be_trained():
    net, (x, t) = ratio_net(SHAPE, dg.vp(), width=8), batch()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(net(x, t).sum(), x, create_graph=True)
    slope.square().sum().backward()
    assert all((p.grad != 0).any() for name, p in net.named_parameters() if name.endswith("weight"))


@pytest.mark.parametrize("y", [None, torch.arange(64) % 3, (torch.arange(192).view(64, 3) % 2).float()], ids=["none", "classes", "statements"])
def test_a_fit_a_folder_and_samples(tmp_path, y):
    pool = Points(torch.randn(64, 8, 64).cumsum(2), y)
    model = pretrain(pool, 0, net="sssd", settings=TINY, training=Training(steps=5, batch_size=16), schedule=TABLE, held_out=0.0)
    assert model.predicts == "v"
    assert isinstance(model.module, SSSD)
    assert model.module.head[-1].weight.any()  # it has moved
    dg.save(model, tmp_path / "model")
    again = dg.load(tmp_path / "model")
    x, t = torch.randn(B, 8, 64), torch.tensor(0.5)
    with torch.no_grad():
        assert torch.equal(again(x, t), model(x, t))
    x_0 = dg.sample(again, 4, steps=3, generator=torch.Generator().manual_seed(0))
    assert x_0.shape == (4, 8, 64) and torch.isfinite(x_0).all()
