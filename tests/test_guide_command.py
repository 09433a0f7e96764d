"""`diffgraft guide`: two model folders become one, at one weight or at the best of several."""

import json

import numpy as np
import pytest
import torch

import diffgraft as dg
from diffgraft import cli, store
from diffgraft.data import Layout, Prior
from diffgraft.guide import Steered
from diffgraft.nets.catalog import build
from diffgraft.pages.sweep import page, table
from diffgraft.sweep import best, sweep

COLUMNS = ("a", "b", "c")


def folder(path, seed, n_classes=0, columns=COLUMNS):
    torch.manual_seed(seed)
    net = dg.Net(build("mlp", (3,), dg.vp(), n_classes, width=8, depth=1), dg.vp(), shape=(3,))
    net.layout, net.prior = Layout(columns=columns), Prior.fit(torch.arange(n_classes)) if n_classes else None
    store.save(net, path)
    return path


@pytest.fixture
def run(monkeypatch, capsys):
    def run(*args):
        monkeypatch.setattr("sys.argv", ["diffgraft", *map(str, args)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def pair(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "held_out.csv").write_text("a,b,c\n" + "\n".join(",".join(f"{v:.3f}" for v in row) for row in rng.normal(size=(60, 3))))
    return folder(tmp_path / "source", 0), folder(tmp_path / "tuned", 1)


def test_two_models_become_one(run, pair, tmp_path):
    source, tuned = pair
    assert run("guide", "--source", source, "--tuned", tuned, "--weight", 1.25, "--interval", -1, 2, "--out", tmp_path / "g")[0] == 0
    model = dg.load(tmp_path / "g")
    assert (model.weight.weight, model.weight.lo, model.weight.hi) == (1.25, -1, 2) and model.layout.columns == COLUMNS
    x_t, t = torch.randn(5, 3), model.schedule.time_at(torch.tensor(0.0)).expand(5)
    a, b = dg.load(source)(x_t, t), dg.load(tuned)(x_t, t)
    torch.testing.assert_close(model(x_t, t), a + 1.25 * (b - a))
    assert "domain_guidance" in (tmp_path / "g" / "README.md").read_text()


def test_several_weights_are_compared_from_the_same_noise(run, pair, tmp_path):
    source, tuned = pair
    held_out = tmp_path / "held_out.csv"
    status, out, _ = run(
        "guide", "--source", source, "--tuned", tuned, "--weight", 0.5, 1, 2, "--reference", held_out, "-n", 40, "--steps", 3, "--out", tmp_path / "g"
    )
    assert status == 0
    rows = json.loads((tmp_path / "g" / "sweep.json").read_text())
    assert [row["weight"] for row in rows] == [0.5, 1, 2] and out.splitlines()[1].startswith("0.5 ")
    kept = dg.load(tmp_path / "g").weight
    assert kept == best(rows) == min(rows, key=lambda row: row["metrics"]["energy"]["value"])["weight"]
    shown = (tmp_path / "g" / "sweep.html").read_text()
    assert shown.count("<svg") == len(rows[0]["metrics"]) and f"keeps w = {kept:g}" in " ".join(shown.split()) and "http" not in shown.replace("http-equiv", "")


def test_several_weights_need_a_reference(run, pair, tmp_path):
    source, tuned = pair
    status, _, err = run("guide", "--source", source, "--tuned", tuned, "--weight", 0.5, 1, "--out", tmp_path / "g")
    assert status == 2 and "pass --reference DATA, or one --weight" in err and not (tmp_path / "g").exists()


def test_an_existing_place_is_not_overwritten(run, pair, tmp_path):
    source, tuned = pair
    (tmp_path / "g").mkdir()
    status, _, err = run("guide", "--source", source, "--tuned", tuned, "--out", tmp_path / "g")
    assert status == 2 and "exists already" in err
    assert run("guide", "--source", source, "--tuned", tuned, "--out", tmp_path / "g", "--overwrite")[0] == 0


def test_a_sweep_of_a_labelled_model_follows_its_prior(tmp_path):
    a, b = (dg.load(folder(tmp_path / name, k, 2)) for k, name in enumerate("ab"))
    model = dg.Guided(dg.drop_label(a), dg.toward(b), 1.0).like(b)
    reference = dg.Data(target=(torch.randn(40, 3), torch.arange(40) % 2)).target
    rows = sweep(model, [0.0, 1.0, 1.0], reference, n=20, steps=2)
    assert rows[1]["metrics"] == rows[2]["metrics"] != rows[0]["metrics"]
    assert len(table(rows).splitlines()) == 5 and page(rows, tmp_path / "p.html", "a leads b", 1.0).exists()
    assert "memorisation" not in rows[0]["metrics"]
    assert "memorisation" in sweep(model, [1.0], reference, n=20, steps=2, train=reference)[0]["metrics"]


def test_a_network_that_takes_its_weight_is_sampled_at_any_that_it_learned(run, tmp_path):
    torch.manual_seed(0)
    net = dg.Net(build("mlp", (3,), dg.vp(), width=8, depth=1, steered=True), dg.vp(), shape=(3,))
    torch.nn.init.normal_(net.module.lead.weight)
    store.save(Steered(net, 1.25), tmp_path / "m")
    for name, args in {"own": (), "same": ("--weight", 1.25), "more": ("--weight", 2), "inside": ("--weight", 2, "--interval", -1, 1)}.items():
        assert run("sample", tmp_path / "m", "-n", 5, "--steps", 3, "--out", tmp_path / f"{name}.npz", *args)[0] == 0
    x = {name: np.load(tmp_path / f"{name}.npz")["X"] for name in ("own", "same", "more", "inside")}
    assert (x["own"] == x["same"]).all() and (x["own"] != x["more"]).any() and (x["more"] != x["inside"]).any()
    status, _, err = run("sample", tmp_path / "m", "-n", 5, "--out", tmp_path / "less.npz", "--weight", 0.5)
    assert status == 2 and "learned weights from 1 on, got 0.5; give 1 or more" in err and not (tmp_path / "less.npz").exists()
    assert "takes a guidance weight, 1.25 where none is given" in (tmp_path / "m" / "README.md").read_text()
