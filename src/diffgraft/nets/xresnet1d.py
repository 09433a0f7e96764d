"""A residual network over time that reads signals: the classifier, and the eye behind Fréchet distances, of electrocardiograms."""

from collections import OrderedDict

from torch import Tensor, cat, nn
from torch.nn.functional import relu

BLOCKS, WIDTH, EXPANSION = (3, 4, 6, 3), 64, 4


def conv(n_in: int, n_out: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias and its normalisation."""
    return [nn.Conv1d(n_in, n_out, size, stride, size // 2, bias=False), nn.BatchNorm1d(n_out)]


class Bottleneck(nn.Module):
    """Narrow, convolve, widen, (B, n_in, L) to (B, 256, L / stride), beside a shortcut that pools before it projects."""

    def __init__(self, n_in: int, stride: int) -> None:
        super().__init__()
        n_out = EXPANSION * WIDTH
        inner = [*conv(n_in, WIDTH, 1), nn.ReLU(), *conv(WIDTH, WIDTH, 5, stride), nn.ReLU(), *conv(WIDTH, n_out, 1)]
        pool = [nn.AvgPool1d(2, ceil_mode=True)] if stride > 1 else []
        self.inner = nn.Sequential(*inner)
        self.shortcut = nn.Sequential(*pool, *(conv(n_in, n_out, 1) if n_in != n_out else []))

    def forward(self, x: Tensor) -> Tensor:
        return relu(self.inner(x) + self.shortcut(x))


class XResNet1d50(nn.Module):
    """Fifty layers over time, all four stages of 64 channels in their bottlenecks.

    Logits (B, n_out) of signals (B, n_leads, L) of any length; 954,505 parameters with 12 leads and nine outputs.

    Args:
        n_leads: Channels of a signal.
        n_out: Outputs, one a statement.

    References:
        Strodthoff, Wagner, Schaeffter, Samek, Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL, 2020, arXiv 2004.13701.
        He et al., Bag of Tricks for Image Classification with Convolutional Neural Networks, 2019, arXiv 1812.01187, section 4.
    """

    def __init__(self, n_leads: int = 12, n_out: int = 9) -> None:
        super().__init__()
        self.config = {"n_leads": n_leads, "n_out": n_out}
        stem = [*conv(n_leads, 32, 5, 2), nn.ReLU(), *conv(32, 32, 5), nn.ReLU(), *conv(32, WIDTH, 5), nn.ReLU(), nn.MaxPool1d(3, 2, 1)]
        self.stem = nn.Sequential(*stem)
        wide = EXPANSION * WIDTH
        self.stages = nn.Sequential(
            *(nn.Sequential(*(Bottleneck(WIDTH if k == j == 0 else wide, 2 if k and j == 0 else 1) for j in range(n))) for k, n in enumerate(BLOCKS))
        )
        self.head = nn.Sequential(
            OrderedDict(
                norm=nn.BatchNorm1d(2 * wide),
                drop=nn.Dropout(0.25),
                embed=nn.Linear(2 * wide, 128),
                act=nn.ReLU(),
                norm2=nn.BatchNorm1d(128),
                drop2=nn.Dropout(0.5),
                out=nn.Linear(128, n_out),
            )
        )
        self.apply(_begin)

    def new_output(self, n_out: int) -> None:
        """Begin the last layer anew, with so many outputs."""
        self.head.out = nn.Linear(128, n_out)
        _begin(self.head.out)
        self.config = {**self.config, "n_out": n_out}

    def pooled(self, x: Tensor) -> Tensor:
        """Maxima and means over time of the last stage, (B, 512)."""
        x = self.stages(self.stem(x))
        return cat([x.amax(2), x.mean(2)], 1)

    def embed(self, x: Tensor) -> Tensor:
        """What the head's first layer says before its ReLU, (B, 128): the features of Fréchet distances."""
        return self.head[:3](self.pooled(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pooled(x))


def _begin(part: nn.Module) -> None:
    """Weights as the reference begins: normal with variance 2 / fan-in, biases of zero."""
    if isinstance(part, nn.Conv1d | nn.Linear):
        nn.init.kaiming_normal_(part.weight)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
