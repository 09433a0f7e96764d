"""Model folders: what goes in comes out, damage is named, nothing is overwritten silently."""

import json

import pytest
import torch
from torch import nn

import diffgraft as dg
from diffgraft.data import Prior, Transform
from diffgraft.errors import BadModel, OutputExists
from diffgraft.guide import Steered, interval
from diffgraft.nets.catalog import build, ratio_net
from diffgraft.ratio import LogRatio

SCHEDULES = [dg.vp(), dg.cosine(), dg.rectified(), dg.edm(), dg.discrete(torch.linspace(0.99, 0.01, 37))]


def mlp(schedule=None, n_classes=4):
    schedule = schedule or dg.vp()
    net = dg.Net(build("mlp", (3,), schedule, n_classes, width=16, depth=2), schedule, "v", (3,))
    net.transform = Transform(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0]))
    net.prior = Prior(torch.tensor([1, 3]), torch.tensor([0.25, 0.75]))
    return net


def steered(weight=1.5):
    net = dg.Net(build("mlp", (3,), dg.vp(), 4, width=16, depth=2, steered=True), dg.vp(), "v", (3,))
    nn.init.normal_(net.module.lead.weight)
    return Steered(net, weight).like(mlp())


def ratio(schedule):
    module = ratio_net((3,), schedule, 4, width=16, depth=2)
    nn.init.normal_(module.head.weight)
    return LogRatio(module, schedule)


def models():
    base = mlp()
    yield "net", base
    yield "unet", dg.Net(build("unet", (1, 7, 5), dg.vp(), 0, width=8), dg.vp(), "eps", (1, 7, 5))
    yield "float64", mlp().double()
    yield "ratio", dg.Guided(base, dg.ratio_shift(ratio(dg.vp()), dg.vp()), 0.7)
    yield "toward, in an interval", dg.Guided(dg.drop_label(base), dg.toward(mlp()), interval(1.5, -3.0, 2.0))
    yield "itself without label", dg.Guided(dg.drop_label(base), dg.toward(base), 2.0)
    yield "two schedules", dg.Guided(base, dg.toward(dg.with_schedule(mlp(dg.edm()), dg.vp())), 1.5)
    yield "nested", dg.Guided(dg.Guided(base, dg.toward(mlp()), 1.2), dg.ratio_shift(ratio(dg.vp()), dg.vp()), 0.5)
    yield "steered", steered()
    yield "steered, in an interval", steered(interval(1.5, -3.0, 2.0))
    yield "steered, towards", dg.Guided(base, dg.toward(steered()), 1.5)
    for schedule in SCHEDULES:
        yield type(schedule).__name__, mlp(schedule)


@pytest.mark.parametrize(("name", "model"), list(models()), ids=lambda a: a if isinstance(a, str) else "")
def test_a_loaded_model_samples_the_same(tmp_path, name, model):
    dg.save(model, tmp_path / "m")
    again = dg.load(tmp_path / "m")
    draws = [dg.sample(m.eval(), 7, steps=4, generator=torch.Generator().manual_seed(3)) for m in (model, again)]
    assert torch.equal(*draws)
    assert again.schedule == model.schedule and again.shape == model.shape and again.n_classes == model.n_classes


def test_a_network_in_two_places_is_written_once(tmp_path):
    base = mlp()
    dg.save(dg.Guided(dg.drop_label(base), dg.toward(base), 2.0), tmp_path / "m")
    assert len(list((tmp_path / "m").glob("*.safetensors"))) == 2  # the network and the transform
    again = dg.load(tmp_path / "m")
    assert again.base.base.module is again.shift.tuned.module


class Plain(nn.Module):
    """A network of the user's own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x_t, t):
        return self.layer(x_t)


def test_a_network_of_the_users_own_is_given_back(tmp_path):
    model = dg.Net(Plain(), dg.vp(), shape=(3,))
    dg.save(model, tmp_path / "m")
    with pytest.raises(BadModel, match=r"module=net"):
        dg.load(tmp_path / "m")
    assert torch.equal(dg.load(tmp_path / "m", module=Plain()).module.layer.weight, model.module.layer.weight)


def test_both_networks_of_the_users_own_come_back(tmp_path):
    """Each gets a module of its own, not the one object that was given."""
    base, tuned = (dg.Net(Plain(), dg.vp(), shape=(3,)) for _ in range(2))
    dg.save(dg.Guided(base, dg.toward(tuned), 1.5), tmp_path / "m")
    again = dg.load(tmp_path / "m", module=Plain())
    assert torch.equal(again.base.module.layer.weight, base.module.layer.weight)
    assert torch.equal(again.shift.tuned.module.layer.weight, tuned.module.layer.weight)


def test_exact_laws_do_not_go_into_a_folder(tmp_path):
    with pytest.raises(BadModel, match="MixtureDenoiser cannot be written"):
        dg.save(dg.tasks.mixtures.shifted(10).truth.source, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_an_existing_folder_stays(tmp_path):
    dg.save(mlp(), tmp_path / "m")
    before = (tmp_path / "m" / "model.safetensors").read_bytes()
    with pytest.raises(OutputExists, match="overwrite"):
        dg.save(mlp(), tmp_path / "m")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == before
    dg.save(mlp(), tmp_path / "m", overwrite=True)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("diffgraft.store.card", fail)
    with pytest.raises(OSError, match="disk full"):
        dg.save(mlp(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def flip(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda m: flip(m / "model.safetensors"), "its hash differs"),
        (lambda m: (m / "model.safetensors").unlink(), "is damaged"),
        (lambda m: (m / "model.safetensors").write_bytes(b""), "is damaged"),
        (lambda m: (m / "transform.safetensors").unlink(), "is damaged"),
        (lambda m: (m / "config.json").write_text("{"), "is damaged"),
        (lambda m: (m / "config.json").write_text("[]"), "is damaged"),
        (lambda m: (m / "config.json").write_text((m / "config.json").read_text().replace('"kind": "net"', '"kind": "new"')), "unknown kind"),
        (lambda m: (m / "config.json").write_text((m / "config.json").read_text().replace('"predicts"', '"predict"')), "is damaged"),
        (lambda m: (m / "config.json").write_text((m / "config.json").read_text().replace('"format": 1', '"format": 2')), "install a newer"),
        (lambda m: (m / "config.json").unlink(), "not a model folder"),
    ],
)
def test_damage_is_named_in_one_line(tmp_path, harm, says):
    dg.save(mlp(), tmp_path / "m")
    harm(tmp_path / "m")
    with pytest.raises(BadModel, match=says) as error:
        dg.load(tmp_path / "m")
    assert "\n" not in str(error.value)


def test_the_card_has_no_gaps(tmp_path):
    dg.save(mlp(), tmp_path / "m", origin={"method": {"name": "tgdp"}, "n_target": 50, "seed": 3, "fit_seconds": 1.5, "n_source": 100})
    text = (tmp_path / "m" / "README.md").read_text()
    assert "| Method | `tgdp` |" in text and "| Target samples | 50 |" in text
    assert "TODO" not in text and "not recorded" not in text
    assert json.loads((tmp_path / "m" / "config.json").read_text())["origin"]["n_target"] == 50
