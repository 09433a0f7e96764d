"""Tasks of real data and of a user's own files; the data themselves are looked for where DIFFGRAFT_DATA points."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import diffgraft as dg
from diffgraft.data import Layout, Points
from diffgraft.errors import BadData, BadPlan
from diffgraft.experiment import run
from diffgraft.nets.catalog import build
from diffgraft.pages.run import report
from diffgraft.plan import check_plan
from diffgraft.tasks import digit_features as digits
from diffgraft.tasks import dipole, ecg, signal_features
from diffgraft.tasks.catalog import TASKS
from diffgraft.tasks.files import drawn, files
from diffgraft.tasks.images import _mnist, mnist_tilt, mnist_usps, tilt_log_ratio
from diffgraft.tasks.measures import measures
from diffgraft.tasks.places import place
from diffgraft.tasks.tabular import COLUMNS, wine_colour, wine_quality


def rows(x):
    return {tuple(row) for row in x.flatten(1).tolist()}


# Places


def test_a_place_is_named_or_below_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "wine").mkdir()
    (tmp_path / "wine" / "a.csv").write_text("1")
    monkeypatch.setenv("DIFFGRAFT_DATA", str(tmp_path))
    assert place(None, "wine", ("a.csv",), "here") == tmp_path / "wine"
    assert place(str(tmp_path / "wine"), "other", ("a.csv",), "here") == tmp_path / "wine"


@pytest.mark.parametrize(("given", "message"), [(None, "no folder was named"), ("wine", "has no b.csv and no c.csv")])
def test_a_missing_place_says_what_is_needed(given, message, tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFGRAFT_DATA", raising=False)
    (tmp_path / "wine").mkdir()
    (tmp_path / "wine" / "a.csv").write_text("1")
    with pytest.raises(BadData, match=f"{message}.*get a.csv and b.csv and c.csv \\(the archive\\)") as error:
        place(given and str(tmp_path / given), "wine", ("a.csv", "b.csv", "c.csv"), "the archive")
    assert "\n" not in str(error.value)


# Tables


@pytest.mark.parametrize(("make", "n_source", "n_all"), [(wine_quality, 1348, 825), (wine_colour, 3961, 1359)])
def test_wines_are_distinct_and_none_is_in_two_parts(make, n_source, n_all, data_folder):
    task = make(n_target=50, seed=3, folder=str(data_folder / "wine"))
    source, target, test = task.data.source.x, task.data.target.x, task.test.x
    assert (len(source), len(target), len(test)) == (n_source, 50, n_all - 50)
    assert len(rows(source)) == n_source
    assert len(rows(torch.cat([target, test]))) == n_all
    assert task.layout.columns == COLUMNS and source.shape[1] == len(COLUMNS)
    other = make(n_target=50, seed=4, folder=str(data_folder / "wine"))
    assert rows(other.data.target.x) != rows(target) and rows(other.data.source.x) == rows(source)


def test_wine_quality_leads_from_poor_to_good(data_folder):
    task = wine_quality(n_target=50, folder=str(data_folder / "wine"))
    alcohol = COLUMNS.index("alcohol")
    assert task.test.x[:, alcohol].mean() > task.data.source.x[:, alcohol].mean() + 1


# Images


@pytest.fixture
def images(data_folder, monkeypatch):
    monkeypatch.setattr(digits, "STEPS", 150)
    monkeypatch.setattr(digits, "_trained", {})
    return str(data_folder)


@pytest.mark.parametrize(("make", "n_source", "n_test"), [(mnist_usps, 10_000, 1_950), (mnist_tilt, 4_000, 940)])
def test_images_come_in_one_size_and_none_is_in_two_parts(make, n_source, n_test, images):
    task = make(n_target=50, seed=1, folder=images)
    source, target, test = task.data.source, task.data.target, task.test
    assert source.x.shape == (n_source, 1, 16, 16) and source.y is None
    assert (target.n, test.n) == (50, n_test)
    assert source.x.min() >= -1 and source.x.max() <= 1
    assert not rows(target.x) & rows(test.x) and not rows(target.x) & rows(source.x)
    labelled = make(n_target=50, seed=1, folder=images, conditional=True)
    assert labelled.data.source.y.max() == 9 and labelled.test.y is not None
    assert torch.equal(labelled.data.target.x, target.x)


def test_the_tilt_has_the_ratio_that_it_states(images):
    whole = _mnist(images, None)
    log_r = tilt_log_ratio(whole)
    r = log_r.double().softmax(0) * whole.n
    assert float((r * r.log()).mean()) == pytest.approx(0.69, abs=0.01)
    assert float(1 / (r**2).mean()) == pytest.approx(0.39, abs=0.01)
    task = mnist_tilt(n_target=50, folder=images, conditional=True)
    labels = torch.bincount(torch.cat([task.data.target.y, task.test.y]), minlength=10) / 990
    expected = torch.zeros(10).double().index_add(0, whole.y, r) / whole.n
    assert (labels - expected).abs().max() < 0.03


def test_features_tell_digits_apart_and_are_the_same_each_time(images):
    task = mnist_usps(n_target=50, folder=images, conditional=True)
    z = task.features(task.test.x)
    assert z.shape == (task.test.n, digits.WIDTH)
    digits._trained.clear()
    assert torch.equal(task.features(task.test.x), z)
    means = torch.stack([z[task.test.y == k].mean(0) for k in range(10)])
    assert float((torch.cdist(z, means).argmin(1) == task.test.y).float().mean()) > 0.7


# Electrocardiograms


def test_synthetic_records_have_statements_and_a_ratio_that_is_known_on_request(monkeypatch):
    monkeypatch.setattr(ecg, "N_TEST", 60)
    task = ecg.synthetic(20, 3, samples=128, n_source=90, known_ratio=True)
    assert task.data.source.x.shape == (90, 8, 128) and task.data.target.n == 20 and task.test.n == 60
    assert task.layout.labels == dipole.STATEMENTS and task.layout.columns == dipole.LEADS and task.config["preset"] == "overlap"
    assert task.data.log_ratio.shape == (90,) and ecg.synthetic(20, 3, samples=128, n_source=90).data.log_ratio is None
    again = ecg.synthetic(20, 3, samples=128, n_source=90, conditional=False)
    assert torch.equal(again.data.target.x, task.data.target.x) and again.data.target.y is None
    assert {name: a.shape for name, a in task.measures(task.test.x).items()} == dict.fromkeys(
        ("heart_rate", "rr_variability", "qrs_duration", "pr_interval", "qt_interval"), (60,)
    )
    assert not torch.equal(ecg.synthetic(20, 4, samples=128, n_source=90).data.target.x, task.data.target.x)
    with pytest.raises(BadPlan, match=r"unknown preset 'far'"):
        ecg.synthetic(preset="far")
    with pytest.raises(BadPlan, match="at least one second"):
        ecg.synthetic(samples=99)


def test_features_of_signals_tell_statements_apart(monkeypatch, textbook):
    monkeypatch.setattr(ecg, "N_CLASSIFIER", 400)
    monkeypatch.setattr(ecg, "N_TEST", 200)
    monkeypatch.setattr(signal_features, "LEARNING", signal_features.Recipe(batch=32, most_steps=80))
    task = ecg.synthetic(20, 0, samples=128, n_source=20)
    z = task.features(task.test.x)
    assert z.shape == (200, 128)
    means = torch.stack([z[task.test.y == k].mean(0) for k in range(9)])
    assert float((torch.cdist(z, means).argmin(1) == task.test.y).float().mean()) > 0.6
    signal_features._trained.clear()


# A user's own files


@pytest.fixture
def desk(tmp_path):
    rng = np.random.default_rng(0)
    for name, n, mean in (("source", 90, 0.0), ("target", 60, 0.5), ("test", 40, 0.5)):
        x = rng.normal(mean, size=(n, 3))
        if name == "target":
            x[40] = x[7]
        if name == "test":
            x[0] = np.loadtxt(tmp_path / "target.csv", delimiter=",", skiprows=1)[7]
        np.savetxt(tmp_path / f"{name}.csv", x, delimiter=",", header="a,b,c", comments="")
    return tmp_path


@pytest.fixture
def ward(tmp_path, textbook):
    """Two files of labelled electrocardiograms with the names of their leads and their rate."""
    u = dipole.draw(dipole.SOURCE, 60, 60)
    u = u._replace(statement=u.statement % 2)
    for seed, name in enumerate(("source", "target"), 1):
        x = dipole.render(u, seed, samples=256).numpy()
        np.savez(tmp_path / f"{name}.npz", X=x, y=u.statement.numpy(), columns=np.array(dipole.LEADS), rate=100.0)
    return tmp_path


def test_recordings_in_files_are_measured_and_classified(ward):
    given = {"n_target": 30, "source": str(ward / "source.npz"), "target": str(ward / "target.npz")}
    task = files(**given, classifiers=True)
    assert float(np.nanmedian(task.measures(task.test.x)["heart_rate"])) == pytest.approx(75, abs=12)
    assert task.downstream.names == ("0", "1") and task.downstream.real.n == 30 and task.downstream.source.n == 60
    plain = files(**given)
    assert plain.downstream is None
    told = plain.config["protocol"]
    assert (told["split"], told["rate"], told["leads"], told["test records"]) == ("by seed", 100.0, list(dipole.LEADS), 30)


def test_no_classifier_is_tuned_from_labels_of_another_kind(ward):
    with np.load(ward / "source.npz") as file:
        np.savez(ward / "statements.npz", X=file["X"], y=np.eye(2, dtype=int)[file["y"]], columns=file["columns"], rate=file["rate"])
    task = files(n_target=30, source=str(ward / "statements.npz"), target=str(ward / "target.npz"), classifiers=True)
    assert task.data.source.y.shape == (60, 2) and task.downstream.source is None


@pytest.mark.parametrize("n", [1, 4, 7])
def test_nobodys_samples_are_on_both_sides(n):
    owners, rows = tuple("aabbbcdeff"), torch.arange(10)
    few, rest = drawn(rows, owners, n, 3)
    assert len(few) == n and not {owners[row] for row in few} & {owners[row] for row in rest}
    assert len(rest) >= 10 - n - 2
    alone = drawn(rows, None, n, 3), drawn(rows, tuple("abcdefghij"), n, 3)
    assert all(torch.equal(a, b) for a, b in zip(*alone, strict=True)) and sorted(torch.cat(alone[0]).tolist()) == list(range(10))


def test_classifiers_learn_from_labelled_signals(desk):
    with pytest.raises(BadData, match=r"labelled signals .* holds samples of shape \(3,\); leave classifiers = true out"):
        files(n_target=20, source=str(desk / "source.csv"), target=str(desk / "target.csv"), classifiers=True)


@pytest.mark.parametrize("change", [{"rate": None}, {"columns": ("V1", "V2")}, {"columns": None}])
def test_what_cannot_be_measured_is_not(change):
    layout = Layout(**{"columns": ("I", "II"), "rate": 100.0, **change})
    assert measures(layout, torch.zeros(3, 2, 300)) is None
    assert measures(Layout(columns=("I", "II"), rate=100.0), torch.zeros(3, 2, 5)) is None


def test_two_files_are_a_task(desk):
    task = files(n_target=20, seed=0, source=str(desk / "source.csv"), target=str(desk / "target.csv"))
    assert (task.data.source.n, task.data.target.n, task.test.n) == (90, 20, 39)
    assert not rows(task.data.target.x) & rows(task.test.x)
    assert task.layout.columns == ("a", "b", "c")
    assert task.config["copies_dropped"] == 1
    assert rows(files(n_target=20, seed=1, source=str(desk / "source.csv"), target=str(desk / "target.csv")).data.target.x) != rows(task.data.target.x)


def test_a_test_file_gives_up_what_methods_have_seen(desk):
    given = {"source": str(desk / "source.csv"), "target": str(desk / "target.csv"), "test": str(desk / "test.csv")}
    task = files(n_target=59, seed=0, **given)
    assert (task.data.target.n, task.test.n) == (59, 39)
    assert not rows(task.data.target.x) & rows(task.test.x)


def test_too_few_samples_to_hold_any_out_are_refused(desk):
    with pytest.raises(BadData, match=r"50 samples to fit and at least 20 to hold out are needed, got 59 \(1 exact copies dropped\); lower n_target"):
        files(n_target=50, source=str(desk / "source.csv"), target=str(desk / "target.csv"))


def test_all_of_the_target_may_be_given_to_methods(desk):
    task = files(n_target=2, target=str(desk / "target.csv"), test=str(desk / "test.csv"), whole=True)
    assert (task.data.source, task.data.target.n, task.test.n) == (None, 59, 39)
    assert task.config["n_target"] == 59


def test_a_plan_without_source_data_needs_a_source_model(desk):
    def plan(**source):
        return check_plan({
            "name": "p",
            "samples": 30,
            "task": [{"name": "files", "target": str(desk / "target.csv"), "test": str(desk / "test.csv"), "n_target": [30]}],
            "source": source,
            "method": [{"name": "source"}, {"name": "finetune", "steps": 3}],
        })  # fmt: skip

    with pytest.raises(BadData, match=r'no source data to train a source model on; name a model, \[source\] path = "MODEL"'):
        run(plan(), desk / "run")
    source = dg.Net(build("mlp", (3,), dg.vp()), dg.vp(), shape=(3,))
    dg.save(source, desk / "model")
    records = run(plan(path=str(desk / "model")), desk / "run")
    assert [r["method"]["name"] for r in records] == ["source", "finetune"] and report(desk / "run").exists()


def test_every_task_is_listed_with_its_worlds():
    assert {name: list(worlds) for name, worlds in TASKS.items()} == {
        "mixtures": ["shifted", "hard"],
        "tabular": ["wine_quality", "wine_colour"],
        "digits": ["label_shift"],
        "images": ["mnist_usps", "mnist_tilt"],
        "ecg": ["synthetic", "folders", "brugada"],
        "files": ["files"],
    }
    assert all(getattr(getattr(dg.tasks, room), name) is make for room, worlds in TASKS.items() for name, make in worlds.items())


def test_points_stay_points(desk):
    task = files(n_target=20, source=str(desk / "source.csv"), target=str(desk / "target.csv"))
    assert isinstance(task.test, Points)


def test_names_of_tasks_load_no_heavy_library():
    code = "import sys, diffgraft.tasks.catalog; print(sorted({'sklearn', 'pandas', 'scipy.signal', 'scipy.io', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
