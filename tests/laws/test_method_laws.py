"""What holds for every method: one list, the catalog."""

import copy
from dataclasses import replace

import pytest
import torch

import diffgraft as dg
from diffgraft.errors import BadData
from diffgraft.fit import Training
from diffgraft.methods.catalog import METHODS, describe, name_of
from diffgraft.plan import make_method
from diffgraft.pretrain import pretrain

QUICK = Training(steps=30, batch_size=32, warmup=5)


def short(name):
    method = METHODS[name]()
    return replace(method, steps=12) if hasattr(method, "steps") else method


def worlds():
    plain = dg.tasks.mixtures.hard(11, dim=3, n_components=5, n_source=200)
    labelled = dg.tasks.mixtures.hard(11, dim=3, n_components=5, labels="classes", n_source=200)
    statements = dg.tasks.mixtures.hard(11, dim=3, n_components=5, labels="multi-hot", n_source=200)
    return {"plain": plain, "classes": labelled, "multi-hot": statements, "images": dg.tasks.digits.label_shift(11)}


WORLDS = worlds()
SOURCES = {}


def source(world):
    if world not in SOURCES:
        SOURCES[world] = pretrain(WORLDS[world].data.source, 0, training=QUICK, settings={"width": 16}, transform=WORLDS[world].transform)
    return SOURCES[world]


def seeded():
    return torch.Generator().manual_seed(7)


@pytest.mark.parametrize("name", METHODS)
def test_configuration_round_trip(name):
    method = METHODS[name]()
    settings = describe(method)
    assert settings.pop("name") == name == name_of(method)
    assert make_method(name, {k: v for k, v in settings.items() if v is not None}) == method


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", METHODS)
def test_fit_leaves_source_and_data_as_they_were_and_survives_the_folder(name, world, tmp_path):
    net, data = source(world), WORLDS[world].data
    before, kept = copy.deepcopy(net.state_dict()), copy.deepcopy(data)
    flags = [p.requires_grad for p in net.parameters()]
    model = short(name).fit(net, data, seeded())

    assert all(torch.equal(a, b) for a, b in zip(before.values(), net.state_dict().values(), strict=True))
    assert flags == [p.requires_grad for p in net.parameters()]
    for a, b in zip((*data.source, *data.target), (*kept.source, *kept.target), strict=True):
        assert a is b is None or torch.equal(a, b)

    dg.save(model, tmp_path / "m")
    draws = [dg.sample(m, 7, steps=3, generator=seeded()) for m in (model, dg.load(tmp_path / "m"))]
    assert torch.equal(*draws)
    assert draws[0].shape == (7, *data.target.x.shape[1:])


@pytest.mark.parametrize("name", METHODS)
def test_one_seed_gives_one_model(name):
    models = [short(name).fit(source("plain"), WORLDS["plain"].data, seeded()) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_the_global_generator_is_left_alone(name):
    before = torch.get_rng_state()
    short(name).fit(source("plain"), WORLDS["plain"].data, seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", METHODS)
def test_samples_follow_the_targets_labels(name):
    data = WORLDS["images"].data
    model = short(name).fit(source("images"), data, seeded())
    assert set(model.prior.values.tolist()) == set(data.target.y.tolist())
    assert float(model.prior.probs.sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", METHODS)
def test_data_of_another_shape_are_refused_before_any_work(name):
    with pytest.raises(BadData, match=r"shape \(3,\).*\(5,\)"):
        METHODS[name]().fit(source("plain"), dg.Data(target=torch.zeros(9, 5)), seeded())


GUIDED = ("tgdp", "classifier_guidance")


@pytest.mark.parametrize("name", [name for name in METHODS if name not in GUIDED])
def test_unknown_labels_are_refused_before_any_work(name):
    with pytest.raises(BadData, match="takes none"):
        METHODS[name]().fit(source("plain"), dg.Data(target=(torch.zeros(9, 3), torch.zeros(9))), seeded())
    with pytest.raises(BadData, match="go up to 12"):
        METHODS[name]().fit(source("classes"), dg.Data(target=(torch.zeros(9, 3), torch.full((9,), 12))), seeded())


@pytest.mark.parametrize("name", METHODS)
def test_source_data_may_be_absent(name, monkeypatch):
    monkeypatch.setattr("diffgraft.methods.start.STAND_IN", 50)
    for world in ("plain", "classes", "multi-hot"):
        model = short(name).fit(source(world), dg.Data(target=tuple(WORLDS[world].data.target)), seeded())
        assert torch.isfinite(dg.sample(model, 5, steps=3)).all()


def test_tgdp_starts_as_the_source_and_every_loss_moves_its_network():
    net, data = source("plain"), WORLDS["plain"].data
    x_t, t = torch.randn(7, 3), torch.full((7,), 0.3)
    untrained = dg.methods.TGDP(steps=1, learning_rate=1e-30).fit(net, data, seeded())
    torch.testing.assert_close(untrained(x_t, t), net(x_t, t))


def test_the_consistency_loss_alone_moves_the_guidance_network():
    model = dg.methods.TGDP(steps=12, logistic=0.0).fit(source("plain"), WORLDS["plain"].data, seeded())
    assert float(model.shift.log_h.module.head.weight.abs().sum()) > 0


def test_tgdp_network_is_conditional_where_labels_are_given():
    model = short("tgdp").fit(source("classes"), WORLDS["classes"].data, seeded())
    x_t, t = torch.randn(7, 3), torch.full((7,), 0.3)
    torch.nn.init.normal_(model.shift.log_h.module.head.weight)
    assert not torch.equal(model.shift.log_h(x_t, t, torch.zeros(7).long()), model.shift.log_h(x_t, t, torch.ones(7).long()))
