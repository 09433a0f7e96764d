"""What stands for a target of few images: its own points, and source images as far as the ratio can be trusted."""

import pytest
import torch

import diffgraft as dg
from diffgraft.data import Points, Transform
from diffgraft.denoise import Net, known_labels
from diffgraft.domain import net_features, seen_by_classifier
from diffgraft.draw import Draw
from diffgraft.errors import BadModel
from diffgraft.features import features_of_model
from diffgraft.fit import Training, train
from diffgraft.methods import expected
from diffgraft.methods import start as beginning
from diffgraft.methods.classify import new_ratio
from diffgraft.methods.pseudo import PseudoTarget, pseudo_target
from diffgraft.methods.start import Start
from diffgraft.nets.catalog import build
from diffgraft.nets.probe import Probe
from diffgraft.nets.unet import Encoder
from diffgraft.pretrain import pretrain
from diffgraft.ratio import LogRatio

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
    assert seen_by_classifier(source, target)(source.x).shape == (60, 50 + 2)  # components, and mean and contrast of the channel
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
def test_the_ratio_network_of_a_unet_source_is_a_head_on_its_features(model, n_classes):
    target = Points(images(7, 0.0, 1), torch.arange(7) % n_classes if n_classes else None)
    log_h = new_ratio(model, target, 0)
    found = log_h.module
    assert isinstance(found, Probe) and found.n_classes == n_classes
    known = model.module.state_dict()
    assert all(torch.equal(a, known[key]) for key, a in found.body.state_dict().items())
    assert {name.split(".")[0] for name, p in found.named_parameters() if p.requires_grad} == {"told", "modulate", "first", "head"}
    t = torch.full((7,), 0.3)
    assert torch.equal(log_h(target.x, t, target.y), torch.zeros(7))
    seen = (log_h.seen(target.x, t) - found.mean) / found.spread
    assert float(seen.mean().abs()) < 1 and 0.1 < float(seen.std()) < 10


def test_a_network_of_the_users_own_is_compared_by_an_encoder():
    class Plain(torch.nn.Module):
        n_classes = 0

        def forward(self, x, t, y=None):
            return x

    log_h = new_ratio(Net(Plain(), dg.vp(), shape=SHAPE), Points(images(7, 0.0, 1)), 0)
    assert isinstance(log_h.module, Encoder)


def test_what_a_probe_has_seen_is_judged_as_the_images_are(model):
    torch.manual_seed(0)
    log_h = new_ratio(model, Points(images(7, 0.0, 1), torch.arange(7) % 2), 0)
    torch.nn.init.normal_(log_h.module.head[-1].weight)
    x, t, y = images(5, 0.0, 1), torch.linspace(0.1, 0.9, 5), torch.tensor([0, 1, -1, 1, 0])
    values = log_h(x, t, y)
    torch.testing.assert_close(log_h.judge(log_h.seen(x, t), t, y), values)
    assert float((values - log_h(x, t)).detach().abs().max()) > 1e-4  # the label counts
    (slope,) = torch.autograd.grad(log_h(x.requires_grad_(), t, y).sum(), x)
    assert (slope.flatten(1).abs().sum(1) > 0).all()


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


def test_the_clean_ratio_may_look_at_features_of_another_model(model, tmp_path):
    source, target = Points(images(800, 0.0, 1)), Points(images(31, 0.7, 2))
    torch.manual_seed(1)
    other = Net(build("unet", SHAPE, dg.vp(), width=16), dg.vp(), shape=SHAPE)
    dg.save(other, tmp_path / "other")
    own, given = (pseudo_target(source, start(model, target), features=name) for name in (None, str(tmp_path / "other")))
    assert not torch.equal(own.log_r, given.log_r) and float(torch.corrcoef(torch.stack([own.log_r, given.log_r]))[0, 1]) > 0.3
    data = dg.Data(source=source.x, target=target.x)
    fitted = dg.methods.TGDP(steps=2, features=str(tmp_path / "other")).fit(model, data, torch.Generator().manual_seed(0))
    assert "ratio" in fitted.notes
    with pytest.raises(BadModel, match="not a model folder"):
        dg.methods.TGDP(features="absent").fit(model, data)


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


def test_the_clean_ratio_is_kept_beside_the_source_points(model):
    source, target = Points(images(800, 0.0, 1)), Points(images(31, 0.7, 2))
    pseudo = pseudo_target(source, start(model, target))
    assert pseudo.source.n == len(pseudo.log_r) == 800 and torch.equal(pseudo.own.x, target.x)
    assert float(pseudo.log_r.exp().mean()) == pytest.approx(1, rel=1e-5)
    assert float(torch.corrcoef(torch.stack([pseudo.log_r, brightness(pseudo.source).to(pseudo.log_r)]))[0, 1]) > 0.5


# log h as the expectation of the clean ratio


def known(share, log_r):
    """A pseudo-target of images whose brightness is tilted by a ratio that is known exactly."""
    source = Points(images(2000, 0.0, 1))
    return PseudoTarget(source, None, share, Points(images(50, 20.0, 2)), source, log_r(brightness(source)))


def test_a_head_on_frozen_features_learns_the_tilt_of_the_noised_images(model, monkeypatch):
    # brightness b ~ N(0, 1), r ~ exp(b): the target is N(1, 1), and log h rises with the brightness of x_t
    monkeypatch.setattr(expected, "LOOKS", 6000)
    pseudo = known(0.0, lambda b: b - 0.5)
    begun = start(model, pseudo.own)
    log_h = new_ratio(model, pseudo.source, 0)
    told = []
    loss, check = expected.expected_losses(log_h, pseudo, begun, pseudo.source, 2500, told.append)
    assert check is None and told[-1].step == told[-1].steps and {p.stage for p in told} == {"features of the source"}
    training = expected.expected_training(log_h, pseudo, begun, 400, None, 5e-3)
    assert training.batch_size == expected.BATCH
    for _ in train(log_h, loss, training, 0):
        pass
    schedule, t = dg.vp(), dg.vp().time_at(torch.tensor(2.0))
    alpha_t, sigma_t = schedule(t)
    x_t = alpha_t * images(500, 0.5, 3) + sigma_t * torch.randn(500, *SHAPE, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        f = log_h(x_t, t.expand(500))
    assert float(torch.corrcoef(torch.stack([f, x_t.mean((1, 2, 3))]))[0, 1]) > 0.9


def test_the_targets_own_points_count_with_their_share(model):
    begun = start(model, Points(images(50, 20.0, 2)), Points(images(9, 20.0, 3)))

    def losses(share, log_h):
        pseudo = known(share, lambda b: 0 * b)
        return expected.expected_losses(log_h, pseudo, begun, pseudo.source, 2500, None)

    encoder = LogRatio(build("encoder", SHAPE, dg.vp(), width=8), dg.vp())
    half, check = losses(0.5, encoder)
    assert half(Draw(0, 0, 16)).shape == (16,) and check is None
    whole, check = losses(1.0, encoder)
    assert check is not None and torch.isfinite(whole(Draw(0, 0, 16))).all()  # copies of few points: those kept back stop the training
    assert not torch.equal(check(Draw(0, -1, 16)), whole(Draw(0, -1, 16)))


def test_without_a_clean_ratio_the_pool_is_told_from_the_source(model):
    log_h = LogRatio(build("encoder", SHAPE, dg.vp(), width=8), dg.vp())
    source, target = Points(images(60, 0.0, 1)), Points(images(50, 3.0, 2))
    loss, check = expected.expected_losses(log_h, PseudoTarget(target), start(model, target), source, 2500, None)
    assert loss(Draw(0, 0, 16)).shape == (16,) and check is None


def test_signals_are_looked_at_more_often_but_for_long_ones():
    few, many = torch.zeros(2, 1, 16, 16), torch.zeros(2, 8, 256)
    assert (expected._most_looks(few), expected._most_looks(many), expected._most_looks(torch.zeros(2, 12, 1000))) == (40_000, 80_000, 40_000)


def test_samples_of_the_source_stand_in_where_the_target_has_more_statements(monkeypatch):
    monkeypatch.setattr(beginning, "STAND_IN", 50)
    x, rows = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)), torch.eye(3)[torch.arange(60) % 3]
    source = pretrain(Points(x, rows), 0, training=Training(steps=2, batch_size=8, learning_rate=1e-3), n_classes=3)
    wider = torch.cat([torch.zeros(20, 3), torch.eye(2)[torch.arange(20) % 2]], 1)
    data = dg.Data(target=Points(x[:20], wider))
    pool = beginning.source_pool(beginning.begin(source, data, None, 0.2, new_labels=True), data)
    assert pool.x.shape == (50, 2) and {tuple(row) for row in pool.y.tolist()} == {tuple(row) for row in wider.tolist()}
