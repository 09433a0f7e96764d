"""What methods see: checked once, in data units; the transform leads to the model space and back."""

from dataclasses import fields

import numpy as np
import pytest
import torch

import diffgraft as dg
from diffgraft.data import Data, Points, Prior, Task, Transform, View, distinct, hash_points, labels, points, split, split_rows
from diffgraft.errors import BadData
from diffgraft.methods.start import begin


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Checks


@pytest.mark.parametrize("given", [np.ones((7, 3)), np.ones((7, 3), np.int8), torch.ones(7, 3, dtype=torch.float64), [[1.0] * 3] * 7])
def test_arrays_become_tensors(given):
    x, y = points(given, "target")
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.ones(7, 3))
    assert y is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.array([["a", "b"]] * 7), "numeric array"),
        ([[1.0, 2.0], [3.0]], "numeric array"),
        (np.ones(7), r"\(7,\).*reshape single features to \(n, 1\)"),
        (np.ones((1, 3)), "at least 2 samples, got 1"),
        (np.ones((0, 3)), "at least 2 samples, got 0"),
    ],
)
def test_what_is_no_data_is_refused_with_its_name(given, message):
    with pytest.raises(BadData, match=message) as error:
        points(given, "source")
    assert str(error.value).startswith("source data")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused_with_their_place(bad):
    x = np.ones((7, 3, 11))
    x[5, 2, 9] = bad
    with pytest.raises(BadData, match=rf"{'nan' if np.isnan(bad) else 'inf'} in row 5, column 2, 9"):
        points(x, "target")


def test_the_place_is_right_in_large_data_too():
    x = np.ones((1100, 4096), np.float32)  # checked in pieces of 1024 rows
    x[1050, 7] = np.nan
    with pytest.raises(BadData, match="row 1050, column 7"):
        points(x, "target")


def test_unsigned_labels_are_labels():
    assert labels(np.array([0, 3, 255], np.uint8), 3).tolist() == [0, 3, 255]


def test_labels_are_class_indices_or_rows():
    assert labels(np.array([0, 1, -1, 2]), 4).dtype == torch.int64
    assert labels([0.0, 1.0, 2.0], 3).tolist() == [0, 1, 2]
    rows = labels(torch.eye(4, 3).double(), 4)
    assert rows.dtype == torch.float32
    assert rows.shape == (4, 3)


@pytest.mark.parametrize("y", [[0, 1], [[[0]]] * 3, [0.5, 1, 2], [0, 1, -2], 3, ["a", "b", "c"], [[0.0, np.nan]] * 3, [0.0, np.inf, 1.0]])
def test_other_labels_are_refused(y):
    with pytest.raises(BadData, match="target labels must be"):
        labels(y, 3, "target")


def test_data_checks_both_domains():
    data = Data(source=(rand(7, 3), np.arange(7)), target=rand(5, 3))
    assert (data.source.n, data.target.n) == (7, 5)
    assert data.source.y.tolist() == list(range(7))
    assert data.target.y is None
    assert Data(target=rand(5, 3)).source is None
    with pytest.raises(BadData, match=r"one shape, got \(3,\) and \(4,\)"):
        Data(source=rand(7, 3), target=rand(5, 4))
    with pytest.raises(BadData, match="target=x"):
        Data(source=rand(7, 3))
    with pytest.raises(BadData, match="source data"):
        Data(source=rand(1, 3), target=rand(5, 3))


def test_data_cannot_be_changed_and_does_not_hold_the_test_set():
    data = Data(source=rand(7, 3), target=rand(5, 3))
    with pytest.raises(AttributeError):
        data.target = data.source
    assert {f.name for f in fields(Data)} == {"source", "target", "flip", "log_ratio", "owners"}
    assert "test" in {f.name for f in fields(Task)}


def test_take_keeps_samples_and_labels_together():
    pool = Points(rand(7, 3), torch.arange(7))
    taken = pool.take(torch.tensor([5, 0, 5]))
    assert taken.y.tolist() == [5, 0, 5]
    assert torch.equal(taken.x, pool.x[[5, 0, 5]])
    assert Points(pool.x).take(torch.tensor([1])).y is None


# Transform


def test_tables_are_standardised_feature_by_feature():
    x = rand(501, 3) * torch.tensor([1.0, 20.0, 0.3]) + torch.tensor([0.0, 5.0, -9.0])
    z = Transform.fit(x).forward(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(3))


@pytest.mark.parametrize("shape", [(3, 11), (3, 11, 5)])
def test_signals_and_images_are_standardised_channel_by_channel(shape):
    scale = torch.tensor([1.0, 20.0, 0.3]).reshape(-1, *(1,) * (len(shape) - 1))
    x = rand(101, *shape) * scale + 4 * scale
    transform = Transform.fit(x)
    assert transform.shift.shape == scale.shape
    z = transform.forward(x).transpose(0, 1).flatten(1)
    torch.testing.assert_close(z.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(1), torch.ones(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(3,), (3, 11), (3, 11, 5)])
def test_inverse_undoes_forward(shape):
    x = 5 * rand(7, *shape) + 2
    for transform in (Transform.fit(x), Transform.identity()):
        torch.testing.assert_close(transform.inverse(transform.forward(x)), x)
        assert transform.forward(x.double()).dtype == torch.float64
    assert torch.equal(Transform.identity().forward(x), x)


@pytest.mark.parametrize("constant", [5.0, 0.1, 1e9])
def test_a_constant_feature_is_0_in_model_space_and_comes_back_exactly(constant):
    x = torch.cat([rand(7, 2), torch.full((7, 1), constant)], 1)
    transform = Transform.fit(x)
    assert torch.equal(transform.forward(x)[:, 2], torch.zeros(7))
    assert torch.equal(transform.inverse(rand(5, 3))[:, 2], torch.full((5,), constant))
    assert transform.log_scale((3,)) == pytest.approx(float(x[:, :2].double().std(0).log().sum()), abs=1e-6)


def test_a_transform_is_fitted_in_chunks_as_on_the_whole(monkeypatch):
    x = 3 + rand(11, 2, 7)
    whole = Transform.fit(x)
    monkeypatch.setattr("diffgraft.data.CHUNK", 30)
    parts = Transform.fit(x)
    torch.testing.assert_close(parts.shift, whole.shift)
    torch.testing.assert_close(parts.scale, whole.scale)
    torch.testing.assert_close(whole.scale[:, 0], x.double().std((0, 2)).float())


def test_what_is_not_finite_is_named_in_whichever_chunk_it_is(monkeypatch):
    monkeypatch.setattr("diffgraft.data.CHUNK", 6)
    x = rand(7, 3)
    x[5, 1] = float("nan")
    with pytest.raises(BadData, match="nan in row 5, column 1"):
        points(x, "source")


def test_a_view_gives_what_the_transformed_pool_would():
    pool, rows = Points(5 + rand(11, 3), torch.arange(11)), torch.tensor([7, 2, 9, 0])
    transform = Transform.fit(pool.x)
    view, index = View(pool, rows, transform), torch.tensor([3, 1, 1])
    x, y = view.take(index)
    assert view.n == 4
    assert torch.equal(x, transform.forward(pool.x)[rows[index]])
    assert torch.equal(y, rows[index])


def test_the_hash_of_a_pool_does_not_depend_on_chunks_but_on_every_number(monkeypatch):
    pool = Points(rand(7, 3), torch.arange(7))
    whole = hash_points(pool)
    monkeypatch.setattr("diffgraft.data.CHUNK", 4)
    assert hash_points(pool) == whole
    pool.x[6, 2] += 1
    assert hash_points(pool) != whole


def test_copies_are_dropped_and_the_order_kept():
    x = torch.tensor([[3.0, 1], [2, 2], [3, 1], [0, 5], [2, 2]])
    assert distinct(x).tolist() == [0, 1, 3]


@pytest.mark.parametrize("shape", [(3,), (3, 11)])
def test_log_scale_is_the_log_determinant_of_inverse(shape):
    transform = Transform.fit(5 * rand(7, *shape))
    jacobian = torch.autograd.functional.jacobian(lambda z: transform.inverse(z.reshape(shape)).flatten(), torch.zeros(shape).flatten().double())
    assert transform.log_scale(shape) == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), abs=1e-6)


# Labels to sample


def test_a_prior_counts_labels():
    prior = Prior.fit(torch.tensor([2, 0, 2, 5, 2, 0]))
    assert prior.values.tolist() == [0, 2, 5]
    torch.testing.assert_close(prior.probs, torch.tensor([2, 3, 1]) / 6)
    assert Prior.fit(None) is None
    rows = Prior.fit(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]]))
    assert rows.values.tolist() == [[0, 1], [1, 1]]
    torch.testing.assert_close(rows.probs, torch.tensor([2, 1]) / 3)


def test_draws_follow_the_prior_and_longer_ones_extend_shorter(leaves_rng_alone):
    prior = Prior.fit(torch.tensor([2, 0, 2, 5, 2, 0]))
    y = prior.draw(6000, 3)
    shares = torch.stack([(y == value).float().mean() for value in prior.values])
    torch.testing.assert_close(shares, prior.probs, atol=0.03, rtol=0)
    assert torch.equal(prior.draw(7, 3), y[:7])
    assert not torch.equal(prior.draw(60, 4), y[:60])


def test_a_label_of_no_weight_is_never_drawn():
    prior = Prior(torch.tensor([0, 1, 2]), torch.tensor([0.0, 1.0, 0.0]))
    assert prior.draw(1001, 0).unique().tolist() == [1]


# Splits


@pytest.mark.parametrize(("n", "fraction", "held_out"), [(10, 0.2, 2), (10, 0.0, 1), (10, 1.0, 9), (2, 0.5, 1), (1003, 0.1, 100)])
def test_a_split_parts_the_pool(n, fraction, held_out, leaves_rng_alone):
    pool = Points(torch.arange(n)[:, None].float(), torch.arange(n))
    train, kept = split(pool, fraction, 7)
    assert (train.n, kept.n) == (n - held_out, held_out)
    assert sorted([*train.y.tolist(), *kept.y.tolist()]) == list(range(n))
    assert torch.equal(train.x[:, 0].long(), train.y)
    again = split(pool, fraction, 7)
    assert torch.equal(again[0].y, train.y)
    if n > 10:
        assert not torch.equal(split(pool, fraction, 8)[1].y, kept.y)


def test_root_names_are_these():
    assert (dg.Data, dg.Task, dg.Transform) == (Data, Task, Transform)


# Mirrored images


def test_a_mirrored_view_holds_each_image_twice():
    x, y = rand(4, 1, 2, 3), torch.arange(4)
    view = View(Points(x, y), torch.tensor([2, 0]), Transform.identity(), flip=True)
    assert view.n == 4
    part = view.take(torch.tensor([0, 2, 3]))
    assert torch.equal(part.x, torch.stack([x[2], x[2].flip(-1), x[0].flip(-1)])) and part.y.tolist() == [2, 2, 0]


def test_methods_learn_from_mirrored_images_and_hold_back_none():
    target, like = rand(10, 1, 4, 4), dg.Net(torch.nn.Linear(4, 4), dg.vp(), shape=(1, 4, 4))
    like.transform = Transform(torch.tensor(0.5), torch.tensor(2.0))
    plain = begin(like, Data(target=target), torch.Generator().manual_seed(0), 0.2)
    flipped = begin(like, Data(target=target, flip=True), torch.Generator().manual_seed(0), 0.2)
    assert torch.equal(flipped.held_out.x, plain.held_out.x)
    assert torch.equal(flipped.train.x, torch.cat([plain.train.x, plain.train.x.flip(-1)]))
    assert plain.owners is None and flipped.owners[:8] == flipped.owners[8:16] and len(set(flipped.owners)) == 10


def test_methods_know_whose_each_point_is():
    target, like, owners = rand(12, 3), dg.Net(torch.nn.Linear(3, 3), dg.vp(), shape=(3,)), list("aaabbbcccddd")
    start = begin(like, Data(target=target, owners=owners), torch.Generator().manual_seed(0), 0.25)
    assert start.held_out.n == 3 and start.owners == tuple(owners[int((target == x).all(1).nonzero())] for x in start.everything.x)
    assert not set(start.owners[:9]) & set(start.owners[9:])


def test_only_images_are_mirrored():
    with pytest.raises(BadData, match=r"only images \(n, C, H, W\) are mirrored, got samples of shape \(3,\); drop --flip"):
        Data(target=rand(5, 3), flip=True)


def test_nobodys_samples_are_in_both_parts():
    owners = ["ann"] * 9 + ["bo"] * 3 + ["cy"] * 2 + ["di"]
    for seed in range(8):
        rows, kept = split_rows(15, 0.2, seed, owners)
        assert sorted([*rows.tolist(), *kept.tolist()]) == list(range(15)) and 1 <= len(kept) <= 3
        assert not {owners[row] for row in rows.tolist()} & {owners[row] for row in kept.tolist()}
    rows, kept = split_rows(10, 0.1, 0, ["ann"] * 7 + ["bo"] * 3)
    assert kept.tolist() and set(kept.tolist()) == {7, 8, 9}
    assert len(split_rows(10, 0.2, 0, ["ann"] * 10)[1]) == 2
    for sizes, held in (((1, 50, 49), 50), ((30, 2, 30, 30), 32), ((40, 40), 40)):
        owners = [str(k) for k, size in enumerate(sizes) for _ in range(size)]
        assert {len(split_rows(len(owners), 0.2, seed, owners)[1]) for seed in range(4)} == {held}
    assert dg.Data(target=torch.zeros(2, 3), owners=["a", "b"]).owners is None
    with pytest.raises(BadData, match="owners name whose each target sample is, got 1 for 2 samples"):
        dg.Data(target=torch.zeros(2, 3), owners=["a"])
