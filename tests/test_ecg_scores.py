"""Scores of classifiers of recordings, against their definitions and scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics import fbeta_score, roc_auc_score

from diffgraft.ecg.scores import decide, f_beta, g_beta, interval, macro_auc, thresholds
from diffgraft.errors import BadData

RNG = np.random.default_rng(0)
Y = (RNG.random((80, 4)) < 0.4).astype(int)
Y[0], Y[1] = [1, 1, 0, 0], [0, 0, 0, 0]
P = np.clip(0.5 * Y + 0.6 * RNG.random(Y.shape), 0, 1)
SAID = (P > 0.5).astype(int)


def by_hand(beta, g):
    """The published loops, over classes and records."""
    scores = []
    for k in range(Y.shape[1]):
        tp = fp = fn = 0.0
        for true, said in zip(Y, SAID, strict=True):
            w = 1 / max(true.sum(), 1)
            tp += w * (true[k] and said[k])
            fp += w * (not true[k] and said[k])
            fn += w * (true[k] and not said[k])
        scores.append(tp / (tp + fp + beta * fn) if g else (1 + beta**2) * tp / ((1 + beta**2) * tp + fp + beta**2 * fn))
    return np.mean(scores)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_f_and_g_are_their_definitions(beta):
    assert f_beta(Y, SAID, beta) == pytest.approx(by_hand(beta, g=False))
    assert g_beta(Y, SAID, beta) == pytest.approx(by_hand(beta, g=True))


def test_f_is_that_of_scikit_learn_with_weights():
    weight = 1 / np.maximum(Y.sum(1), 1)
    classes = [fbeta_score(Y[:, k], SAID[:, k], beta=2, sample_weight=weight) for k in range(4)]
    assert f_beta(Y, SAID) == pytest.approx(np.mean(classes))


def test_perfect_predictions_score_one_and_a_class_of_nobody_is_left_out():
    assert f_beta(Y, Y) == g_beta(Y, Y) == 1
    wide = np.concatenate([Y, np.zeros((80, 1), int)], 1)
    assert f_beta(wide, wide) == 1
    with pytest.raises(BadData, match="none is predicted"):
        g_beta(0 * Y, 0 * Y)


def test_areas_are_averaged_over_classes():
    assert macro_auc(Y, P) == pytest.approx(np.mean([roc_auc_score(Y[:, k], P[:, k]) for k in range(4)]))
    one_sided = Y.copy()
    one_sided[:, 2] = 0
    with pytest.raises(BadData, match=r"only one kind for columns \[2\]"):
        macro_auc(one_sided, P)


def test_thresholds_are_the_first_best_of_each_class():
    at = thresholds(Y, P)
    for k in range(4):
        scores = []
        for t in np.linspace(0, 1, 100):
            said = P[:, k] > t
            tp, fp, fn = (said & (Y[:, k] > 0)).sum(), (said & (Y[:, k] == 0)).sum(), (~said & (Y[:, k] > 0)).sum()
            scores.append(tp / max(tp + fp + 2 * fn, 1))
        assert at[k] == np.linspace(0, 1, 100)[int(np.argmax(scores))]


def test_a_class_that_no_training_record_has_is_said_of_no_record():
    y, p = Y.copy(), P.copy()
    y[:, 2] = 0
    at = thresholds(y, p)
    assert at[2] == 1 and (at[[0, 1, 3]] == thresholds(Y, P)[[0, 1, 3]]).all()
    sure = p[p.argmax(1) != 2]
    assert not decide(sure, at)[:, 2].any()


def test_a_record_below_all_thresholds_gets_its_likeliest_statement():
    assert decide(np.array([[0.1, 0.3, 0.2], [0.9, 0.1, 0.8]]), np.array([0.5, 0.5, 0.5])).tolist() == [[0, 1, 0], [1, 0, 1]]


def test_intervals_hold_the_score_and_repeat():
    low, high = interval(macro_auc, Y, P)
    assert low < macro_auc(Y, P) < high and (low, high) == interval(macro_auc, Y, P) != interval(macro_auc, Y, P, seed=1)
    rare = np.concatenate([np.eye(2, dtype=int)[np.zeros(40, int)], np.eye(2, dtype=int)[[1]]])
    rare[:, 1] = 0
    with pytest.raises(BadData, match="too few for 2 classes"):
        interval(macro_auc, rare, rare.astype(float))


def test_labels_and_predictions_belong_together():
    with pytest.raises(BadData, match=r"one shape \(n, classes\), got \(80, 4\) and \(80, 3\)"):
        f_beta(Y, SAID[:, :3])
