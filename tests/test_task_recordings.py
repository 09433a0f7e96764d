"""Tasks of real electrocardiograms: two folders of recordings in small, and PTB-XL to Brugada-HUCA on the real excerpts."""

import csv
from functools import partial

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from diffgraft.cli import app
from diffgraft.ecg.leads import EIGHT
from diffgraft.ecg.statements import NINE
from diffgraft.errors import BadData, BadPlan
from diffgraft.tasks.catalog import TASKS
from diffgraft.tasks.recordings import look
from test_ecg_records import signal, write_record

folders, brugada = TASKS["ecg"]["folders"], TASKS["ecg"]["brugada"]
STATEMENTS = ["{'NORM': 100.0, 'SR': 0.0}", "{'AFIB': 0.0}", "{'STD_': 50.0, 'NORM': 0.0}", "{'LVH': 100.0}"]


def ptbxl(folder, n, folds=True, only=STATEMENTS):
    """A folder in the layout of PTB-XL: two records a patient, statements in turn."""
    rows = []
    for k in range(n):
        path = folder / "records100"
        write_record(path, f"{k:05}_lr", signal(10.0, seed=k))
        fold = 1 + k // 2 % 10 if folds else ""
        rows.append([k, 1000 + k // 2, 60, 0, only[k % len(only)], fold, f"records100/{k:05}_lr", f"records500/{k:05}_hr"])
    with open(folder / "ptbxl_database.csv", "w", newline="") as file:
        csv.writer(file).writerows([["ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr"], *rows])
    return str(folder)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    home = tmp_path_factory.mktemp("pair")
    for name in ("a", "b"):
        (home / name).mkdir()
    return ptbxl(home / "a", 80), ptbxl(home / "b", 200)


def test_the_source_is_its_training_part_and_the_target_one_fold(pair):
    task = folders(5, 0, source=pair[0], target=pair[1])
    # 64 of 80 records lie in folds 1 to 8, of which every fourth has no class of the nine
    assert task.data.source.x.shape == (48, 8, 1000) and task.layout.columns == EIGHT and task.layout.labels == NINE
    assert (task.layout.rate, task.layout.unit) == (100.0, "mV")
    assert task.data.target.x.shape == (5, 8, 1000) and task.test.x.shape[0] == pytest.approx(0.8 * 150, abs=4)
    y = task.test.y
    assert y.shape[1] == 9 and y.sum(0).nonzero()[:, 0].tolist() == [NINE.index(name) for name in ("NORM", "AFIB", "STD_")]
    assert set(y.sum(1).tolist()) == {1.0, 2.0}
    told = task.config["protocol"]
    assert told["fold"] == 1 and len(told["split"]) == 16 and any("none of the classes" in line for line in task.account)
    assert len(task.split) == 200 and set(task.split.values()) == set(range(1, 11))
    assert np.allclose(told["mean"], task.data.source.x.mean((0, 2)), atol=1e-4) and len(told["deviation"]) == 8


def test_folds_are_the_same_at_every_seed_and_share_no_patient(pair):
    a, b, other = (folders(5, seed, source=pair[0], target=pair[1], fold=fold) for seed, fold in ((0, 1), (1, 1), (0, 3)))
    assert a.config["protocol"]["split"] == b.config["protocol"]["split"] and torch.equal(a.test.x, b.test.x)
    assert not torch.equal(a.data.target.x, b.data.target.x) and not torch.equal(a.test.x, other.test.x)

    narrow = folders(5, source=pair[0], target=pair[1], seconds=2.56, classes="all", leave_out=["AFIB"])
    assert narrow.split == a.split and narrow.config["protocol"]["split"] == a.config["protocol"]["split"]

    def records(x):
        return {row.numpy().tobytes() for row in x}

    assert not records(a.data.target.x) & records(a.test.x)


def test_options(pair):
    task = folders(
        5,
        source=pair[0],
        target=pair[1],
        seconds=2.56,
        leads=["i", "V1"],
        classes="all",
        leave_out=["STD_", "LVH"],
        band=[0.5, 40.0],
        scale="all",
        conditional=False,
    )
    assert task.data.source.x.shape[1:] == (2, 256) and task.data.source.y is None and task.test.y is None and task.layout.labels is None
    assert task.transform.scale.shape == ()
    assert folders(5, source=pair[0], target=pair[1], classes="all").data.target.y.shape == (5, 71)


def test_all_of_a_fold(pair):
    task = folders(5, 0, source=pair[0], target=pair[1], classes="all", whole=True)
    assert task.data.target.n == task.config["n_target"] == sum(fold == 1 for fold in task.split.values())
    assert len(task.data.owners) == task.data.target.n > len(set(task.data.owners))
    assert folders(5, 0, source=pair[0], target=pair[1], classifier_steps=7).downstream.recipe.most_steps == 7


def test_what_lies_in_two_folders(pair, tmp_path):
    lines = [f"{part} {path}: PTB-XL, {n} recordings, {n} with statements" for part, path, n in zip(("source", "target"), pair, (80, 200), strict=True)]
    assert look(source=pair[0], target=pair[1], n_target=1) == (lines, True)
    with pytest.raises(BadData, match="no such folder of recordings"):
        look(source=pair[0], target=str(tmp_path / "none"))


def test_a_dry_run_says_what_a_run_would(pair, tmp_path):
    plan, out = tmp_path / "p.toml", tmp_path / "out"
    text = (
        f'name = "p"\n[[task]]\nname = "ecg"\nworld = "folders"\nsource = "{pair[0]}"\ntarget = "{pair[1]}"\nn_target = [5, 12]\n[[method]]\nname = "source"\n'
    )
    plan.write_text(text)
    run = partial(CliRunner().invoke, app)
    done = run(["run", str(plan), "--out", str(out), "--dry-run"])
    assert done.exit_code == 0 and f"# target {pair[1]}: PTB-XL, 200 recordings" in done.output
    for change, says in {
        'task.ecg.leave_out=["XYZ"]': "unknown statement 'XYZ'",
        'task.ecg.leads=["V9"]': "unknown lead 'V9'",
        "task.ecg.fold=11": "fold is one of the target's 10",
        "task.ecg.band=[40, 0.5]": "expected a band within 0 and 50 Hz, half the sampling rate, got 40 to 0.5; give the lower edge first",
        "source.path=nowhere": "nowhere is not a model folder: no config.json there",
    }.items():
        done = run(["run", str(plan), "--out", str(out), "--dry-run", "--set", change])
        assert says in str(done.exception), done.output
    done = run(["run", str(plan), "--out", str(out), "--dry-run", "--set", "task.ecg.n_target=90"])
    assert done.exit_code == 2 and "expected at least n_target = 90 and 20; lower n_target" in done.output
    bare = tmp_path / "bare"
    for k in range(3):
        write_record(bare, f"r{k}", signal(seed=k))
    done = run(["run", str(plan), "--out", str(out), "--dry-run", "--set", f"task.ecg.target={bare}"])
    assert done.exit_code == 2 and "# not enough for the run" in done.output and "none of 3 recordings has statements" in done.output
    done = run(["run", str(plan), "--out", str(out), "--dry-run", "--set", f"source.path={pair[0]}"])
    assert "holds ECG recordings; name the target's recordings beside it by target.path" in str(done.exception) and not out.exists()


def test_a_class_that_only_the_target_has_is_said(tmp_path):
    few = [text for text in STATEMENTS if "AFIB" not in text]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    task = folders(5, 0, source=ptbxl(tmp_path / "a", 60, only=few), target=ptbxl(tmp_path / "b", 200))
    assert any("no record with 'AFIB': methods take it without a label there" in line for line in task.account)


def test_published_folds(pair):
    swapped = folders(5, source=pair[0], target=pair[1], swapped=True)
    assert swapped.config["protocol"]["fold"] == 10
    plain = folders(5, source=pair[0], target=pair[1], fold=10)
    assert torch.equal(swapped.data.target.x, plain.data.target.x) and not torch.equal(swapped.test.x, plain.test.x)


def test_windows_are_kept(pair, tmp_path):
    kept = {"source": pair[0], "target": pair[1], "seconds": 3.0, "cache": str(tmp_path / "c")}
    first = folders(5, **kept)
    assert len(list((tmp_path / "c").glob("*.npz"))) == 2
    assert torch.equal(folders(5, **kept).data.source.x, first.data.source.x)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"fold": 11}, BadPlan, "fold is one of the target's 10, 1 to 10, got 11"),
        ({"band": [1.0]}, BadPlan, "band is the lowest and the highest frequency"),
        ({"leave_out": ["LVH"]}, BadPlan, "leave_out names 'LVH', which is none of the 9 classes"),
        ({"leave_out": ["XYZ"]}, BadData, "unknown statement 'XYZ'"),
        ({"leads": ["V9"]}, BadData, "unknown lead 'V9'"),
        ({"n_target": 150}, BadData, "expected at least n_target = 150 and 20; lower n_target"),
        ({"target": "nowhere"}, BadData, "no such folder of recordings: nowhere"),
        ({"leave_out": [name for name in NINE if name != "STE_"]}, BadData, "none of 80 recordings has one of the classes 'STE_'"),
    ],
)
def test_what_does_not_fit_ends_in_one_line(pair, given, error, says):
    with pytest.raises(error) as caught:
        folders(**{"n_target": 5, "source": pair[0], "target": pair[1], **given})
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_ptbxl_to_brugada(data_folder, monkeypatch):
    monkeypatch.setenv("DIFFGRAFT_DATA", str(data_folder))
    task = brugada(30, 0)
    assert task.data.source.x.shape == (3 * 2285, 8, 256) and task.data.source.y is None
    assert task.data.target.y.bincount().tolist() == [24, 6] and task.test.y.bincount().tolist() == [119, 32]
    assert float(task.data.source.x.std()) == pytest.approx(1, abs=0.02) and float(task.test.x.std()) == pytest.approx(1, abs=0.05)
    assert brugada(90, 1).test.x.shape == (91, 8, 256) and brugada(30, conditional=False).data.target.y is None
    with pytest.raises(BadData, match="181 people are there, of which 4 to 161 can be given to methods, got n_target = 170"):
        brugada(170)


def test_brugada_without_data_is_named(monkeypatch):
    monkeypatch.delenv("DIFFGRAFT_DATA", raising=False)
    with pytest.raises(BadData, match=r"^brugada data: no folder was named; get ptbxl and .* by folder=PATH, or by \$DIFFGRAFT_DATA$"):
        brugada(30)


def test_the_filtered_excerpt_has_the_leads_of_wfdb_files(data_folder):
    with np.load(data_folder / "ptbxl_filtered_1785.npz", allow_pickle=False) as file:
        x = file["X"][:200].astype(np.float64)
    third = [np.corrcoef(r[:, 2], r[:, 1] - r[:, 0])[0, 1] for r in x]
    right = [np.corrcoef(r[:, 3], -r[:, 0] - r[:, 1])[0, 1] for r in x]
    assert np.mean(third) > 0.7 and np.mean(right) > 0.95
