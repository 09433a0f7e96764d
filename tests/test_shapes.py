"""Times meet tensors in one place."""

import pytest
import torch

from diffgraft.shapes import expand, outside_inference, per_sample, shared, sum_features


@pytest.mark.parametrize("shape", [(7,), (7, 3), (7, 3, 11), (7, 3, 11, 5)])
def test_one_value_a_sample_multiplies_its_sample(shape):
    a, x = torch.arange(7.0), torch.ones(shape)
    out = expand(a, x)
    assert out.shape == (7, *(1,) * (len(shape) - 1))
    for i in range(7):
        assert ((out * x)[i] == i).all()


@pytest.mark.parametrize("shape", [(7, 7), (7, 7, 7)])
def test_a_batch_as_large_as_a_feature_axis_is_no_trap(shape):
    a, x = torch.arange(7.0), torch.ones(shape)
    assert torch.equal((expand(a, x) * x)[3], torch.full(shape[1:], 3.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [torch.float32, torch.float64])
def test_expand_takes_the_dtype_of_the_tensor(given, dtype):
    x = torch.zeros(7, 3, dtype=dtype)
    assert expand(torch.tensor(0.5, dtype=given), x).dtype == dtype
    assert expand(torch.tensor(0.5, dtype=given), x).ndim == 0
    assert expand(torch.ones(7, dtype=given), x).dtype == dtype


def test_per_sample():
    x = torch.zeros(7, 3, 11, dtype=torch.float64)
    for t in (0.25, torch.tensor(0.25), torch.full((7,), 0.25)):
        out = per_sample(t, x)
        assert out.shape == (7,)
        assert out.dtype == torch.float64
        assert (out == 0.25).all()
    with pytest.raises(RuntimeError):
        per_sample(torch.zeros(3), x)


def test_one_time_of_all_rows_is_shared():
    x = torch.zeros(7, 3)
    assert shared(per_sample(0.25, x)).tolist() == [0.25]
    assert shared(per_sample(torch.tensor(0.25), x)).tolist() == [0.25]
    t = torch.arange(7.0)
    assert torch.equal(shared(per_sample(t, x)), t)
    assert shared(torch.full((7,), 0.25)).shape == (7,)


def test_outside_inference_gives_a_tensor_that_autograd_takes():
    weight, plain = torch.ones(7, requires_grad=True), torch.ones(7)
    with torch.inference_mode():
        made_inside = torch.ones(7)
    (weight * outside_inference(made_inside)).sum().backward()
    assert torch.equal(weight.grad, plain)
    assert outside_inference(plain) is plain


def test_sum_features():
    x = torch.arange(7 * 3 * 11.0).reshape(7, 3, 11)
    assert torch.equal(sum_features(x), x.sum((1, 2)))
    assert torch.equal(sum_features(x[:, 0, 0]), x[:, 0, 0])
