r"""TIW-DSM: the source network, trained on source points that a time-dependent ratio weighs and corrects.

$L = E_p[\,h(x_t, t)\, |s_\theta(x_t) - \nabla \log p(x_t | x_0) - \nabla \log h(x_t, t)|^2\,]$, $h = q_t / p_t$ from a time-dependent domain
classifier. The correction leads each source point's score to the target's, and the weight, near one where the noise is large,
lacks the few huge values of a clean ratio.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import rng
from ..data import Data, Points
from ..denoise import Denoiser, Net, noised
from ..draw import Draw
from ..fit import Watch, follow, train
from ..guide import ratio_shift
from ..pretrain import LABEL_DROPOUT
from ..ratio import LogRatio
from ..shapes import sum_features
from .classify import new_ratio, time_classifier
from .start import begin, own_net, short_training, source_pool

LARGEST = 5.0
"""Largest log h that a point is weighed by."""


@dataclass(frozen=True)
class TimeRatioWeighted:
    """A fine-tune on weighed and corrected source points.

    Args:
        steps, batch_size, learning_rate: Training of the network.
        classifier_steps: Training of the time-dependent classifier.
        width, depth: The classifier's size.
        held_out: Share of the target points that only early stopping sees, of both.

    Reference:
        Kim, Na, Park, Jang, Kang, Moon, Training Unbiased Diffusion Models From Biased Dataset, 2024, arXiv 2403.01189, eq. 11.
    """

    steps: int = 1000
    batch_size: int | None = None
    learning_rate: float = 1e-3
    classifier_steps: int = 1500
    width: int | None = None
    depth: int | None = None
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train the classifier, then the network; see `Method.fit`."""
        start = begin(source, data, generator, self.held_out)
        pool = source_pool(start, data)
        log_h = new_ratio(start.source, start.train, rng.split(start.seed, "init"), width=self.width, depth=self.depth)
        training = short_training(start.train, self.classifier_steps, self.batch_size, 2e-3)
        time_classifier(log_h, pool, start.train, start.held_out, training, start.seed, watch=watch, folder=folder)
        net = own_net(start.source, "time_ratio_weighted")
        training = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        check = start.check(net)
        follow(
            train(net.module, lambda draw: weighed(net, log_h, pool, draw), training, start.seed, held_out=check, stage="finetune", folder=folder), watch, net
        )
        return start.finish(net.requires_grad_(False))


def weighed(net: Net, log_h: LogRatio, pool: Points, draw: Draw) -> Tensor:
    r"""The loss above, (b,), in terms of D: the aim is $x_0 + (\sigma_t^2 / \alpha_t) \nabla \log h$."""
    x, y = draw.rows(pool, "source")
    t, y = draw.times(net.schedule), draw.drop(y, LABEL_DROPOUT)
    x_t = noised(net.schedule, x, t, draw.noise(x))
    with torch.no_grad():
        aim = x + ratio_shift(log_h, net.schedule)(x_t, t, y, x)
        h = log_h(x_t, t, y).clamp(max=LARGEST).exp()
    return h * net.loss_weight(t) * sum_features((net(x_t, t, y) - aim) ** 2) / x[0].numel()
