"""What `inspect` measures, against closed forms, and what it advises."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import diffgraft as dg
from diffgraft import domain
from diffgraft.data import Points
from diffgraft.domain import kernel_ratio
from diffgraft.errors import BadData
from diffgraft.overlap.advice import advise, say, significant, tables
from diffgraft.overlap.inspect import inspect
from diffgraft.overlap.repeats import repeats
from diffgraft.overlap.shifts import shifts
from diffgraft.readers import catalog
from diffgraft.roc import area, interval
from diffgraft.support import neighbour_distances


def normal(n, d, mean=0.0, seed=0):
    return mean + torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def quick(monkeypatch):
    """A classifier with fewer choices, where its quality is not the matter."""
    monkeypatch.setattr(domain, "RIDGES", (1e-2,))
    monkeypatch.setattr(domain, "BANDWIDTHS", (0.6, 1.2, 2.4))


def phi(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.fixture(scope="module")
def unit_shift():
    """N(0, 1) against N(1, 1) on a line."""
    return inspect(Points(normal(1500, 1)), Points(normal(400, 1, mean=1.0, seed=1)))


def test_auc_and_effective_sample_size_of_a_unit_shift(unit_shift):
    c = unit_shift["classifier"]
    assert c["auc"] == pytest.approx(phi(1 / math.sqrt(2)), abs=0.03)
    assert c["auc_interval"][0] < phi(1 / math.sqrt(2)) < c["auc_interval"][1]
    size = unit_shift["effective_sample_size"]
    assert size["share"] == pytest.approx(math.exp(-1), abs=0.08)  # 1 / E_p[r^2]
    assert size["points"] == pytest.approx(1500 * size["share"], abs=1)
    assert c["calibration_error"] < 0.05 and sum(count for *_, count in c["calibration"]) == 1900


def test_shifts_and_outside_of_a_unit_shift(unit_shift):
    (row,) = unit_shift["shifts"]
    assert row["mean_difference"] == pytest.approx(1, abs=0.15) and row["std_ratio"] == pytest.approx(1, abs=0.15)
    assert row["ks"] == pytest.approx(2 * phi(0.5) - 1, abs=0.06) and row["p"] < 1e-9
    # beyond 3.29 standard deviations on either side lies a thousandth of the source, and 1 % of the target
    assert unit_shift["outside"]["density"] == pytest.approx(1 - phi(2.29), abs=0.015)
    assert unit_shift["advice"] == "tgdp" and len(unit_shift["reasons"]) == 3


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_auc_is_that_of_the_laws(shift):
    report = inspect(Points(normal(900, 1)), Points(normal(300, 1, mean=shift, seed=1)))
    assert report["classifier"]["auc"] == pytest.approx(phi(shift / math.sqrt(2)), abs=0.05)


def test_one_law_speaks_for_the_source():
    report = inspect(Points(normal(700, 3)), Points(normal(60, 3, seed=1)))
    low, high = report["classifier"]["auc_interval"]
    assert low <= 0.5 <= high and significant(report) == [] and report["advice"] == "source"
    assert "No shift was found" in report["reasons"][0] and "may go unseen" in report["reasons"][0]


@pytest.mark.usefixtures("quick")
def test_disjoint_laws_speak_for_finetune():
    report = inspect(Points(normal(700, 3)), Points(normal(60, 3, mean=9.0, seed=1)))
    assert report["advice"] == "finetune" and len(report["reasons"]) >= 2
    assert report["classifier"]["auc"] == 1 and report["classifier"]["auc_interval"][0] > 0.95
    assert report["outside"]["density"] == report["outside"]["neighbours"] == 1


def test_a_shift_within_the_source_speaks_for_tgdp():
    report = inspect(Points(normal(900, 3)), Points(normal(60, 3, mean=0.5, seed=1)))
    assert report["advice"] == "tgdp" and report["effective_sample_size"]["points"] > 60


@pytest.mark.usefixtures("quick")
def test_few_points_call_for_more():
    report = inspect(Points(normal(300, 3)), Points(normal(9, 3, mean=9.0, seed=1)))
    assert report["advice"] == "more_data" and "9 target points" in report["reasons"][0]
    for n, m in ((300, 2), (2, 300), (3, 2)):  # too few to hold any out
        report = inspect(Points(normal(n, 3)), Points(normal(m, 3, seed=1)))
        assert report["advice"] == "more_data" and report["classifier"]["auc_interval"] is report["classifier"]["auc"] is None
        assert tables(report) and say(report)


@pytest.mark.parametrize(("part", "change"), [("classifier", {"auc": 0.995}), ("effective_sample_size", {"judged": 19}), ("outside", {"neighbours": 0.51})])
def test_each_condition_alone_turns_tgdp_into_finetune(unit_shift, part, change):
    advice, reasons = advise({**unit_shift, part: {**unit_shift[part], **change}})
    assert advice == "finetune" and len(reasons) == 1
    told = say({**unit_shift, "advice": advice, "reasons": reasons})
    assert any("augment=pseudo-target" in line for line in told) and not any("augment" in line for line in say(unit_shift))
    wide = {**unit_shift, "advice": advice, "reasons": reasons, "outside": {**unit_shift["outside"], "density": None}}
    assert not any("augment" in line for line in say(wide))


@pytest.mark.parametrize(("points", "advice"), [(19.0, "finetune"), (20.0, "tgdp")])
def test_a_ratio_that_rests_on_a_handful_of_points_is_of_no_use(unit_shift, points, advice):
    size = {**unit_shift["effective_sample_size"], "points": points}
    found, reasons = advise({**unit_shift, "effective_sample_size": size})
    assert found == advice
    assert any(f"{points:.0f} of 1500 points" in reason and "the 20 that are needed" in reason for reason in reasons)


def labelled(n, weights, seed, shift=0.0):
    """Three clusters of a plane as often as `weights` say."""
    y = torch.multinomial(torch.tensor(weights), n, replacement=True, generator=torch.Generator().manual_seed(seed))
    return Points(normal(n, 2, seed=seed + 100) + 6 * y[:, None] + shift, y)


@pytest.mark.usefixtures("quick")
def test_other_label_frequencies_alone_speak_for_the_source_with_the_targets_labels():
    report = inspect(labelled(700, (0.6, 0.3, 0.1), 0), labelled(90, (0.1, 0.3, 0.6), 1))
    assert report["classifier"]["auc_interval"][0] > 0.5 and report["classifier"]["sees_labels"]
    assert report["advice"] == "source" and "target's labels" in report["reasons"][0]
    within = report["within_labels"]
    assert within["auc_interval"][0] <= 0.5 <= within["auc_interval"][1]
    assert within["target_points"] == sum(report["labels"]["target"][name] for name in within["by_label"])


@pytest.mark.usefixtures("quick")
def test_a_shift_within_labels_is_no_matter_of_labels():
    report = inspect(labelled(700, (0.6, 0.3, 0.1), 0), labelled(90, (0.1, 0.3, 0.6), 1, shift=1.0))
    assert report["within_labels"]["auc_interval"][0] > 0.5 and report["advice"] != "source"


@pytest.mark.usefixtures("quick")
def test_labels_are_counted_and_new_ones_named():
    source, target = Points(normal(70, 2), torch.arange(70) % 2), Points(normal(33, 2, seed=1), torch.arange(33) % 3)
    report = inspect(source, target)
    assert report["labels"] == {"source": {"0": 35, "1": 35}, "target": {"0": 11, "1": 11, "2": 11}, "new": ["2"]}
    assert not report["classifier"]["sees_labels"] and any("source lacks: 2" in line for line in say(report))
    assert set(report["within_labels"]["by_label"]) == {"0", "1"}
    none = inspect(source, Points(target.x, torch.full((33,), -1)))
    assert none["labels"]["target"] == {"none": 33} and none["within_labels"] is None
    hot = inspect(Points(source.x, torch.eye(2)[source.y]), Points(target.x, torch.eye(2)[target.y % 2]))
    assert hot["labels"]["target"] == {"10": 22, "01": 11} and hot["within_labels"]["by_label"].keys() == {"10", "01"}


@pytest.mark.usefixtures("quick")
def test_repeats_are_found_and_named():
    a, b = normal(17, 3), normal(11, 3, seed=1)
    a[5], a[9], a[16] = a[2], a[2], a[0]
    a[4], a[7] = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([-0.0, 1.0, 2.0])
    b[3], b[10] = a[9], a[16]
    found = repeats(a, b)
    assert found["source"] == {"rows": 4, "first": [[2, 5], [4, 7], [2, 9], [0, 16]]}
    assert found["target"] == {"rows": 0, "first": []}
    assert found["across"] == {"rows": 2, "first": [[2, 3], [0, 10]]}
    said = " ".join(say(inspect(Points(a.repeat(9, 1)), Points(b))))
    assert "2 target rows stand in the source too (source row 2 is target row 3)" in said


def test_repeats_are_found_over_chunks(monkeypatch):
    monkeypatch.setattr("diffgraft.data.CHUNK", 7)
    x = normal(23, 3)
    x[20] = x[1]
    assert repeats(x, x[:5])["source"] == {"rows": 1, "first": [[1, 20]]} and repeats(x, x[:5])["across"]["rows"] == 5


@pytest.mark.usefixtures("quick")
def test_columns_are_called_by_their_names_and_odd_ones_named():
    x, y = normal(400, 4), normal(80, 4, seed=1)
    x[:, 1], y[:, 1] = 0.1, 0.1
    x[:, 2], y[:, 2] = x[:, 2].round().clamp(-1, 1), y[:, 2].round().clamp(-1, 1)
    y[7, 3] = 50.0
    y[:, 0] += 1
    report = inspect(Points(x), Points(y), columns=("age", "site", "grade", "mass"))
    assert report["columns"] == {"constant": {"source": ["site"], "target": ["site"]}, "discrete": {"grade": 3}}
    first = report["outside"]["extreme"][0]
    assert (first["row"], first["feature"]) == (7, "mass") and first["z"] == pytest.approx(50, rel=0.1) and first["distance"] > 5
    assert report["shifts"][0]["feature"] == "age" and report["shifts"][0]["index"] == 0 and "age" in significant(report)
    assert next(row for row in report["shifts"] if row["feature"] == "site")["mean_difference"] is None
    assert "grade takes 3 values: samples will be continuous." in "\n".join(say(report))
    with pytest.raises(BadData, match="expected 4 names, got 2"):
        inspect(Points(x), Points(y), columns=("age", "site"))
    with pytest.raises(BadData, match="one shape"):
        inspect(Points(x), Points(y[:, :3]))


def test_kolmogorov_smirnov_is_sorted_and_bounded_by_chance():
    x, y = normal(300, 9), normal(70, 9, seed=1)
    y[:, 4] += 1
    rows = shifts(x, y, [str(k) for k in range(9)])
    assert [row["ks"] for row in rows] == sorted((row["ks"] for row in rows), reverse=True) and rows[0]["feature"] == "4"
    assert rows[0]["p"] < 1e-6 < 0.001 < min(row["p"] for row in rows[1:])


def test_chance_is_shared_among_features(unit_shift):
    row = unit_shift["shifts"][0]
    assert significant({"shifts": [{**row, "p": p} for p in (0.004, 0.006, *[0.5] * 8)]}) == ["feature 0"]


@pytest.mark.usefixtures("quick")
def test_a_shift_that_no_single_feature_shows_is_found():
    x, y = normal(700, 2), normal(90, 2, seed=1)
    y[:, 1] = 0.98 * y[:, 0] + 0.2 * y[:, 1]
    report = inspect(Points(x), Points(y))
    assert significant(report) == [] and report["classifier"]["auc_interval"][0] > 0.5 and report["advice"] != "source"


@pytest.mark.usefixtures("quick")
def test_units_do_not_matter():
    x, y, units = normal(300, 2), normal(60, 2, mean=1.0, seed=1), torch.tensor([1000.0, 0.001])
    one, other = inspect(Points(x), Points(y)), inspect(Points(x * units + 5), Points(y * units + 5))
    assert one["classifier"]["auc"] == pytest.approx(other["classifier"]["auc"], abs=0.01) and one["advice"] == other["advice"]
    assert one["effective_sample_size"]["points"] == pytest.approx(other["effective_sample_size"]["points"], rel=0.05)


def test_neighbours_leave_the_point_itself_out_and_scale_by_what_is_usual():
    line = torch.arange(7.0)[:, None]  # every nearest distance is 1
    torch.testing.assert_close(neighbour_distances(line, torch.tensor([[3.0], [3.4], [8.5]])), torch.tensor([0.0, 0.4, 2.5]))


@pytest.mark.usefixtures("quick")
def test_images_are_compared_by_channel_and_seen_through_components():
    digits = load_digits()
    x, y = torch.tensor(digits.images, dtype=torch.float32)[:, None], torch.tensor(digits.target)
    same = inspect(Points(x[:1500]), Points(x[1500:]))
    assert {row["feature"] for row in same["shifts"]} == {"channel 0 mean", "channel 0 contrast"}
    assert same["outside"]["density"] is None and same["outside"]["neighbours"] < 0.05
    assert same["columns"] == {"constant": {"source": [], "target": []}, "discrete": {}}
    far = inspect(Points(x[:900], y[:900]), Points(16 - x[900:960], y[900:960]))
    assert far["advice"] == "finetune" and far["sizes"]["shape"] == [1, 8, 8]
    assert far["outside"]["extreme"][0]["feature"].startswith("channel 0 at ")


def test_offsets_of_leads_are_seen(data_folder):
    """Brugada-HUCA has offsets and wander that PTB-XL has not: any lead's mean tells them apart, principal components alone do not."""
    source, target = (catalog.read(data_folder / name, name).points for name in ("ptbxl", "brugada"))
    report = inspect(Points(source.x), Points(target.x))
    assert report["classifier"]["auc"] > 0.97
    assert report["shifts"][0]["ks"] > 0.5 and report["shifts"][0]["std_ratio"] > 4


@pytest.mark.usefixtures("quick")
def test_the_classifier_sees_the_features_that_are_given():
    x, y = normal(500, 3), normal(90, 3, seed=1)
    y[:, 2] += 9
    blind = inspect(Points(x), Points(y), features=lambda z: z[:, :2])
    assert blind["classifier"]["auc_interval"][0] <= 0.5 and blind["outside"]["neighbours"] == 0


@pytest.mark.slow
def test_the_interval_holds_a_half_for_two_draws_of_one_law():
    held = 0
    for k in range(40):
        pair = [Points(normal(n, 2, seed=1000 * n + k)) for n in (90, 25)]
        low, high = kernel_ratio(*pair, k).notes["auc_interval"]
        held += low <= 0.5 <= high
    assert held >= 34


def test_the_interval_inverts_its_test():
    m, n = 130, 17
    null = math.sqrt((m + n + 1) / (12 * m * n))  # of the rank sum
    low, high = interval(0.5, [(m, n)])
    # the end rejects 1/2 no more than chance: an area at 1/2 + 1.96 null has 1/2 as its lower end
    assert interval(0.5 + 1.959964 * null, [(m, n)])[0] == pytest.approx(0.5, abs=1e-9)
    assert low == pytest.approx(1 - high) and interval(1.0, [(m, n)])[1] == 1 and 0.8 < interval(1.0, [(m, n)])[0] < 1
    assert interval(0.0, [(m, n)])[0] == 0
    wider = interval(0.5, [(m, n)], folds=5)
    assert wider[0] < low and interval(0.7, [(m, n)] * 4) == pytest.approx(interval(0.7, [(4 * m, 4 * n)]), abs=0.01)


def test_area_counts_pairs():
    score, is_target = np.array([1.0, 2.0, 2.0, 3.0, 0.0]), np.array([False, False, True, True, True])
    assert area(is_target, score) == pytest.approx((1 + 0.5 + 2 + 0) / 6)


@pytest.mark.usefixtures("quick")
def test_a_memory_mapped_source_is_read_as_it_is(tmp_path):
    x = normal(1200, 3).numpy()
    np.save(tmp_path / "x.npy", x)
    mapped = torch.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="c"))
    target = Points(normal(40, 3, mean=0.5, seed=1))
    assert inspect(Points(mapped), target) == inspect(Points(torch.from_numpy(x)), target)


@pytest.mark.usefixtures("leaves_rng_alone", "quick")
def test_a_report_is_json_and_follows_from_the_seed(monkeypatch):
    monkeypatch.setattr("diffgraft.overlap.inspect.ROWS", {"source": 200, "target": 60})
    monkeypatch.setattr("diffgraft.overlap.inspect.LEAST_ROWS", 10)
    source, target = Points(normal(500, 2)), Points(normal(90, 2, mean=0.7, seed=1))
    report = dg.inspect(source, target, seed=3)
    assert report == json.loads(json.dumps(report, allow_nan=False))
    assert report == inspect(source, target, seed=3)
    assert report["shifts"] != inspect(source, target, seed=4)["shifts"]
    assert report["sizes"]["judged"] == {"source": 200, "target": 60} and report["effective_sample_size"]["of"] == 200
    assert report["effective_sample_size"]["points"] == pytest.approx(500 * report["effective_sample_size"]["share"], abs=0.1)
    lines = tables(report)
    assert max(map(len, lines)) < 120 and any("KS" in line for line in lines)


def test_labels_and_channels_by_name():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 2, 16, generator=g), torch.randn(40, 2, 16, generator=g)
    rows = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]])
    report = inspect(Points(x, rows.repeat(20, 1)), Points(y, torch.full((40,), 3)), columns=("II", "V1"), labels=("NORM", "SR", "PVC", "Brugada"))
    assert report["labels"]["source"] == {"no statement": 20, "NORM": 20, "NORM + SR": 20} and report["labels"]["new"] == ["Brugada"]
    assert {row["feature"] for row in report["shifts"]} == {"II mean", "V1 mean", "II contrast", "V1 contrast"}
    assert "NORM + SR  " in "\n".join(tables(report))


def test_patients_are_no_domain():
    g = torch.Generator().manual_seed(0)
    people = torch.randn(12, 8, generator=g).repeat_interleave(10, 0) + 0.05 * torch.randn(120, 8, generator=g)
    source, target, owners = Points(torch.randn(400, 8, generator=g)), Points(people), [str(k // 10) for k in range(120)]
    blind, told = (inspect(source, target, owners=whose)["classifier"]["auc"] for whose in (None, owners))
    assert told < 0.65 < 0.8 < blind


def test_statements_are_new_one_by_one():
    x = torch.randn(60, 2, 16, generator=torch.Generator().manual_seed(0))
    source, target = torch.eye(4)[torch.arange(60) % 2], torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]).repeat(20, 1)
    names = ("NORM", "SR", "PVC", "AFIB")
    assert inspect(Points(x, source), Points(x + 0.1, target), labels=names)["labels"]["new"] == ["AFIB"]
    both = inspect(Points(x, source), Points(x + 0.1, target[:, :2].repeat(1, 2) * torch.tensor([1, 1, 0, 0])))
    assert both["labels"]["new"] == [] and both["classifier"]["sees_labels"]
    assert inspect(Points(x, source), Points(x + 0.1, target))["labels"]["new"] == ["3"]
