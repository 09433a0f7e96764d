"""Rates, bands, windows and scales against their definitions."""

import numpy as np
import pytest
import torch

from diffgraft.data import Transform
from diffgraft.ecg.signals import band_pass, fit_scaler, mirrored, resample, windows
from diffgraft.errors import BadData


def sine(frequency, rate, seconds=10.0):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)[None].astype(np.float32)


def amplitude(x, frequency, rate):
    """Of the sine of a whole number of periods in a signal."""
    return 2 * np.abs(np.fft.rfft(x[0])[round(frequency * x.shape[-1] / rate)]) / x.shape[-1]


@pytest.mark.parametrize(("rate", "new"), [(500, 100), (250, 100), (360, 100), (257, 100), (100, 500), (1000, 128)])
@pytest.mark.parametrize("how", ["poly", "zoom"])
def test_a_slow_sine_is_the_same_at_another_rate(rate, new, how):
    x = resample(sine(3, rate), rate, new, how)
    assert x.shape == (1, 10 * new) and x.dtype == np.float32
    if how == "poly":
        inner = slice(new, -new)
        np.testing.assert_allclose(x[0, inner], sine(3, new)[0, inner], atol=0.01)


def test_what_the_new_rate_cannot_hold_is_filtered_and_zoom_folds_it():
    fast = sine(70, 500)
    assert amplitude(resample(fast, 500, 100), 30, 100) < 0.01
    folded = resample(fast, 500, 100, "zoom")
    assert np.abs(np.fft.rfft(folded[0])).argmax() / 10 == pytest.approx(30, abs=0.5) and folded.std() == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_an_offset_stays_up_to_the_ends():
    np.testing.assert_allclose(resample(np.full((2, 3, 1000), 5.0), 500, 100), 5, rtol=1e-5)


def test_the_same_rate_changes_nothing():
    x = sine(3, 100)
    assert np.array_equal(resample(x, 100, 100), x)


@pytest.mark.parametrize(("frequency", "wanted"), [(0.05, 0), (0.5, 0.5), (10, 1), (40, 0.5), (49, 0.02)])
def test_a_band_halves_the_amplitude_at_its_edges_and_shifts_nothing(frequency, wanted):
    seconds = 100
    x = sine(frequency, 100, seconds)
    y = band_pass(x, 100)
    inner = slice(2000, -2000)
    weight = (y[0, inner] * x[0, inner]).sum() / (x[0, inner] ** 2).sum()
    assert weight == pytest.approx(wanted, abs=0.02) and y.dtype == np.float32
    if wanted:
        np.testing.assert_allclose(y[0, inner], weight * x[0, inner], atol=0.02)


def test_short_signals_go_on_as_their_mirror_images():
    x = np.arange(1.0, 4.0)[None]
    assert mirrored(x, 2).tolist() == mirrored(x, 3).tolist() == [[1, 2, 3]]
    assert mirrored(x, 7).tolist() == [[2, 1, 1, 2, 3, 3, 2]]
    assert mirrored(x, 4).tolist() == [[1, 2, 3, 3]]


def test_windows_as_classifiers_take_them():
    x = np.arange(2000.0).reshape(2, 1000)
    found = windows(x, 250, 125)
    assert found.shape == (2, 7, 250)
    for k in range(7):
        np.testing.assert_array_equal(found[:, k], x[:, 125 * k : 125 * k + 250])
    assert windows(x, 300).shape == (2, 3, 300)


def test_scales_are_those_of_each_lead_or_of_all():
    x = torch.randn(20, 3, 50) * torch.tensor([1.0, 2.0, 5.0])[:, None] + 1
    lead, whole = fit_scaler(x), fit_scaler(x.numpy(), "all")
    assert isinstance(lead, Transform)
    z = lead.forward(x)
    assert torch.allclose(z.mean((0, 2)), torch.zeros(3), atol=1e-5) and torch.allclose(z.transpose(0, 1).flatten(1).std(1), torch.ones(3), atol=1e-4)
    assert float(whole.shift) == pytest.approx(float(x.mean()), abs=1e-6) and float(whole.scale) == pytest.approx(float(x.std()), rel=1e-5)
    assert torch.allclose(whole.inverse(whole.forward(x)), x, atol=1e-5)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda: resample(sine(1, 100), 0, 100), "expected sampling rates above 0 Hz, got 0 and 100"),
        (lambda: resample(sine(1, 100), 500, 100, "fft"), "unknown resampler 'fft'"),
        (lambda: band_pass(sine(1, 60), 60), "expected a band within 0 and 30 Hz, half the sampling rate, got 0.5 to 40"),
        (lambda: band_pass(np.ones((1, 12)), 100), "expected at least 22 samples to filter, got 12"),
        (lambda: mirrored(np.ones((1, 0)), 4), "expected samples to mirror"),
        (lambda: windows(np.ones((1, 3)), 4), "expected records of at least 4 samples, the window, got 3"),
        (lambda: fit_scaler(np.ones((4, 3))), "expected finite signals"),
        (lambda: fit_scaler(np.full((4, 3, 5), np.nan)), "expected finite signals"),
        (lambda: fit_scaler(np.ones((4, 3, 5)), "all"), "expected signals that vary"),
        (lambda: fit_scaler(np.ones((4, 3, 5)), "record"), "unknown scaler 'record'"),
    ],
)
def test_signals_that_do_not_fit(do, says):
    with pytest.raises(BadData, match=says) as error:
        do()
    assert "\n" not in str(error.value)
