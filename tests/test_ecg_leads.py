"""Leads by name, and twelve of eight by exact algebra."""

from itertools import combinations

import numpy as np
import pytest
import torch

from diffgraft.ecg.leads import CHEST, EIGHT, EIGHT_OF_LIMBS, LIMB, SSSD, TWELVE, canonical, combination, complete, eight, einthoven, select, twelve
from diffgraft.errors import BadData

X = np.random.default_rng(0).normal(size=(3, 8, 50)).astype(np.float32)


def test_the_eight_leads_stand_where_the_paper_and_the_files_have_them():
    assert [SSSD.index(name) for name in EIGHT] == [0, 2, 3, 4, 5, 6, 7, 11]
    assert [TWELVE.index(name) for name in EIGHT] == [0, 6, 7, 8, 9, 10, 11, 5]
    assert set(SSSD) == set(TWELVE) == {*LIMB, *CHEST} and len(TWELVE) == 12


def test_names_are_known_in_any_case():
    assert [canonical(name) for name in ("AVR", "avr", "aVR", " v1 ", "ii")] == ["aVR", "aVR", "aVR", "V1", "II"]


def test_twelve_of_eight_by_the_formulas():
    x = twelve(X)
    own = dict(zip(TWELVE, x.transpose(1, 0, 2), strict=True))
    i, avf = X[:, 0], X[:, 7]
    wanted = {"I": i, "aVF": avf, "II": i / 2 + avf, "III": avf - i / 2, "aVR": -3 / 4 * i - avf / 2, "aVL": 3 / 4 * i - avf / 2}
    for name, lead in wanted.items():
        np.testing.assert_allclose(own[name], lead, atol=1e-6)
    for k, name in enumerate(CHEST, 1):
        np.testing.assert_array_equal(own[name], X[:, k])


def test_twelve_of_the_eight_that_devices_record():
    own = dict(zip(TWELVE, twelve(X, EIGHT_OF_LIMBS).transpose(1, 0, 2), strict=True))
    i, ii = X[:, 0], X[:, 1]
    for name, lead in {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}.items():
        np.testing.assert_allclose(own[name], lead, atol=1e-6)


@pytest.mark.parametrize("pair", list(combinations(LIMB, 2)))
def test_any_two_limb_leads_give_all_others(pair):
    x = twelve(X.astype(np.float64))
    names = (*CHEST, *pair)
    np.testing.assert_allclose(complete(select(x, TWELVE, names), names), x, atol=1e-12)


def test_arrays_and_tensors_agree_and_orders_too():
    x = twelve(X, order=SSSD)
    assert x.dtype == np.float32 and x.shape == (3, 12, 50)
    assert torch.allclose(twelve(torch.tensor(X), order=SSSD), torch.tensor(x))
    np.testing.assert_array_equal(select(x, SSSD, TWELVE), twelve(X))
    np.testing.assert_allclose(eight(x, SSSD), X, atol=1e-6)
    assert torch.equal(eight(torch.tensor(x), SSSD), torch.tensor(eight(x, SSSD)))
    np.testing.assert_array_equal(eight(x[0], SSSD), eight(x, SSSD)[0])


def test_laws_of_the_limbs_hold_and_einthoven_finds_a_wrong_order():
    x = twelve(X)
    np.testing.assert_allclose(einthoven(x), 0, atol=1e-6)
    assert einthoven(x).shape == (3, 50)
    np.testing.assert_allclose(select(x, TWELVE, ("aVR", "aVL", "aVF")).sum(1), 0, atol=1e-6)
    assert np.abs(einthoven(x, SSSD)).max() > 1
    assert torch.allclose(einthoven(torch.tensor(x)), torch.zeros(3, 50), atol=1e-6)


def test_the_combination_is_exact():
    assert (combination(("I", "aVF"), ("II", "III", "aVR", "aVL")) == [[0.5, 1], [-0.5, 1], [-0.75, -0.5], [0.75, -0.5]]).all()


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda: canonical("V7"), "unknown lead 'V7'; did you mean 'V1'|unknown lead 'V7'"),
        (lambda: select(X, EIGHT, TWELVE), "missing II, III, aVR, aVL; derive them"),
        (lambda: twelve(X[:, :7], EIGHT[:7]), "II, III, aVR, aVL, aVF are missing and no combination of I, V1"),
        (lambda: complete(X[:, :5], ("I", "II", "V1", "V2", "V3")), "V4, V5, V6 are missing"),
        (lambda: twelve(X, (*EIGHT[:7], "i")), "the lead I is there more than once"),
        (lambda: twelve(X.transpose(0, 2, 1)), r"expected signals \(..., 8 leads, samples\), got shape \(3, 50, 8\)"),
    ],
)
def test_leads_that_do_not_fit(do, says):
    with pytest.raises(BadData, match=says) as error:
        do()
    assert "\n" not in str(error.value)
