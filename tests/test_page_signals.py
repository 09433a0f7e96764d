"""Electrocardiograms on their paper, other signals, and the signals closest to training ones."""

import re
from dataclasses import replace

import numpy as np
import pytest

from diffgraft.ecg.leads import EIGHT_OF_LIMBS, TWELVE
from diffgraft.pages import clouds, neighbours, physiology, signals
from diffgraft.pages.clouds import Cloud, Shown
from diffgraft.pages.ecg_paper import MM, Paper
from diffgraft.pages.records import Entry, group
from diffgraft.pages.traces import Channels, trace

TENTH = 0.051
"""Coordinates are rounded to tenths."""
X, II, V1 = 10 * MM, 1, 2
"""Where the first lead of a row begins, and channels of the eight leads."""


def entry(name="tgdp", index=0):
    return Entry(name, index, {0: {"method": {"name": name}}})


def ecg(seed=0, n=7, samples=1000, columns=EIGHT_OF_LIMBS, **known):
    x = 0.2 * np.random.default_rng(seed).normal(size=(n, len(columns), samples))
    return Cloud(x.astype(np.float32), **{"columns": columns, "rate": 100.0, "unit": "mV", **known})


def shown(test, *methods, **real):
    return Shown(0, {"test": test, **real}, [(entry(f"m{k}", k), c) for k, c in enumerate(methods)], [])


def runs(d):
    """Points of each unbroken stretch of a path of M and l."""
    return [np.cumsum(np.array(re.findall(r"-?\d*\.?\d+", run), float).reshape(-1, 2), 0) for run in d.split("M")[1:]]


def lines(plot, kind="trace"):
    return [runs(d) for d in re.findall(rf'<path class="{kind}" d="([^"]*)"', str(plot))]


def words(plot, kind):
    return re.findall(rf'class="{kind}">([^<]*)</text>', str(plot))


def record(samples=1000, columns=EIGHT_OF_LIMBS, **known):
    """Paper, and a record of zeros."""
    return Paper(ecg(samples=samples, columns=columns, **known)), np.zeros((len(columns), samples), np.float32)


# lines


def test_rounding_of_a_trace_does_not_add_up():
    x = np.random.default_rng(0).normal(size=1000)
    ((points,),) = lines(trace(x, (7.0, 100.0), (0.337, 12.3), (-500, 500), "trace"))
    np.testing.assert_allclose(points, np.stack([7 + 0.337 * np.arange(1000), 100 - 12.3 * x], 1), atol=TENTH)


def test_traces_are_cut_off_at_the_ends_and_broken_where_there_is_no_number():
    x = np.array([0, 1, np.nan, np.inf, -1e9, 10.25, np.nan, 3])
    (found,) = lines(trace(x, (0, 50.0), (1, 1), (0, 100), "trace"))
    assert [run.tolist() for run in found] == [[[0, 50], [1, 49]], [[4, 100], [5, 39.8]], [[7, 47]]]
    assert lines(trace(np.full(3, np.nan), (0, 0), (1, 1), (0, 1), "trace")) == [[]]


# paper


def test_a_millivolt_is_ten_small_boxes_and_a_second_twenty_five():
    paper, x = record()
    x[II, 100], x[II, 200] = 1.0, -1.0
    plot = str(paper.record(x, "alt"))
    (strip,) = lines(plot)[-1]
    base = strip[0, 1]
    assert strip[100].tolist() == [X + 25 * MM, base - 10 * MM] and strip[200].tolist() == [X + 50 * MM, base + 10 * MM]
    fine, coarse = (re.search(rf'class="{kind}" d="M0 0v(\d+)m(\d+)-\1v', plot) for kind in ("fine", "coarse"))
    assert int(fine[2]) == MM and int(coarse[2]) == 5 * MM and int(fine[1]) % (5 * MM) == 0
    pulses = re.findall(r'class="pulse" d="M4 \d+h4v-(\d+)h(\d+)v\1h4"', plot)
    assert pulses == [("40", "20")] * 4
    assert words(plot, "scale") == ["25 mm/s, 10 mm/mV"]


@pytest.mark.parametrize(("rate", "drawn"), [(100.0, 100), (360.0, 360), (500.0, 250), (1000.0, 250)])
def test_a_second_is_as_long_at_any_rate(rate, drawn):
    paper, x = record(int(10 * rate), rate=rate)
    (strip,) = lines(paper.record(x, "alt"))[-1]
    assert len(strip) == 10 * drawn and strip[drawn, 0] == pytest.approx(X + 25 * MM, abs=TENTH)


def test_ten_seconds_are_three_rows_of_four_and_lead_two_in_full():
    paper = Paper(ecg())
    x = ecg(seed=1).x[0]
    plot = paper.record(x, "alt")
    assert words(plot, "lead") == ["I", "aVR", "V1", "V4", "II", "aVL", "V2", "V5", "III", "aVF", "V3", "V6", "II"]
    drawn = [run for (run,) in lines(plot)]
    assert [len(run) for run in drawn] == [250] * 12 + [1000] and paper.size == "paper long"
    starts = [run[0, 0] for run in drawn]
    assert starts == [X + k * 62.5 * MM for k in range(4)] * 3 + [X]
    i, ii, v1, iii, avf = x[0], x[1], x[2], drawn[8], drawn[9]
    for run, signal in ((drawn[2], v1[500:750]), (iii, (ii - i)[:250]), (avf, (ii - i / 2)[250:500]), (drawn[12], ii)):
        zero = (run[:, 1] + 40 * signal).mean()
        np.testing.assert_allclose((zero - run[:, 1]) / 40, signal, atol=2 * TENTH / 40)
    assert "III, aVR, aVL and aVF are derived" in paper.told


def test_shorter_records_are_six_rows_of_two_each_in_full():
    paper, x = record(256)
    plot = paper.record(x, "alt")
    assert words(plot, "lead") == ["I", "V1", "II", "V2", "III", "V3", "aVR", "V4", "aVL", "V5", "aVF", "V6"]
    drawn = [run for (run,) in lines(plot)]
    assert [len(run) for run in drawn] == [256] * 12 and paper.size == "paper"
    assert {run[0, 0] for run in drawn} == {X, X + 70 * MM} and str(plot).count('class="pulse"') == 6


def test_leads_without_two_of_the_limbs_have_a_row_each():
    paper, x = record(3000, columns=("V1", "avr", "V2"))
    plot = paper.record(x, "alt")
    assert words(plot, "lead") == ["V1", "aVR", "V2"] and [len(run) for (run,) in lines(plot)] == [1000] * 3
    assert "The first 10 s of 30 s" in paper.told and paper.strip == "V1"


def test_twelve_leads_in_any_order_are_found_by_name():
    paper, x = record(columns=TWELVE[::-1])
    x[TWELVE[::-1].index("V6")] = 0.5
    level = {round(run[0, 1] - run[-1, 1], 1) for (run,) in lines(paper.record(x, "alt"))}
    v6 = lines(paper.record(x, "alt"))[11][0]
    v3 = lines(paper.record(x, "alt"))[10][0]
    assert level == {0.0} and v3[0, 1] - v6[0, 1] == 5 * MM and "derived" not in paper.told


def test_standardised_signals_have_no_millivolts():
    paper, x = record(unit="")
    plot = paper.record(x, "alt")
    assert words(plot, "scale") == ["25 mm/s, 10 mm a unit"] and "mV" not in str(plot) + paper.told


def test_a_sample_that_is_no_number_or_far_off_leaves_the_sheet_as_it_is():
    paper, x = record()
    good = str(paper.record(x, "alt"))
    x[V1, 600], x[0, 0:250] = np.nan, 1e30
    bad = str(paper.record(x, "alt"))
    box = re.search('viewBox="[^"]*"', good)[0]
    assert box in bad and all(0 <= y <= 4 * 300 for found in lines(bad) for run in found for y in run[:, 1])
    assert len(lines(bad)[2]) == 2


@pytest.mark.parametrize(
    ("test", "fits"),
    [
        (ecg(), True),
        (ecg(rate=None), False),
        (ecg(columns=("I", "II", "EDA")), False),
        (ecg(columns=("I", "i", "V1")), False),
        (Cloud(np.zeros((3, 8, 50), np.float32), rate=100.0), False),
        (Cloud(np.full((3, 1, 50), np.nan, np.float32), columns=("I",), rate=100.0), False),
    ],
)
def test_paper_is_for_leads_at_a_known_rate(test, fits):
    assert Paper.fits(test) == fits
    assert isinstance(signals.drawing(shown(test)), Paper if fits else Channels)


# what is shown


def test_the_most_frequent_statements_are_shown_with_the_first_record_of_each():
    y = np.array([4, 0, 3, 3, 1, 1, 3, 2, 0, 4, 1, 3, 5, 5, 5])
    test = ecg(n=15, samples=256, y=y, labels=("NORM", "AFIB", "PAC", "<PVC>", "STD_", "STE_"))
    data = shown(test, ecg(1, 6, 256, y=np.array([1, 2, 3, 1, 0, 4])), ecg(2, 3, 256, y=np.array([3, 3, 2])))
    figures = signals.signal_figures(data)
    assert [f.title for f in figures] == [f"{name} of 15 held-out records" for name in ("<PVC>: 4", "AFIB: 3", "STD_: 2", "NORM: 2")]
    assert [[p.note for p in f.panels] for f in figures[:2]] == [["no. 3", "no. 3", "no. 1"], ["no. 5", "no. 1", "none has these statements"]]
    assert [p.title for p in figures[0].panels] == ["held-out target", "m0", "m1"] and [f.caption != "" for f in figures] == [False, False, False, True]
    assert str(figures[0].panels[0].plot) == str(Paper(test).record(test.x[2], "A signal of held-out target"))


def test_rows_of_statements_are_sets():
    y = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 1]])
    assert signals.statements(y) == [(0, 2), (), (0, 2), (1,), (), (0, 2)] and signals.statements(np.array([2, -1])) == [(2,), ()]
    data = shown(ecg(n=6, samples=256, y=y, labels=("NORM", "AFIB", "SR")), ecg(1, 6, 256, y=y[::-1]))
    assert [f.title.split(":")[0] for f in signals.signal_figures(data)] == ["NORM, SR", "no statement", "AFIB"]


def test_signals_without_labels_of_one_kind_are_shown_once():
    y = np.zeros(7, int)
    for test, samples in ((ecg(), ecg(1)), (ecg(y=y), ecg(1)), (ecg(y=y), ecg(1, y=np.eye(7))), (ecg(y=y), ecg(1, y=y + 1))):
        (figure,) = signals.signal_figures(shown(test, samples))
        assert not figure.title and [p.note for p in figure.panels] == ["no. 1", "no. 1"] and "25 mm/s" in figure.caption


def test_many_methods_get_fewer_statements():
    y = np.arange(40) % 4
    data = shown(ecg(n=40, y=y), *(ecg(k, 4, y=y[:4]) for k in range(9)))
    figures = signals.signal_figures(data)
    size = sum(len(p.plot) for f in figures for p in f.panels)
    assert 1 <= len(figures) < 4 and size < signals.BYTES and "25 mm/s" in figures[-1].caption
    assert len(signals.signal_figures(shown(ecg(n=40, y=y), ecg(1, 4, y=y[:4])))) == 4


def test_what_was_not_measured_says_so():
    real = shown(ecg(), ecg(1), target=ecg(2))
    made = replace(real, synthetic=True)
    marks = [[words(p.plot, "mark") for p in signals.signal_figures(data)[0].panels] for data in (real, made)]
    assert marks == [[[], ["SYNTHETIC"]], [["SYNTHETIC"], ["SYNTHETIC"]]]
    assert "SYNTHETIC" in signals.signal_figures(made)[0].caption and "SYNTHETIC" not in signals.signal_figures(real)[0].caption
    assert words(neighbours.neighbour_figures(made)[1].panels[0].plot, "mark") == ["SYNTHETIC"]


@pytest.mark.parametrize(("config", "synthetic"), [({"world": "synthetic"}, True), ({"world": "files"}, False), (None, False)])
def test_the_task_says_whether_records_were_measured(tmp_path, config, synthetic):
    (tmp_path / "samples").mkdir()
    np.savez(tmp_path / "samples" / "ecg-n5-s0-test.npz", X=ecg().x)
    row = {"id": "ecg-n5-source-s0", "task": "ecg", "n_target": 5, "method": {"name": "source"}, "seed": 0, "metrics": {}, "task_config": config}
    (found,) = group([row], {})
    run = type("Folder", (), {"folder": tmp_path})
    assert clouds.shown(run, found).synthetic == synthetic


def test_other_signals_have_eight_channels_over_time_or_samples():
    test = Cloud(np.random.default_rng(0).normal(size=(7, 11, 300)).astype(np.float32), rate=50.0, unit="g")
    (figure,) = signals.signal_figures(shown(test, Cloud(test.x[:3])))
    assert len(figure.panels) == 2 and all(len(lines(p.plot)) == 8 for p in figure.panels)
    assert "The first 8 of 11 channels" in figure.caption and "seconds" in figure.caption and " g;" in figure.caption
    ticks = re.findall(r'class="">([^<]*)</text>', str(figure.panels[0].plot))
    assert ticks == ["0", "2", "4", "6"] and words(figure.panels[0].plot, "lead")[0] == "channel 1"
    named = Cloud(test.x[:, :2], columns=("I", "<b>"))
    (figure,) = signals.signal_figures(shown(named))
    assert words(figure.panels[0].plot, "lead") == ["I", "&lt;b&gt;"] and "2 channels" in figure.caption and "samples" in figure.caption
    assert re.findall(r'class="">([^<]*)</text>', str(figure.panels[0].plot))[-1] == "300"


def test_channels_of_a_signal_lie_on_one_scale():
    x = np.zeros((7, 2, 100), np.float32)
    x[:, 0, 50], x[:, 1, 50] = 1.0, 3.0
    (a,), (b,) = lines(Channels(Cloud(x)).record(x[0], "alt"))
    assert (b[0, 1] - b[50, 1]) / (a[0, 1] - a[50, 1]) == pytest.approx(3, abs=0.05)


def test_signals_that_are_no_numbers_are_blank():
    none = Cloud(np.full((3, 2, 50), np.nan, np.float32))
    (figure,) = signals.signal_figures(shown(none, none))
    assert lines(figure.panels[0].plot) == [[], []]


# the closest


@pytest.mark.parametrize("kind", [Paper, Channels])
def test_the_closest_signals_lie_over_what_they_are_close_to(kind):
    known = {"samples": 256, "rate": 100.0 if kind is Paper else None}
    train, test, samples = ecg(1, 7, **known), ecg(2, 41, **known), ecg(3, 31, **known)
    samples.x[5] = train.x[6]
    data = shown(test, samples, target=train)
    figure = neighbours.neighbour_figures(data)[1]
    plot = figure.panels[0].plot
    sample, trained, held_out = (lines(plot, f"near-{part}") for part in ("sample", "train", "test"))
    assert len(sample) == len(trained) == len(held_out) == neighbours.STRIPS and float(words(plot, "lead")[0]) == 0
    assert (sample[0][0] == trained[0][0]).all() and (sample[0][0] != held_out[0][0]).any() and (sample[1][0] != trained[1][0]).any()
    assert "closest to a training signal" in figure.caption and ("lead II, 25 mm/s" if kind is Paper else "Drawn: I, on one scale") in figure.caption
    if kind is Paper:
        own = samples.x[5, II]
        np.testing.assert_allclose(sample[0][0][:, 1] - sample[0][0][0, 1], -40 * (own - own[0]), atol=2 * TENTH)


def test_long_signals_of_many_methods_show_fewer_of_the_closest():
    data = shown(ecg(1, 9), *(ecg(k, 5) for k in range(2, 14)), target=ecg(20, 5))
    panels = neighbours.neighbour_figures(data)[1].panels
    assert len(panels) == 12 and {len(lines(p.plot, "near-sample")) for p in panels} == {1}
    assert sum(len(p.plot) for p in panels) < signals.BYTES


# what is measured


def beating(rate, n=12, seconds=10, spread=0.0):
    """Records of two leads with sharp beats, so many a minute, some faster than others."""
    x = np.zeros((n, 2, 100 * seconds), np.float32)
    for k in range(n):
        at = np.arange(50, 100 * seconds - 50, round(6000 / (rate + spread * k)))
        for shift, height in ((-2, -0.2), (-1, 0.5), (0, 1.0), (1, 0.4), (2, -0.3)):
            x[k, :, at + shift] = height
    return Cloud(x, columns=("II", "V1"), rate=100.0, unit="mV")


def test_measured_quantities_are_drawn_over_those_of_held_out_records():
    data = shown(beating(60, spread=1.0), *(beating(rate) for rate in (75, 100, 120, 150)))
    figures = physiology.physiology_figures(data)
    assert [[e.name for e in f.keys] for f in figures] == [["m0", "m1", "m2"], ["m3"]] and [f.caption != "" for f in figures] == [False, True]
    assert [(p.title, p.note) for p in figures[0].panels[:2]] == [("heart rate", "beats a minute, 100 %"), ("RR variability", "deviation over mean, 100 %")]
    plot = str(figures[0].panels[0].plot)
    assert plot.count('class="filled"') == 1 and plot.count('class="step"') == 3 and "Distribution of heart rate of 3 methods" in plot
    low, high = physiology._frame([physiology.measured(c, data.test)["heart_rate"] for c in (data.test, *(c for _, c in data.methods))])
    assert low < 60 and 150 < high < 170


def test_records_that_cannot_be_measured_are_left_out_and_told_of():
    flat = beating(75)
    flat.x[4:] = 0
    panels = physiology.physiology_figures(shown(beating(60), flat))[0].panels
    assert panels[0].note == "beats a minute, 33 to 100 %" and str(panels[0].plot).count('class="step"') == 0
    lost = Cloud(np.full_like(flat.x, np.nan))
    assert physiology.physiology_figures(shown(beating(60), lost))[0].panels[0].note == "beats a minute, 0 to 100 %"


def test_at_most_so_many_records_are_measured_of_first_and_last_alike(monkeypatch):
    monkeypatch.setattr(physiology, "MOST", 6)
    slow, fast = beating(60, 10), beating(120, 10)
    both = Cloud(np.concatenate([slow.x, fast.x]))
    found = physiology.measured(both, slow)["heart_rate"]
    assert found.shape == (6,) and (found < 90).sum() == 3


@pytest.mark.parametrize("known", [{"rate": None}, {"rate": 50.0}, {"columns": ("V1", "V2")}, {"columns": ("a", "b")}, {"columns": ()}])
def test_what_is_no_electrocardiogram_is_not_measured(known):
    other = replace(beating(60), **known)
    assert physiology.physiology_figures(shown(other, other)) == []
    assert physiology.physiology_figures(shown(Cloud(other.x[:, :, :5], columns=("II", "V1"), rate=100.0), other)) == []


# files


def test_sample_files_hold_rate_and_unit(tmp_path):
    np.savez(tmp_path / "a.npz", X=ecg().x, columns=np.array(EIGHT_OF_LIMBS), rate=np.array(100.0), unit=np.array("mV"))
    cloud = clouds.load(tmp_path / "a.npz")
    assert (cloud.rate, cloud.unit, cloud.columns) == (100.0, "mV", EIGHT_OF_LIMBS) and Paper.fits(cloud)
    np.savez(tmp_path / "b.npz", X=ecg().x)
    assert (clouds.load(tmp_path / "b.npz").rate, clouds.load(tmp_path / "b.npz").unit) == (None, "")


@pytest.mark.parametrize("rate", [0.0, -100.0, np.nan, np.inf, np.array([100.0, 50.0]), "fast", np.array([])])
def test_a_rate_that_is_none_is_left_out(tmp_path, rate):
    np.savez(tmp_path / "a.npz", X=ecg().x, columns=np.array(EIGHT_OF_LIMBS), rate=rate)
    cloud = clouds.load(tmp_path / "a.npz")
    assert cloud.rate is None and "samples" in signals.signal_figures(shown(cloud))[0].caption


def test_a_pickled_rate_or_a_cut_file_is_no_sample_file(tmp_path):
    np.savez(tmp_path / "a.npz", X=ecg().x, rate=np.array([None], dtype=object))
    assert clouds.load(tmp_path / "a.npz") is None
    np.savez(tmp_path / "b.npz", X=ecg().x, rate=100.0)
    (tmp_path / "b.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:-200])
    assert clouds.load(tmp_path / "b.npz") is None
