"""Backbones: any size, told the noise level and the label, every parameter at work."""

import pytest
import torch

import diffgraft as dg
from diffgraft.errors import BadModel, BadPlan
from diffgraft.nets import catalog
from diffgraft.nets.catalog import NETS, build, default_net, describe, ratio_net, steered
from diffgraft.nets.embed import LabelEmbedding, NoiseEmbedding

B = 7
SHAPES = {"mlp": (3,), "unet": (3, 11, 5), "encoder": (3, 11, 5), "probe": (3, 11, 5), "sssd": (3, 11), "signal_encoder": (3, 11)}
SMALL = {
    "mlp": {"width": 16, "depth": 3},
    "unet": {"width": 8},
    "encoder": {"width": 8},
    "probe": {"body": {"net": "unet", "shape": [3, 11, 5], "n_classes": 0, "width": 8}},
    "sssd": {"width": 8, "depth": 2, "states": 4, "groups": 4},
    "signal_encoder": {"width": 8},
}
TABLE = dg.discrete((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))
SCHEDULES = {"vp": dg.vp(), "cosine": dg.cosine(), "rectified": dg.rectified(), "edm": dg.edm(), "discrete": TABLE}

every_net = pytest.mark.parametrize("name", SHAPES)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def make(name, schedule=None, n_classes=0, **settings):
    net = build(name, SHAPES[name], schedule or dg.vp(), n_classes, **{**SMALL[name], **settings})
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net


def batch(name):
    return torch.randn(B, *SHAPES[name]), torch.linspace(0.1, 0.9, B)


def outputs(name):
    return (B, 1) if name in ("encoder", "probe", "signal_encoder") else (B, *SHAPES[name])


def test_the_list_above_covers_the_catalog():
    assert {*NETS, "probe"} - {"dit"} == set(SHAPES) == set(SMALL)  # the transformer is of diffusers, and so are its tests


@every_net
@every_schedule
def test_shape_and_dtype_of_the_output(schedule, name):
    x, t = batch(name)
    step = schedule.module_time(t)
    for dtype in (torch.float32, torch.float64):
        out = make(name, schedule).to(dtype)(x.to(dtype), step.to(dtype))
        assert out.shape == outputs(name)
        assert out.dtype == dtype
        assert torch.isfinite(out).all()


@every_net
@pytest.mark.parametrize("kind", ["none", "classes", "multi-hot"])
def test_every_parameter_gets_a_gradient(name, kind):
    x, t = batch(name)
    y = {"none": None, "classes": torch.tensor([0, 1, 2, -1, 0, 1, 2]), "multi-hot": torch.eye(B, 3)}[kind]
    if kind == "multi-hot":
        y[-1] = -1
    net = make(name, n_classes=0 if kind == "none" else 3)
    net(x, t, y).square().sum().backward()
    silent = [key for key, p in net.named_parameters() if p.requires_grad and (p.grad is None or not (p.grad != 0).any())]
    assert not silent
    if kind != "none":
        (table,) = [p for key, p in net.named_parameters() if "table" in key]
        assert (table.grad != 0).any(1).all()  # every label has a vector, and so has none


@every_net
def test_samples_do_not_see_each_other(name):
    (x, t), y = batch(name), torch.tensor([0, 1, 2, -1, 0, 1, 2])
    net = make(name, n_classes=3).double()
    x = x.double()
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(net(x, t, y), alone)


@every_net
def test_noise_level_and_label_change_the_output(name):
    (x, t), net = batch(name), make(name, n_classes=3)
    y = torch.zeros(B).long()
    base = net(x, t, y)
    for other in (net(x, t + 0.05, y), net(x, t, y + 1), net(x, t)):
        assert ((other - base).abs().flatten(1).max(1).values > 1e-5).all()


@every_net
def test_no_label_is_minus_one_is_a_row_of_minus_one(name):
    (x, t), net = batch(name), make(name, n_classes=3)
    none = net(x, t, None)
    assert torch.equal(net(x, t, torch.full((B,), -1)), none)
    assert torch.equal(net(x, t, torch.full((B, 3), -1.0)), none)
    empty = net(x, t, torch.zeros(B, 3))  # a record without any statement is no missing record
    assert not torch.isclose(empty, none).all()


@every_net
def test_a_class_is_a_row_with_one_statement(name):
    (x, t), net = batch(name), make(name, n_classes=3)
    y = torch.tensor([0, 1, 2, 2, 0, 1, 2])
    torch.testing.assert_close(net(x, t, y), net(x, t, torch.eye(3)[y]))


def test_statements_add_their_vectors():
    label = LabelEmbedding(3, 11)
    rows = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    table = label.table.weight
    torch.testing.assert_close(label(rows, 3), torch.stack([table[0] + table[2], torch.zeros(11), table[3]]))


@every_schedule
def test_the_noise_embedding_is_a_function_of_log_snr(schedule):
    log_snr = torch.linspace(-7, 7, B, dtype=torch.float64)
    own, reference = (s.module_time(s.time_at(log_snr)) for s in (schedule, dg.cosine()))
    error = 1e-3 if schedule == TABLE else 1e-6
    torch.testing.assert_close(NoiseEmbedding(schedule)(own), NoiseEmbedding(dg.cosine())(reference), rtol=0, atol=error)


@every_schedule
def test_the_noise_embedding_is_finite_from_end_to_end(schedule):
    t = torch.tensor([0.0, 1e-6, 0.5, 1.0])
    features = NoiseEmbedding(schedule)(schedule.module_time(t))
    assert features.shape == (4, 32)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (3, 11, 5), (2, 7, 1)])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_images_of_any_size(shape, levels):
    x, t = torch.randn(B, *shape), torch.full((B,), 0.5)
    assert build("unet", shape, dg.vp(), width=8, levels=levels)(x, t).shape == x.shape
    assert build("encoder", shape, dg.vp(), width=8, levels=levels)(x, t).shape == (B, 1)


@pytest.mark.parametrize("name", ["unet", "encoder"])
def test_the_order_of_an_images_numbers_in_memory_stays_inside(name):
    x, t = batch(name)
    net = make(name)
    out = net(x.contiguous(memory_format=torch.channels_last), t)
    out.square().sum().backward()
    assert out.is_contiguous()
    assert all(p.is_contiguous() and p.grad.is_contiguous() for p in net.parameters())
    torch.testing.assert_close(out, net(x, t))


def test_an_mlp_of_any_width_depth_and_number_of_outputs():
    x, t = torch.randn(B, 3), torch.full((B,), 0.5)
    assert build("mlp", (3,), dg.vp(), n_out=5, width=11, depth=1)(x, t).shape == (B, 5)


@every_net
def test_description_round_trip(name):
    net = make(name, n_classes=3)
    settings = dict(describe(net))
    copy = build(settings.pop("net"), tuple(settings.pop("shape")), dg.vp(), **settings)
    copy.load_state_dict(net.state_dict())
    (x, t), y = batch(name), torch.zeros(B).long()
    assert torch.equal(copy(x, t, y), net(x, t, y))
    assert net.n_classes == 3


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_a_steered_net_begins_as_it_was_and_adds_what_its_weight_says(name):
    (x, t), y, net = batch(name), torch.zeros(B).long(), make(name, n_classes=3).double()
    x, t, before = x.double(), t.double(), torch.get_rng_state()
    led = steered(net, dg.vp())
    assert torch.equal(before, torch.get_rng_state())
    w = torch.linspace(1, 3, B).double()
    for told in ((), (w,), (w[3],)):
        assert torch.equal(led(x, t, y, *told), net(x, t, y))
    for p in led.lead.parameters():
        torch.nn.init.normal_(p)
    step = led(x, t, y, w[:1] + 1) - net(x, t, y)
    assert (step.abs().flatten(1).max(1).values > 1e-5).all()
    for k in range(B):
        torch.testing.assert_close(led(x, t, y, w)[k], net(x, t, y)[k] + (w[k] - 1) * step[k])
        torch.testing.assert_close(led(x, t, y, w[k]), net(x, t, y) + (w[k] - 1) * step)


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_every_parameter_of_a_steered_net_gets_a_gradient_and_survives_its_description(name):
    (x, t), w, net = batch(name), torch.full((B,), 2.0), make(name, steered=True)
    net(x, t, None, w).square().sum().backward()
    assert not [key for key, p in net.named_parameters() if not (p.grad != 0).any()]
    settings = dict(describe(net))
    again = build(settings.pop("net"), tuple(settings.pop("shape")), dg.vp(), **settings)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(x, t, None, w), net(x, t, None, w))


def test_a_net_that_cannot_be_steered_is_refused():
    for module in (make("encoder"), torch.nn.Linear(3, 3)):
        with pytest.raises(BadModel, match="needs a network of this package, mlp or unet"):
            steered(module, dg.vp())


def test_a_module_of_the_users_own_has_no_description():
    assert describe(torch.nn.Linear(3, 3)) is None


@pytest.mark.parametrize(("name", "shape"), [("mlp", (3, 11)), ("unet", (3,)), ("encoder", (3, 11)), ("sssd", (3, 11, 5)), ("signal_encoder", (3,))])
def test_samples_of_another_rank_are_refused(name, shape):
    with pytest.raises(BadModel, match=f"net '{name}' takes samples of shape"):
        build(name, shape, dg.vp())


def test_no_net_suits_samples_of_rank_four():
    for suited in (default_net, lambda shape: ratio_net(shape, dg.vp())):
        with pytest.raises(BadModel, match=r"no net for samples of shape \(1, 2, 3, 4\)"):
            suited((1, 2, 3, 4))


def test_an_unknown_net_is_refused_with_the_nearest():
    with pytest.raises(BadPlan, match=r"'unett'.*'unet'"):
        build("unett", (3,), dg.vp())


@pytest.mark.parametrize(("shape", "name", "ratio"), [((3,), "mlp", "mlp"), ((3, 11), "sssd", "signal_encoder"), ((3, 11, 5), "unet", "encoder")])
def test_defaults_suit_the_shape(shape, name, ratio):
    assert default_net(shape) == name
    net = ratio_net(shape, dg.vp(), 3)
    assert isinstance(net, catalog.NETS[ratio])
    out = net(torch.randn(B, *shape), torch.full((B,), 0.3), torch.zeros(B).long())
    assert torch.equal(out, torch.zeros(B, 1))
    out.sum().backward()
    last = [*net.get_submodule("head").parameters()][-2:]
    assert all((p.grad != 0).any() for p in last)  # it leaves zero at the first step


def test_settings_that_a_net_does_not_have_are_named():
    with pytest.raises(BadPlan, match="net 'unet' has no 'depth'; leave it out"):
        build("unet", (1, 8, 8), dg.vp(), depth=3)
    with pytest.raises(BadPlan, match="net 'dit' has no 'layers'; leave it out"):
        build("dit", (1, 8, 8), dg.vp(), layers=3)
