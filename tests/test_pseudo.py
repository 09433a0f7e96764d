"""What stands for a target of few images: its own points, and source images as far as the ratio can be trusted."""

import pytest
import torch

import diffgraft as dg
from diffgraft.data import Points, Transform
from diffgraft.denoise import Net, known_labels
from diffgraft.domain import features_of_model, net_features, seen_by_classifier
from diffgraft.errors import BadModel
from diffgraft.methods.classify import new_ratio
from diffgraft.methods.pseudo import pseudo_target
from diffgraft.methods.start import Start
from diffgraft.nets.catalog import build
from diffgraft.nets.unet import Energy, UNet

SHAPE = (1, 9, 7)


def images(n, mean, seed):
    """Images of which only the brightness varies, about `mean`."""
    g = torch.Generator().manual_seed(seed)
    brightness = mean + torch.randn(n, 1, 1, 1, generator=g)
    return brightness + 0.1 * torch.randn(n, *SHAPE, generator=g)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Net(build("unet", SHAPE, dg.vp(), 2, width=8, levels=2), dg.vp(), shape=SHAPE)
    return net.requires_grad_(False).eval()


def start(model, target, held_out=None):
    return Start(model, target, held_out, 3, None)


def brightness(pool):
    return pool.x.mean((1, 2, 3))


# Features


def test_features_come_from_the_network_inside(model):
    x = images(11, 0.0, 1)
    plain = net_features(model)(x)
    assert plain.shape == (11, 32)
    assert torch.equal(net_features(known_labels(model, torch.arange(2), 5))(x), plain)
    assert torch.equal(torch.cat([net_features(model)(part) for part in x.split(3)]).round(decimals=4), plain.round(decimals=4))
    assert net_features(dg.Net(lambda x_t, t: x_t, dg.vp(), shape=SHAPE)) is None


def test_a_classifier_sees_standardised_features_or_principal_components(model):
    source, target = Points(images(60, 0.0, 1)), Points(images(11, 1.0, 2))
    z = seen_by_classifier(source, target, model)(source.x)
    torch.testing.assert_close(z.mean(0), torch.zeros(32), atol=1e-4, rtol=0)
    assert float(z.std(0).max()) == pytest.approx(1, abs=1e-4)
    assert seen_by_classifier(source, target)(source.x).shape == (60, 50)
    assert seen_by_classifier(Points(torch.randn(60, 3)), Points(torch.randn(11, 3)), model) is None


def test_features_of_a_model_are_asked_for_in_data_units(model):
    model.transform = Transform(torch.tensor(5.0), torch.tensor(2.0))
    x = images(7, 0.0, 1)
    torch.testing.assert_close(features_of_model(model, "m")(2 * x + 5), net_features(model)(x), atol=1e-4, rtol=1e-4)
    model.transform = Transform.identity()
    with pytest.raises(BadModel, match="m: features come from"):
        features_of_model(dg.Net(lambda x_t, t: x_t, dg.vp(), shape=(3,)), "m")


# The network of log h


@pytest.mark.parametrize("n_classes", [0, 4])
def test_a_ratio_network_begins_with_what_a_unet_source_knows(model, n_classes):
    target = Points(images(7, 0.0, 1), torch.arange(7) % n_classes if n_classes else None)
    found = new_ratio(model, target, 0).module
    assert isinstance(found, Energy) and (found.width, found.levels) == (8, 2)
    assert found.n_classes == max(n_classes, 2 if n_classes else 0)
    known, own = model.module.state_dict(), found.state_dict()
    assert torch.equal(own["down.stem.weight"], known["down.stem.weight"])
    assert float(own["head.2.weight"].abs().max()) == 0
    assert torch.equal(found(target.x, torch.full((7,), 0.3), target.y), torch.zeros(7, 1))


def test_an_energy_is_the_product_with_its_unet():
    torch.manual_seed(0)
    net = build("energy", SHAPE, dg.vp(), 0, width=8)
    torch.nn.init.normal_(net.head[-1].weight)
    x, t = images(5, 0.0, 1), torch.full((5,), 0.3)
    torch.testing.assert_close(net(x, t)[:, 0], (x * UNet.forward(net, x, t)).sum((1, 2, 3)))


# The mixture of own and borrowed images


def test_where_the_domains_overlap_source_images_are_borrowed(model):
    source, target = Points(images(800, 0.0, 1)), Points(images(31, 0.7, 2))
    pseudo = pseudo_target(source, start(model, target))
    assert pseudo.exact is None and 0 < pseudo.own_share < 0.5 and not pseudo.copies
    assert pseudo.pool.x.shape == (10_000, *SHAPE)
    n_own = round(10_000 * pseudo.own_share)
    assert torch.equal(pseudo.pool.x[:31], target.x)
    assert brightness(Points(pseudo.pool.x[n_own:])).mean() > brightness(source).mean() + 0.2
    assert pseudo.notes["own_share"] == round(pseudo.own_share, 3) and pseudo.notes["outside"] < 0.2


def test_where_the_domains_are_apart_every_image_is_the_targets_own(model):
    source, target = Points(images(800, 0.0, 1)), Points(images(31, 20.0, 2))
    kept = Points(images(5, 20.0, 3))
    pseudo = pseudo_target(source, start(model, target, kept))
    assert pseudo.own_share == 1 and pseudo.copies and "warnings" in pseudo.notes
    assert len(pseudo.pool.x.flatten(1).unique(dim=0)) == 31  # none of those kept back to stop the training


def test_a_mostly_borrowed_target_uses_the_points_kept_back_too(model):
    source, target, kept = Points(images(800, 0.0, 1)), Points(images(25, 0.7, 2)), Points(images(6, 0.7, 3))
    pseudo = pseudo_target(source, start(model, target, kept))
    assert not pseudo.copies
    assert torch.equal(pseudo.pool.x[25:31], kept.x)
