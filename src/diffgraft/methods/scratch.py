"""No source: the source's architecture, trained on the target points alone."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from .. import rng
from ..data import Data
from ..denoise import Denoiser
from ..errors import BadModel
from ..fit import Watch
from ..nets.catalog import describe
from ..pretrain import default_training, pretrain
from .start import begin, own_net, short_training


@dataclass(frozen=True)
class Scratch:
    """A new network of the source's architecture, trained on the target.

    Args:
        steps, batch_size, learning_rate: Training, as for `Finetune`.
        held_out: Share of the target points that only early stopping sees; 0 trains on all of them for all steps.
    """

    steps: int = 1500
    batch_size: int | None = None
    learning_rate: float = 2e-3
    held_out: float = 0.2

    def fit(
        self, source: Denoiser, data: Data, generator: torch.Generator | None = None, *, watch: Watch | None = None, folder: Path | None = None
    ) -> Denoiser:
        """Train anew on the target points; see `Method.fit`.

        Raises:
            BadModel: The source's network is one of the user's own, of which no new one can be made.
        """
        start = begin(source, data, generator, self.held_out, new_labels=True, led=False)
        like = own_net(start.source, "scratch")
        net = describe(like.module)
        if net is None:
            raise BadModel(
                "scratch builds the source's architecture anew, which works for this package's nets; pretrain your own network on the target instead"
            )
        name, settings = str(net.pop("net")), {key: value for key, value in net.items() if key not in ("shape", "n_classes", "adapter")}
        training = short_training(start.train, self.steps, self.batch_size, self.learning_rate)
        training = replace(training, balanced=default_training(tuple(start.train.x.shape[1:])).balanced)
        model = pretrain(
            data.target,
            rng.split(start.seed, "scratch"),
            net=name,
            settings=settings,
            predicts=like.predicts,
            training=training,
            schedule=source.schedule,
            transform=source.transform,
            n_classes=start.source.n_classes,
            held_out=self.held_out,
            flip=data.flip,
            device=next(start.source.parameters()).device,
            watch=watch,
            folder=folder,
        )
        return start.finish(model.requires_grad_(False))
