"""Where times meet tensors: the only place that knows how `t` lines up with the rank of `x`.

A time or a coefficient is a scalar tensor or has one entry per sample, shape (B,). Written into a formula with
`x` of shape (B, C, H, W) it must become (B, 1, 1, 1); left to broadcasting by hand, (B,) against (B, B) is
silently wrong. Every module calls `expand` instead.
"""

import torch
from torch import Tensor


def expand(a: Tensor, like: Tensor) -> Tensor:
    """`a` with trailing axes of size one, in the dtype of `like` and on its device.

    Args:
        a: A scalar () or one value per sample (B,).
        like: The tensor (B, *) that `a` will multiply.

    Example:
        >>> import torch
        >>> expand(torch.ones(7), torch.zeros(7, 3, 11)).shape
        torch.Size([7, 1, 1])
    """
    if a.ndim == 0:
        return a.to(like.dtype)  # a scalar on the CPU mixes with any device, without a copy
    return a.to(like).reshape(-1, *(1,) * (like.ndim - 1))


def per_sample(t: Tensor | float, like: Tensor) -> Tensor:
    """`t` as one value per row of `like`: shape (B,), its dtype, its device."""
    one = t.to(like) if isinstance(t, Tensor) else torch.full((1,), t, dtype=like.dtype, device=like.device)
    return one.expand(len(like))


def shared(t: Tensor) -> Tensor:
    """The one time of all rows as (1,), where `per_sample` spread one; `t` (B,) itself elsewhere. Saves embedding it B times."""
    return t[:1] if t.stride(0) == 0 else t


def outside_inference(a: Tensor) -> Tensor:
    """The tensor, or a copy that autograd takes where it was made in a caller's inference mode."""
    return a.clone() if a.is_inference() else a


def sum_features(x: Tensor) -> Tensor:
    """Sum over everything but the batch: (B, *) to (B,)."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x
