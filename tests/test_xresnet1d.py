"""The classifier of signals: its size is the published one, its lengths and features as documented."""

import pytest
import torch

from diffgraft.nets.xresnet1d import XResNet1d50

B = 3


@pytest.mark.parametrize(("n_out", "expected"), [(2, 953_602), (9, 954_505), (71, 962_503)])
def test_the_number_of_parameters_is_the_published_one(n_out, expected):
    assert sum(p.numel() for p in XResNet1d50(12, n_out).parameters()) == expected


@pytest.mark.parametrize(("length", "expected"), [(250, [125, 63, 63, 32, 16, 8]), (1000, [500, 250, 250, 125, 63, 32]), (77, [39, 20, 20, 10, 5, 3])])
def test_lengths_on_the_way(length, expected):
    net, x, lengths = XResNet1d50().eval(), torch.randn(B, 12, length), []
    for part in [*net.stem, *net.stages]:
        x = part(x)
        lengths.append(x.shape[-1])
    assert [lengths[2], *lengths[-5:]] == expected
    assert x.shape[1] == 256


@pytest.mark.parametrize("length", [33, 250])
def test_logits_and_features(length):
    net, x = XResNet1d50(5, 7).eval(), torch.randn(B, 5, length)
    features = net.embed(x)
    assert features.shape == (B, 128) and (features < 0).any()  # before the ReLU
    out = net(x)
    assert out.shape == (B, 7)
    torch.testing.assert_close(out, net.head.out(net.head.norm2(features.relu())))
    torch.testing.assert_close(out[1:], net(x[1:]))  # records do not see each other


def test_it_learns_with_all_of_it():
    net, x, y = XResNet1d50(3, 2), torch.randn(B, 3, 64), torch.eye(B, 2)
    torch.nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not (p.grad != 0).any()]


def test_settings_and_weights_are_all_of_it():
    net, x = XResNet1d50(5, 7).eval(), torch.randn(B, 5, 50)
    copy = XResNet1d50(**net.config).eval()
    copy.load_state_dict(net.state_dict())
    assert torch.equal(copy(x), net(x))
