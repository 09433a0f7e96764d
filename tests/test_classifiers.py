"""Classifiers of signals: the recipe, what samples are worth to one, and the scores that come of it."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import diffgraft as dg
from diffgraft.data import Points
from diffgraft.ecg import scores
from diffgraft.ecg.scores import decide, f_beta, g_beta, thresholds
from diffgraft.errors import BadData, BadPlan
from diffgraft.metrics.catalog import METRICS
from diffgraft.pages.classifiers import classifier_table
from diffgraft.pages.records import read_run
from diffgraft.pages.run import report, table
from diffgraft.tasks import downstream, ecg, signal_features
from diffgraft.tasks.downstream import Downstream
from diffgraft.tasks.signal_classifier import Recipe, crops, finetune, known, train

TINY = Recipe(epochs=4, tuning=3, crop=32, batch=16, most_steps=4)
NAMES = ("slow", "fast", "rare")


def signals(n, seed, length=40, classes=2):
    """Waves of two leads; the class is how fast they go."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    phase = 6.2832 * torch.rand(n, 2, 1, generator=g)
    wave = torch.sin((0.3 + 0.5 * y[:, None, None]) * torch.arange(length) + phase)
    return Points(5 + 3 * (wave + 0.1 * torch.randn(n, 2, length, generator=g)), y)


@pytest.fixture(scope="module")
def made():
    return train(signals(24, 0), 2, 0, TINY)


def test_a_small_separable_set_is_learned():
    x, y = signals(60, 1)
    p = train(signals(24, 0), 2, 0, replace(TINY, epochs=24, most_steps=24)).probabilities(x)
    assert p.shape == (60, 2) and float(p.min()) >= 0 and float(p.max()) <= 1
    assert roc_auc_score(y, p[:, 1]) > 0.9 < roc_auc_score(1 - y, p[:, 0])


def test_signals_are_standardised_by_two_numbers_of_the_training_records(made):
    x = signals(24, 0).x
    assert float(made.mean) == pytest.approx(float(x.mean())) and float(made.scale) == pytest.approx(float(x.std()))
    assert not made.net.training and made.net.stem[0].weight.dtype == torch.float32


def test_two_trainings_give_equal_weights_and_leave_the_global_generator_alone(made):
    before = torch.get_rng_state()
    again, other = (train(signals(24, 0), 2, seed, TINY).net.state_dict() for seed in (0, 1))
    assert all(torch.equal(a, again[name]) for name, a in made.net.state_dict().items())
    assert not torch.equal(other["stem.0.weight"], again["stem.0.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_indices_and_rows_are_the_same_labels_and_unknown_ones_are_left_out(made):
    x, y = signals(24, 0)
    more = torch.cat([x, x[:3] + 9])
    rows = torch.cat([torch.nn.functional.one_hot(y, 2).float(), torch.full((3, 2), -1.0)])
    for labels in (rows, torch.cat([y, torch.full((3,), -1)])):
        assert known(Points(more, labels), 2).n == 24
        assert torch.equal(train(Points(more, labels), 2, 0, TINY).net.head.out.weight, made.net.head.out.weight)


def test_crops_differ_by_epoch_and_not_by_batch():
    x = torch.arange(50.0).expand(9, 2, 50)
    rows = torch.tensor([4, 1, 7])
    first, second = (crops(x, rows, 20, seed) for seed in (0, 1))
    assert first.shape == (3, 2, 20) and not torch.equal(first, second)
    assert torch.equal(first, crops(x, rows, 20, 0)) and torch.equal(first[1:], crops(x, rows[1:], 20, 0))
    assert torch.equal(first - first[..., :1], torch.arange(20.0).expand(3, 2, 20))


def test_windows_steps_and_what_they_are_said():
    r = Recipe()
    assert (r.window(374), r.window(375), r.window(1000)) == (374, 250, 250)
    assert r.steps(50, 50) == 50 and r.steps(300, 50) == 100 and r.steps(1050, 50) == r.most_steps
    with pytest.raises(BadPlan, match="unknown aggregate 'maximum'; did you mean 'max'"):
        Recipe(aggregate="maximum")


@pytest.mark.parametrize("aggregate", ["max", "mean"])
def test_probabilities_are_those_of_windows_together(made, aggregate):
    long = signals(5, 3, length=90).x
    whole = train(signals(24, 0), 2, 0, Recipe(crop=32, batch=16, most_steps=1, aggregate=aggregate))
    parts = torch.stack([whole.net((long[..., k : k + 32] - whole.mean) / whole.scale).sigmoid() for k in (0, 16, 32, 48)])  # the rest fills no window
    torch.testing.assert_close(whole.probabilities(long), parts.amax(0) if aggregate == "max" else parts.mean(0))


def test_features_through_a_sigmoid_are_those_of_each_window():
    long = signals(5, 3, length=90).x
    whole = train(signals(24, 0), 2, 0, Recipe(crop=32, batch=16, most_steps=1))
    parts = torch.stack([whole.net.embed((long[..., k : k + 32] - whole.mean) / whole.scale) for k in (0, 16, 32, 48)])
    torch.testing.assert_close(whole.features(long), parts.mean(0))
    torch.testing.assert_close(whole.features(long, sigmoid=True), parts.sigmoid().mean(0))


def test_tuning_begins_the_output_anew_and_leaves_the_stem_nearly_alone(made):
    kept = {name: a.clone() for name, a in made.net.state_dict().items()}
    tuned = finetune(made, signals(24, 5, classes=3), 3, 0)
    assert all(torch.equal(a, kept[name]) for name, a in made.net.state_dict().items())

    def moved(name):
        return float((tuned.net.state_dict()[name] - kept[name]).norm() / kept[name].norm())

    assert 0 < moved("stem.0.weight") < 1e-3 < moved("head.embed.weight")
    assert tuned.net.head.out.weight.shape == (3, 128) and tuned.net.config["n_out"] == 3
    assert (tuned.mean, tuned.scale) == (made.mean, made.scale)
    again = finetune(made, signals(24, 5, classes=3), 3, 0)
    assert torch.equal(again.net.head.out.weight, tuned.net.head.out.weight)


def test_labels_that_cannot_be_learned_end_in_one_line():
    x, y = signals(6, 0)
    with pytest.raises(BadData, match="two labelled records or more"):
        train(Points(x), 2, 0, TINY)
    with pytest.raises(BadData, match="labels must be of 2 classes, got 3"):
        train(Points(x, y + 1), 2, 0, TINY)


# What samples are worth


def worth(**settings):
    given = {"real": signals(16, 0), "test": signals(40, 1), "names": NAMES[:2], "recipe": TINY, **settings}
    return Downstream(**given)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(scores, "RESAMPLES", 8)


@pytest.fixture
def counted(monkeypatch):
    """Numbers of records of each training from scratch."""
    seen = []

    def counting(records, *rest):
        seen.append(records.n)
        return train(records, *rest)

    monkeypatch.setattr(downstream, "train", counting)
    monkeypatch.setattr(downstream, "_kept", {})
    return seen


def test_scores_are_those_of_a_classifier_of_real_and_synthetic_records():
    task, samples = worth(), signals(20, 7)
    records = Points(torch.cat([task.real.x, samples.x]), torch.cat([task.real.y, torch.eye(2)[samples.y]]))
    trained = train(records, 2, 0, TINY)
    p, y = trained.probabilities(task.test.x).numpy(), task.test.y.numpy()
    at = thresholds(records.y.numpy(), trained.probabilities(records.x).numpy())
    found = task.scores(samples)
    assert found["auc"]["value"] == pytest.approx(np.mean([roc_auc_score(y[:, k], p[:, k]) for k in range(2)]))
    assert found["f2"]["value"] == f_beta(y, decide(p, at)) and found["g2"]["value"] == g_beta(y, decide(p, at))
    assert all(s["low"] <= s["value"] <= s["high"] for s in found.values())
    assert task.scores(samples) == found


def test_references_are_trained_once_in_a_process(counted):
    task = worth(source=signals(30, 2), more=lambda n: signals(n, 3))
    found = task.references(12)
    assert list(found) == ["real records alone", "fine-tuned classifier", "more real records"] and counted == [16, 30, 28]
    again = worth(source=signals(30, 2), more=lambda n: signals(n, 3))
    assert again.references(12) == found and again.report(12)["references"] == found and len(counted) == 3
    assert again.references(14)["real records alone"] == found["real records alone"] and counted[3:] == [30]
    assert list(worth().references(12)) == ["real records alone"] and len(counted) == 5  # without the source it is another task


def test_the_protocol_says_what_was_done(counted):
    protocol = worth(source=signals(30, 2), more=lambda n: signals(min(n, 5), 3)).report(12)["protocol"]
    assert {k: protocol[k] for k in ("real", "synthetic", "test", "steps", "batch", "crop", "aggregate", "left_out")} == {
        "real": 16, "synthetic": 12, "test": 40, "steps": 4, "batch": 16, "crop": 40, "aggregate": "max", "left_out": [],
    }  # fmt: skip
    assert protocol["trained"] == {
        "real records alone": {"records": 16, "steps": 4},
        "fine-tuned classifier": {"records": 46, "steps": 10},
        "more real records": {"records": 21, "steps": 4},
    }
    assert worth().shorter(3).recipe.most_steps == 1


def test_a_statement_that_no_test_record_has_is_left_out_by_name(counted):
    task = worth(real=signals(16, 0, classes=3), names=NAMES)
    found = task.scores(signals(6, 4, classes=3))
    assert task.report(6)["protocol"]["left_out"] == ["rare"] and all(math.isfinite(s["value"]) for s in found.values())
    with pytest.raises(BadData, match="some test records have and others lack, got none"):
        worth(test=Points(signals(4, 0).x, torch.zeros(4, dtype=torch.int64)), names=NAMES[:1], real=Points(signals(4, 0).x, torch.zeros(4, dtype=torch.int64)))


def test_rare_statements_have_scores_and_no_interval():
    y = torch.zeros(40, 12)
    y[torch.arange(12), torch.arange(12)] = 1
    p = torch.rand(40, 12, generator=torch.Generator().manual_seed(0)).numpy()
    assert all(map(math.isnan, downstream._interval(lambda y, p: 1.0, y.numpy(), p)))


class Fixed:
    """Known scores, and how often they were asked for."""

    asked = 0

    def scores(self, samples):
        self.asked += 1
        return {name: {"value": v, "low": v - 0.1, "high": v + 0.1} for name, v in (("auc", 0.8), ("f2", 0.7), ("g2", 0.5))}

    def references(self, n):
        return {"more real records": {name: {"value": 0.9, "low": 0.8, "high": 1.0} for name in ("auc", "f2", "g2")}} if n == 30 else {}


def test_metrics_hand_over_scores_their_interval_and_the_ceiling():
    known, x = Fixed(), torch.randn(30, 3)
    found = dg.evaluate(x, torch.randn(40, 3), y=torch.zeros(30, dtype=torch.int64), downstream=known)
    assert found["downstream_auc"] == {"value": 0.8, "floor": 0.9, "n": 30, "low": 0.7000000000000001, "high": 0.9}
    assert found["downstream_f2"]["value"] == 0.7 and found["downstream_g2"]["value"] == 0.5 and known.asked == 1
    other = dg.evaluate(x[:20], torch.randn(40, 3), y=torch.zeros(20, dtype=torch.int64), downstream=known, metrics=["downstream_g2"])
    assert math.isnan(other["downstream_g2"]["floor"])


def test_metrics_of_a_classifier_need_labels():
    x, reference = torch.randn(30, 3), torch.randn(40, 3)
    assert not [name for name in dg.evaluate(x, reference, downstream=Fixed()) if METRICS[name].kind == "downstream"]
    with pytest.raises(BadData, match=r"downstream_auc needs labels of the samples, got none; pass y="):
        dg.evaluate(x, reference, downstream=Fixed(), metrics=["downstream_auc"])
    with pytest.raises(BadData, match=r"downstream_auc needs records for a classifier; pass downstream="):
        dg.evaluate(x, reference, metrics=["downstream_auc"])


def test_the_synthetic_task_holds_records_for_a_classifier(monkeypatch):
    monkeypatch.setattr(ecg, "N_TEST", 60)
    task = ecg.synthetic(20, 3, samples=128, n_source=90)
    held = task.downstream
    assert held.real.n == 20 and held.test.n == 60 and held.source is task.data.source and len(held.names) == 9
    pool = held.more(7)
    assert pool.x.shape == (7, 8, 128) and not torch.isin(pool.x[:, 0, 0], torch.cat([task.test.x, task.data.target.x])[:, 0, 0]).any()
    assert ecg.synthetic(20, 3, samples=128, n_source=90, conditional=False).downstream is None


# The page


def told(value, synthetic=30, left_out=()):
    """What a record says of classifiers; every score of a reference is `value` and a little."""
    names = ("real records alone", "fine-tuned classifier", "more real records")
    references = {
        name: {s: {"value": value + k / 10, "low": value + k / 10 - 0.05, "high": value + k / 10 + 0.05} for s in ("auc", "f2", "g2")}
        for k, name in enumerate(names)
    }
    protocol = {
        "real": 20, "synthetic": synthetic, "test": 99, "steps": 77, "batch": 50, "crop": 250, "aggregate": "max", "standardised_by": "two numbers",
        "thresholds": "best G2 on the training records", "bootstrap": {"of": "test records", "resamples": 100, "interval": [0.05, 0.95]},
        "left_out": list(left_out), "trained": {name: {"records": 20 + k, "steps": 10 + k} for k, name in enumerate(names)},
    }  # fmt: skip
    return {"protocol": protocol, "references": references}


def write_run(folder, seeds):
    records = [
        {
            "schema": 1, "id": f"ecg-n20-{m}-s{s}", "task": "ecg", "n_target": 20, "method": {"name": m}, "seed": s,
            "metrics": {f"downstream_{k}": {"value": v + s / 100, "floor": 0.9, "n": 30, "low": v - 0.1, "high": v + 0.1} for k in ("auc", "f2", "g2")},
            "downstream": told(0.6 + s / 100, left_out=["STE_"] if s else []),
        }
        for m, v in (("source", 0.7), ("tgdp", 0.8))
        for s in seeds
    ]  # fmt: skip
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return folder


def test_the_page_compares_classifiers_over_seeds(tmp_path):
    run = read_run(write_run(tmp_path / "run", (0, 1)))
    shown = classifier_table(run.groups[0])
    assert [row.name for row in shown.rows] == ["real records alone", "fine-tuned classifier", "real and source", "real and tgdp", "more real records"]
    assert [row.cells[0].text for row in shown.rows] == ["0.605", "0.705", "0.705", "0.805", "0.805"]
    assert all(cell.spread == "0.0071" for row in shown.rows for cell in row.cells)
    assert [row.cells[0].note for row in shown.rows] == ["0.555 to 0.655", "0.655 to 0.755", "0.600 to 0.800", "0.700 to 0.900", "0.755 to 0.855"]
    assert [row.note for row in shown.rows] == ["20 records, 10 steps", "21 records, 11 steps", "", "", "22 records, 12 steps"]
    page = report(tmp_path / "run").read_text()
    assert "<h3>Classifiers</h3>" in page and "20 real target records and 30 samples, in 77 steps of 50" in page
    assert "all test records have them or none: STE_." in page
    assert 'mean ± standard deviation over seeds 0, 1, then the mean ends of their 90 % intervals"' in page
    assert "Intervals hold 90 % of 100 bootstrap resamples" in page and "AUC of samples alone" not in page
    assert "downstream_auc" in table(tmp_path / "run")


def test_one_seed_shows_its_interval(tmp_path):
    shown = classifier_table(read_run(write_run(tmp_path / "run", (0,))).groups[0])
    assert [row.cells[2].note for row in shown.rows] == ["0.550 to 0.650", "0.650 to 0.750", "0.600 to 0.800", "0.700 to 0.900", "0.750 to 0.850"]
    assert "seed 0 with its 90 % interval" in report(tmp_path / "run").read_text()


def rewritten(folder, change):
    """A run whose records are changed, each by its id."""
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records if change(r) is not False))
    return folder


def test_a_method_with_fewer_seeds_says_so(tmp_path):
    folder = rewritten(write_run(tmp_path / "run", (0, 1)), lambda r: r["id"] != "ecg-n20-tgdp-s1")
    row = classifier_table(read_run(folder).groups[0]).rows[3]
    assert (row.note, row.cells[0].spread, row.cells[0].note) == ("1 of 2 seeds", "", "0.700 to 0.900")
    assert "over seeds 0, 1, then the mean ends of their 90 % intervals; no ± where there is one seed" in report(folder).read_text()


@pytest.mark.parametrize("unknown", [None, math.nan])
def test_an_interval_that_is_not_known_is_not_told_of(tmp_path, unknown):
    def blind(record):
        told = [*record["metrics"].values(), *(s for scores in record["downstream"]["references"].values() for s in scores.values())]
        for score in told:
            score.update(low=unknown, high=unknown)

    folder = rewritten(write_run(tmp_path / "run", (0, 1)), blind)
    assert not any(cell.note for row in classifier_table(read_run(folder).groups[0]).rows for cell in row.cells)
    page = report(folder).read_text()
    assert 'mean ± standard deviation over seeds 0, 1"' in page and "interval" not in page[page.index("<h3>Classifiers") : page.index("<h3>Samples")].lower()


def test_samples_alone_stand_beside_real_records_alone(tmp_path):
    def examined(record):
        record["metrics"]["synthetic_auc"] = {"value": 0.4, "floor": None, "n": 30, "low": 0.3, "high": 0.5}
        record["downstream"]["references"]["more real records"]["alone"] = {"value": 0.85, "low": 0.75, "high": 0.95}

    folder = rewritten(write_run(tmp_path / "run", (0,)), examined)
    shown = classifier_table(read_run(folder).groups[0])
    assert shown.columns[3].id == "synthetic_auc" and [row.cells[3].text for row in shown.rows] == ["0.600", "–", "0.400", "0.400", "0.850"]
    assert shown.rows[2].cells[3].note == "0.300 to 0.500" and shown.rows[0].cells[3] == shown.rows[0].cells[0]
    assert "learns from 30 samples and from no real record; beside it stands what real records alone are worth, and more real" in report(folder).read_text()


def test_groups_without_classifiers_have_no_such_section(tmp_path):
    record = {"id": "a-n20-tgdp-s0", "task": "a", "n_target": 20, "method": {"name": "tgdp"}, "seed": 0, "metrics": {"energy": {"value": 1.0, "floor": 0.1}}}
    (tmp_path / "records.jsonl").write_text(json.dumps(record) + "\n")
    assert classifier_table(read_run(tmp_path).groups[0]) is None and "Classifiers" not in report(tmp_path).read_text()


def test_features_of_a_loud_record_weigh_no_more_than_others(monkeypatch):
    said = torch.randn(6, 128, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1, 1, 1, 1, 300])[:, None]
    monkeypatch.setattr(signal_features, "train", lambda *told: SimpleNamespace(features=lambda x, sigmoid: said.sigmoid() if sigmoid else said))
    normed, squashed = (signal_features.signal_features(lambda: None, 9, ("a test", kind), sigmoid=kind)(said) for kind in (False, True))
    torch.testing.assert_close(normed, (said - said.mean(1, keepdim=True)) / said.std(1, correction=0, keepdim=True), rtol=1e-3, atol=1e-3)
    assert torch.equal(squashed, said.sigmoid())
    assert "mean 0" in signal_features.layer() and "sigmoid" in signal_features.layer(True)
