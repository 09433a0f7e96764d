"""Quantities of electrocardiograms against the latents of rendered ones and against bumps whose width is known."""

import numpy as np
import pytest
import torch

from diffgraft.ecg import leads
from diffgraft.ecg.physiology import measure
from diffgraft.ecg.ptbxl import read_ptbxl
from diffgraft.errors import BadData
from diffgraft.tasks.dipole import LEADS, SOURCE, STATEMENTS, TIMES, draw, render

pytestmark = pytest.mark.usefixtures("textbook")
QUANTITIES = ["heart_rate", "rr_variability", "qrs_duration", "pr_interval", "qt_interval"]


def rendered(statement=None, *, n=60, samples=1000, seed=1):
    """Latents and what is measured of records, of one statement or of the source's."""
    u = draw(SOURCE, n, seed)
    u = u if statement is None else u._replace(statement=torch.full((n,), STATEMENTS.index(statement)))
    return u, measure(render(u, seed, samples=samples).numpy(), LEADS, 100.0)


def bumps(width, rate=100.0, period=0.8, seconds=10.0):
    """Lead II with a Gaussian bump a beat, as a record (1, 1, samples)."""
    at = np.arange(round(seconds * rate)) / rate
    return sum(np.exp(-0.5 * ((at - beat) / width) ** 2) for beat in np.arange(0.5, seconds, period))[None, None]


@pytest.mark.parametrize(("samples", "within"), [(1000, 1.5), (256, 4.0)])
def test_a_normal_heart_is_measured_as_it_was_made(samples, within):
    u, found = rendered("NORM", samples=samples)
    rate = u.numbers[:, 0].exp().numpy()
    assert np.median(np.abs(found["heart_rate"] - rate)) < within
    assert np.nanmedian(found["qrs_duration"]) == pytest.approx(95, abs=8)  # Q from 43 ms before R, S until 50 ms after it, at two deviations
    begin = np.nanmedian(found["qrs_duration"]) / 2000
    assert np.nanmedian(found["pr_interval"]) == pytest.approx(1000 * (-TIMES[0] + 2 * 0.022 - begin), abs=15)
    expected = 1000 * (TIMES[4] * np.sqrt(60 / rate) + 2 * 0.05 + begin)
    assert np.nanmedian(np.abs(found["qt_interval"] - expected)) < 20
    assert all(np.isfinite(found[name]).mean() > 0.9 for name in QUANTITIES if name != "rr_variability")


def test_statements_change_what_they_change_in_people():
    told = {s: {name: np.nanmedian(a) for name, a in rendered(s, n=20, samples=600)[1].items()} for s in ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB")}
    assert told["AFIB"]["rr_variability"] > 0.15 > 0.05 > told["NORM"]["rr_variability"]
    assert told["1AVB"]["pr_interval"] > 230 and told["NORM"]["pr_interval"] < 190
    assert min(told[s]["qrs_duration"] for s in ("CLBBB", "CRBBB")) > 130


@pytest.mark.parametrize("rate", [100.0, 250.0, 500.0])
def test_a_bump_is_as_wide_as_its_slope_is_steep(rate):
    width = 0.03
    found = measure(bumps(width, rate), ("II",), rate)
    # u exp(-u^2 / 2), the slope in deviations, is 0.12 of its greatest at u = 2.69
    assert found["qrs_duration"][0] == pytest.approx(2 * 2.69 * 1000 * width, abs=5)
    assert found["heart_rate"][0] == pytest.approx(75, abs=0.5) and found["rr_variability"][0] < 0.01


def test_no_unit_and_no_order_of_leads_matters():
    x = render(draw(SOURCE, 20, 4), 4, samples=600).numpy()
    found, turned = measure(x, LEADS, 100.0), measure(1000 * x[:, ::-1], LEADS[::-1], 100.0)
    for name in QUANTITIES:
        np.testing.assert_allclose(turned[name], found[name], rtol=1e-3)
    twelve = leads.twelve(x, LEADS)
    np.testing.assert_allclose(measure(twelve, leads.TWELVE, 100.0)["heart_rate"], found["heart_rate"], rtol=0.005)
    np.testing.assert_allclose(measure(leads.eight(x, LEADS), leads.EIGHT, 100.0)["pr_interval"], found["pr_interval"], rtol=0.05)


def test_einthoven_is_measured_where_all_three_leads_are_there():
    x = render(draw(SOURCE, 9, 3), 3, samples=600).numpy()
    twelve = leads.twelve(x, LEADS)
    assert "einthoven" not in measure(x, LEADS, 100.0)
    assert float(measure(twelve, leads.TWELVE, 100.0)["einthoven"].max()) < 1e-6
    twelve[:, leads.TWELVE.index("III")] += 0.25
    np.testing.assert_allclose(measure(twelve, leads.TWELVE, 100.0)["einthoven"], 0.25, rtol=1e-4)


@pytest.mark.parametrize("x", [np.zeros((3, 1, 300)), np.ones((3, 1, 90)), np.tile(bumps(0.02, seconds=1.0), (3, 1, 1))])
def test_what_cannot_be_measured_is_not_a_number(x):
    found = measure(x, ("II",), 100.0)
    assert list(found) == QUANTITIES and all(a.shape == (3,) and np.isnan(a).all() for a in found.values())


def test_noise_is_measured_without_a_word():
    found = measure(np.random.default_rng(0).normal(size=(50, 2, 1000)), ("I", "II"), 100.0)
    assert np.isfinite(found["heart_rate"]).all()


def test_what_does_not_fit_is_said():
    with pytest.raises(BadData, match="II"):
        measure(np.zeros((2, 1, 500)), ("V1",), 100.0)
    with pytest.raises(BadData, match="half the sampling rate"):
        measure(np.zeros((2, 1, 500)), ("II",), 50.0)
    with pytest.raises(BadData, match="at least"):
        measure(np.zeros((2, 1, 12)), ("II",), 100.0)


def test_real_records_have_what_their_physicians_stated(data_folder):
    if not (data_folder / "ptbxl").is_dir():
        pytest.skip(f"no excerpt of PTB-XL in {data_folder}")
    records = read_ptbxl(data_folder / "ptbxl", 100)
    told = {}
    for statement in ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "SBRAD", "STACH"):
        rows = [k for k, facts in enumerate(records.facts) if statement in (facts.statements or ())][:12]
        x = np.stack([recording.signal for recording in records.take(rows)])
        told[statement] = {name: np.nanmedian(a) for name, a in measure(x, leads.TWELVE, 100.0).items()}
    assert told["SBRAD"]["heart_rate"] < 60 < told["NORM"]["heart_rate"] < 90 < 100 < told["STACH"]["heart_rate"]
    assert told["AFIB"]["rr_variability"] > 0.12 > 0.1 > told["NORM"]["rr_variability"]
    assert told["1AVB"]["pr_interval"] > 200 > 190 > told["NORM"]["pr_interval"] > 120
    assert min(told[s]["qrs_duration"] for s in ("CLBBB", "CRBBB")) > 120 > 110 > told["NORM"]["qrs_duration"] > 70
    assert 340 < told["NORM"]["qt_interval"] < 420
    assert told["NORM"]["einthoven"] < 0.001  # rounded to a microvolt
