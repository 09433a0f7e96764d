"""State-space layers: the recurrence they stand for, what each direction sees, kernels kept in sampling."""

import copy

import pytest
import torch
from torch.nn.functional import gelu, layer_norm

from diffgraft.errors import BadModel, BadPlan
from diffgraft.nets.s4 import DENSE_UP_TO, CircularConv, S4Layer, bilinear, legs, responses, steps

B, H, N = 3, 6, 8
SHORT, LONG = 11, 83
SETTINGS = {"fixed": {"groups": 3}, "s4d": {}}

every_kind = pytest.mark.parametrize("kind", SETTINGS)
every_length = pytest.mark.parametrize("length", [1, 2, SHORT, DENSE_UP_TO, DENSE_UP_TO + 1, LONG, 100])
both_ways = pytest.mark.parametrize("bidirectional", [False, True])


def make(kind, length, **settings):
    layer = S4Layer(H, length, N, kind=kind, **{**SETTINGS[kind], **settings})
    for p in (layer.norm.weight, layer.norm.bias):
        torch.nn.init.normal_(p)
    return layer


def in_double(layer, length):
    """The layer in double precision, its basis too."""
    layer = layer.double()
    if hasattr(layer.conv.kernel, "basis"):
        basis = layer.conv.kernel.basis
        basis.phi = responses(*bilinear(*legs(N), steps(len(basis.phi), 1e-3, 1e-1)), length)
    return layer


def systems(kernel):
    """Abar (H, N, N), Bbar (H, N) and C (directions, H, N) of a kernel, complex where it is diagonal."""
    if hasattr(kernel, "basis"):
        groups = len(kernel.basis.phi)
        a, b = bilinear(*legs(N), steps(groups, 1e-3, 1e-1))
        rows = torch.arange(H) % groups
        return a[rows], b[rows], kernel.c.double()
    poles = torch.complex(-kernel.log_decay.exp(), kernel.frequency).to(torch.complex128)
    a = (kernel.log_dt.double().exp()[:, None] * poles).exp()
    return torch.diag_embed(a), (a - 1) / poles, 2 * torch.view_as_complex(kernel.c.double())


def walked(a, b, c, u):
    """x_k = Abar x_(k-1) + Bbar u_k, y_k = Re C x_k, one step after the other; u (B, H, L)."""
    x, y = torch.zeros(len(u), *b.shape, dtype=a.dtype), []
    for k in range(u.shape[-1]):
        x = torch.einsum("hnm,bhm->bhn", a, x) + b * u[..., k, None]
        y.append(torch.einsum("hn,bhn->bh", c, x).real)
    return torch.stack(y, -1)


def convolved(layer, u):
    """The convolution of a layer, by recurrences; that over later samples begins one sample on."""
    a, b, c = systems(layer.conv.kernel)
    u = u.double()
    y = layer.conv.d.double()[:, None] * u + walked(a, b, c[0], u)
    if len(c) == 2:
        later = walked(a, b, c[1], u.flip(-1)).flip(-1)
        y = y + torch.cat([later[..., 1:], torch.zeros(B, H, 1)], -1)
    return y


@every_kind
@every_length
@both_ways
def test_the_convolution_is_the_recurrence(kind, length, bidirectional):
    layer, u = make(kind, length, bidirectional=bidirectional), torch.randn(B, H, length)
    torch.testing.assert_close(layer.conv(u), convolved(layer, u).float(), rtol=1e-4, atol=1e-4)
    exact = in_double(layer, length)
    torch.testing.assert_close(exact.conv(u.double()), convolved(exact, u), rtol=1e-9, atol=1e-9)


def test_a_step_for_every_feature_and_the_length_of_a_record():
    layer = S4Layer(H, 1000, 64, groups=H)
    a, b = bilinear(*legs(64), steps(H, 1e-3, 1e-1))
    x, rows = b, []
    for _ in range(1000):
        rows.append(x)
        x = torch.einsum("hnm,hm->hn", a, x)
    torch.testing.assert_close(layer.conv.kernel.basis.phi, torch.stack(rows, -1).float(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(responses(a, b, 1000), torch.stack(rows, -1), rtol=0, atol=1e-10)


def test_the_steps_are_log_uniform():
    dt = steps(5, 1e-3, 1e-1)
    torch.testing.assert_close(dt.log10(), torch.tensor([-2.8, -2.4, -2.0, -1.6, -1.2]).double())


def test_the_system_is_hippo_legs():
    a, b = legs(3)
    torch.testing.assert_close(b**2, torch.tensor([1.0, 3.0, 5.0]).double())
    torch.testing.assert_close(a, -torch.tensor([[1.0, 0, 0], [3**0.5, 2, 0], [5**0.5, 15**0.5, 3]]).double(), rtol=1e-6, atol=1e-6)


@every_kind
@both_ways
def test_the_layer_is_the_formula(kind, bidirectional):
    layer, u = in_double(make(kind, LONG, bidirectional=bidirectional), LONG), torch.randn(B, H, LONG).double()
    mixed = layer.mix(gelu(convolved(layer, u)).transpose(1, 2))
    expected = layer_norm(u.transpose(1, 2) + mixed, (H,), layer.norm.weight, layer.norm.bias).transpose(1, 2)
    torch.testing.assert_close(layer(u), expected)


@every_kind
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_a_layer_of_one_direction_sees_no_later_sample(kind, length):
    layer, u = make(kind, length, bidirectional=False).double(), torch.randn(B, H, length).double()
    other = u.clone()
    other[..., 7:] += torch.randn(B, H, length - 7)
    change = (layer(other) - layer(u)).abs().amax((0, 1))
    assert change[:7].max() < 1e-9 and change[7:].min() > 1e-4


@every_kind
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_the_other_direction_sees_later_samples_alone(kind, length):
    layer, u = make(kind, length).double(), torch.randn(B, H, length).double()
    torch.nn.init.zeros_(layer.conv.d)
    with torch.no_grad():
        layer.conv.kernel.c[0].zero_()
    other = u.clone()
    other[..., : length - 3] += torch.randn(B, H, length - 3)
    change = (layer.conv(other) - layer.conv(u)).abs().amax((0, 1))
    assert change[length - 4 :].max() < 1e-9 and change[: length - 4].min() > 1e-6


@every_kind
@every_length
def test_every_parameter_gets_the_gradient_of_the_recurrence(kind, length):
    layer, u = in_double(make(kind, length), length), torch.randn(B, H, length).double()
    params = [p for p in layer.conv.parameters() if length > 1 or p.shape[0] != 2]
    way = torch.randn(B, H, length).double()
    both = [torch.autograd.grad((y * way).sum(), params) for y in (layer.conv(u), convolved(layer, u))]
    for mine, other in zip(*both, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-7)
        assert (mine != 0).any()


def test_the_circular_convolution_can_be_derived_twice():
    u, circle = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True), torch.randn(3, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(CircularConv.apply, (u, circle))
    assert torch.autograd.gradgradcheck(CircularConv.apply, (u, circle))


@every_kind
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_a_kept_kernel_changes_nothing(kind, length):
    layer, u = make(kind, length), torch.randn(B, H, length)
    fresh = layer(u).detach()
    layer.eval()
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(layer(u), fresh)
            assert layer.conv._known is not None
        kept = layer.conv._known[2]
        assert layer(u) is not None and layer.conv._known[2] is kept
    with torch.inference_mode():
        torch.testing.assert_close(layer(u), fresh)


@every_kind
@pytest.mark.parametrize("length", [SHORT, LONG])
@pytest.mark.parametrize("change", ["in place", "loaded", "stepped", "replaced", "trained between", "dtype", "swapped"])
@torch.no_grad()
def test_a_kept_kernel_never_outlives_a_parameter(kind, length, change):
    layer, u = make(kind, length).eval(), torch.randn(B, H, length)
    layer(u)
    conv = layer.conv
    match change:
        case "in place":
            conv.kernel.c.mul_(2)
        case "loaded":
            conv.load_state_dict(make(kind, length).conv.state_dict())
        case "stepped":
            conv.d.grad = torch.ones_like(conv.d)
            torch.optim.Adam([conv.d], lr=0.1).step()
        case "replaced":
            conv.kernel.c = torch.nn.Parameter(3 * conv.kernel.c)
        case "trained between":
            conv.train()
            conv.kernel.c.data.mul_(2)  # which no version counts
            conv.eval()
        case "dtype":
            layer.double()
            u = u.double()
        case "swapped":
            for scale in (2, 3):
                swapped = {name: scale * p for name, p in layer.named_parameters()}
                out = torch.func.functional_call(layer, swapped, (u,))
                again = make(kind, length).train()
                again.load_state_dict(swapped)
                torch.testing.assert_close(out, again(u))
    torch.testing.assert_close(layer(u), copy.deepcopy(layer).train()(u))


@every_kind
def test_gradients_of_a_frozen_layer_flow_through_a_kept_kernel(kind):
    layer = make(kind, LONG).eval().requires_grad_(False)
    u = torch.randn(B, H, LONG, requires_grad=True)
    with torch.inference_mode():
        layer(u)
    (mine,) = torch.autograd.grad(layer(u).square().sum(), u)
    assert layer.conv._known is not None
    (other,) = torch.autograd.grad(layer.train()(u).square().sum(), u)
    torch.testing.assert_close(mine, other)


@every_kind
def test_a_layer_that_learns_keeps_nothing(kind):
    layer, u = make(kind, LONG).eval(), torch.randn(B, H, LONG)
    layer(u).sum().backward()
    assert layer.conv._known is None and layer.conv.kernel.c.grad is not None


@every_kind
def test_a_copy_has_no_kernel_of_the_original(kind):
    layer, u = make(kind, LONG).eval(), torch.randn(B, H, LONG)
    with torch.no_grad():
        layer(u)
        twin = copy.deepcopy(layer)
        assert twin.conv._known is None
        twin.conv.kernel.c.mul_(2)
        assert not torch.allclose(twin(u), layer(u))


@every_kind
def test_weights_and_settings_are_all_of_a_layer(kind):
    layer, other, u = make(kind, LONG), make(kind, LONG), torch.randn(B, H, LONG)
    assert not torch.allclose(layer(u), other(u))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(layer(u), other(u))
    assert sum(a.numel() for a in layer.state_dict().values()) == sum(p.numel() for p in layer.parameters())  # no basis


@every_kind
@pytest.mark.parametrize("length", [SHORT, LONG])
def test_a_shorter_signal_sees_the_same_kernels(kind, length):
    layer, u = make(kind, LONG).double(), torch.randn(B, H, length).double()
    torch.testing.assert_close(layer.conv(u), convolved(layer, u), rtol=1e-5, atol=1e-5)


@every_kind
def test_half_precision_around_a_layer_leaves_its_kernel_whole(kind):
    layer, u = make(kind, LONG), torch.randn(B, H, LONG)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(u.bfloat16())
    assert (out.float() - layer(u)).abs().max() < 0.3


def test_what_cannot_be_is_refused():
    with pytest.raises(BadPlan, match="'s4dd'"):
        S4Layer(H, LONG, N, kind="s4dd")
    with pytest.raises(BadModel, match="6 features cannot share 4 steps"):
        make("fixed", LONG, groups=4)
    with pytest.raises(BadModel, match="83 samples is longer than the 11"):
        make("fixed", SHORT)(torch.randn(B, H, LONG))
