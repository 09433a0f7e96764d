"""Maps of features: equal shares of each cloud, what is alike lies together, and a run writes what is missing."""

from dataclasses import replace
from functools import wraps

import numpy as np
import pytest
import torch

from diffgraft import embedding, experiment, job
from diffgraft.embedding import embed
from diffgraft.pages.run import report
from diffgraft.tasks.catalog import TASKS
from test_experiment import plan
from test_pages import HOSTILE, Tags, html, record, write_records


def clouds(n=(40, 60, 80), d=5):
    g = np.random.default_rng(0)
    return {name: g.normal(k * 20, 1, (size, d)) for k, (name, size) in enumerate(zip(("t-s0-test", "t-s0-source", "a"), n, strict=True))}


def test_what_is_alike_lies_together_and_the_same_each_time():
    found, again = embed(clouds(), "f"), embed(clouds(), "f")
    np.testing.assert_array_equal(found.points, again.points)
    assert found.points.shape == (180, 2) and found.names == ("t-s0-test", "t-s0-source", "a") and (found.perplexity, found.n_features) == (30, 5)
    distances = np.linalg.norm(found.points[:, None] - found.points, axis=2) + np.diag(np.full(180, np.inf))
    assert (found.cloud[distances.argmin(1)] == found.cloud).mean() > 0.98


def test_clouds_have_equal_shares_of_a_bounded_number(monkeypatch):
    monkeypatch.setattr(embedding, "MOST", 150)
    found = embed(clouds(), "f")
    assert np.bincount(found.cloud).tolist() == [40, 50, 50]


@pytest.mark.parametrize(("n", "d"), [((10, 20, 19), 5), ((40, 40, 40), 1)])
def test_too_few_points_or_features_make_no_map(n, d):
    assert embed(clouds(n, d), "f") is None


def test_few_points_have_fewer_neighbours():
    assert embed(clouds((20, 20, 20)), "f").perplexity == 19


def small_plan(**changes):
    return plan(samples=60, method=[{"name": "source"}, {"name": "finetune", "label": "tuned", "steps": 5, "batch_size": 8}], **changes)


@pytest.fixture
def featured(monkeypatch):
    """The task of `plan` with features."""
    shifted = TASKS["mixtures"]["shifted"]
    with_features = wraps(shifted)(lambda **k: replace(shifted(**k), features=lambda x: torch.cat([x, x.abs()], 1)))
    monkeypatch.setitem(TASKS["mixtures"], "shifted", with_features)


@pytest.fixture
def unscored(monkeypatch):
    """Scores of runs are not computed."""
    monkeypatch.setattr(job, "evaluate", lambda *args, **given: {"energy": {"value": 0.1, "floor": 0.0, "n": 9}})


def test_a_run_keeps_features_of_its_first_seed_and_writes_the_map_that_is_missing(tmp_path, monkeypatch, featured, unscored):
    monkeypatch.setattr(embedding, "MOST", 200)
    out = tmp_path / "run"
    experiment.run(small_plan(), out, quiet=True)
    kept = {"modes-n9-s0-test", "modes-n9-s0-source", "modes-n9-source-s0", "modes-n9-tuned-s0"}
    assert {path.stem for path in (out / "features").iterdir()} == kept
    file = out / "fields" / "modes-n9-embedding.npz"
    with np.load(file, allow_pickle=False) as found:
        points = found["points"]
        assert set(found["names"].tolist()) == kept and np.bincount(found["cloud"]).tolist() == [50] * 4 and np.isfinite(points).all()
        assert str(found["features"]) == experiment.CLASSIFIER and int(found["n_features"]) == 4
    before = file.stat().st_mtime_ns
    experiment.run(small_plan(), out, resume=True, quiet=True)
    assert file.stat().st_mtime_ns == before
    file.unlink()
    experiment.run(small_plan(), out, resume=True, quiet=True)
    with np.load(file, allow_pickle=False) as found:
        np.testing.assert_array_equal(found["points"], points)
    text = report(out).read_text()
    assert text.count('aria-label="Map of features, 50 samples of') == 2 and "<h3>Map of features</h3>" in text


def test_a_task_without_features_has_no_map(tmp_path, unscored):
    experiment.run(small_plan(seeds=[0]), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "features").exists() and "Map of features" not in report(tmp_path / "run").read_text()


# the page


def write_map(folder, **changes):
    names = ["mixtures-n20-s0-test", "mixtures-n20-s0-source", "mixtures-n20-source-s0", "mixtures-n20-tgdp-s0"]
    points = np.arange(80.0).reshape(40, 2)
    found = {"points": points, "cloud": np.repeat(np.arange(4), 10), "names": names, "perplexity": 13.0, "n_features": 64, "features": "f", **changes}
    (folder / "fields").mkdir(exist_ok=True)
    np.savez(folder / "fields" / "mixtures-n20-embedding.npz", **{k: v for k, v in found.items() if v is not None})


def test_a_panel_a_method_over_the_same_data_on_the_same_axes(tmp_path):
    write_records(tmp_path, [record(method=m, seed=s) for m in ("source", "tgdp", "scratch") for s in (0, 1)])
    write_map(tmp_path)
    text = html(tmp_path)
    panels = [part.split("</svg>")[0] for part in text.split('aria-label="Map of features, 10 samples of')[1:]]
    assert [panel.split()[0] for panel in panels] == ["source", "tgdp"] and Tags(text).broken == []
    shapes = [dict(zip(("source", "target", "own"), [p.split('d="')[1].split('"')[0] for p in panel.split("<path ")[1:]], strict=True)) for panel in panels]
    assert shapes[0]["source"] == shapes[1]["source"] and shapes[0]["target"] == shapes[1]["target"] and shapes[0]["own"] != shapes[1]["own"]
    assert all(shape[name].count("M") == 10 for shape in shapes for name in shape)
    for words in (
        "40 points in all",
        "perplexity 13",
        "seed 0",
        "10 held-out target points (dark) and 10 source points (pale)",
        "f; 64 numbers",
        "means little",
    ):
        assert words in text
    assert "<h3>Landscapes</h3>" not in text


def test_without_source_data_the_map_has_none(tmp_path):
    write_records(tmp_path, [record()])
    write_map(tmp_path, names=["mixtures-n20-s0-test", "x", "y", "mixtures-n20-tgdp-s0"])
    assert "over 10 held-out target points (dark);" in html(tmp_path)


SHAPES = [{"points": None}, {"points": np.zeros((40, 3))}, {"cloud": np.zeros(39)}, {"points": np.full((40, 2), np.nan)}]


@pytest.mark.parametrize("bad", [*SHAPES, {"names": ["a"]}, {"features": HOSTILE}])
def test_odd_maps_are_left_out_or_escaped(tmp_path, bad):
    write_records(tmp_path, [record()])
    write_map(tmp_path, **bad)
    text = html(tmp_path)
    assert ("<h3>Map of features</h3>" in text) == ("features" in bad) and "<script" not in text
    (tmp_path / "fields" / "mixtures-n20-embedding.npz").write_bytes(b"PK")
    assert "Map of features</h3>" not in html(tmp_path)
