"""What the verbs of the command line share: arguments, places to write, data with their warnings, progress, one-line errors.

Heavy imports happen inside the functions, so `--help` answers at once.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .errors import BadData, BadPlan, DiffgraftError, OutputExists, listed
from .files import array_among_folders, claimed, mend_lines, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from .data import Layout
    from .denoise import Denoiser
    from .fit import Watch
    from .readers.catalog import Read

SEVERAL: dict[str, Callable[[str], bool]] = {
    "--seeds": str.isdigit,
    "--weight": lambda arg: arg.replace(".", "", 1).isdigit(),
    "--label": lambda arg: not arg.startswith("-") and not Path(arg, "config.json").is_file(),  # a name, and no model folder
    "--leads": lambda arg: not arg.startswith("-"),
    "--set": lambda arg: "=" in arg and not arg.startswith("-"),
}
"""Options that take several values, and which arguments are values of theirs."""


def spread(args: list[str]) -> list[str]:
    """`--seeds 0 1 2` as `--seeds 0 --seeds 1 --seeds 2`, which the parser takes; the same for the other options of several values."""
    out: list[str] = []
    option = ""
    for k, arg in enumerate(args):
        if arg in SEVERAL:
            option = arg
            if k + 1 == len(args) or not SEVERAL[arg](args[k + 1]):
                out.append(arg)  # no value of its own: the parser says what is wrong
        elif option and SEVERAL[option](arg):
            out += [option, arg]
        else:
            option = ""
            out.append(arg)
    return out


def fail(message: str) -> NoReturn:
    """End with the user's error."""
    for line in message.splitlines():
        print(f"diffgraft: {line}", file=sys.stderr)
    sys.exit(2)


def check_label_weight(weight: float | None, interval: tuple[float, float] | None, particles: int | None) -> None:
    """Refuse options of `sample` that do not go together."""
    if interval is not None and weight is None:
        raise BadPlan("--label-interval bounds a label weight, and there is none; give --label-weight, or drop it")
    if particles is not None and weight is not None:
        raise BadPlan("particles follow a ratio alone, not a label weight; drop --particles or --label-weight")


def torch_device(name: str) -> str:
    """What --device means here: of several processes, each has its own GPU."""
    import torch

    name = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise BadData("--device cuda: no CUDA device here; use --device cpu")
    if name not in ("cpu", "cuda") and not name.startswith("cuda:"):
        raise BadData(f"--device takes cpu, cuda, cuda:K or auto, got '{name}'")
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and "LOCAL_RANK" in os.environ else name


def load_model(model: Path, weights: Path | None = None, allow_code: bool = False) -> "Denoiser":
    """A model folder, a pipeline of diffusers, or what `module:path.to:factory` makes."""
    from . import store
    from .interop.factories import is_factory, source_of

    if is_factory(str(model)):
        return source_of(str(model), weights, allow_code)
    if weights is not None:
        raise BadData(f"--weights belongs to --source module:path.to:factory, a model folder has its own, got --source {model}; drop --weights")
    loaded = store.load(model, allow_code=allow_code)
    for warning in loaded.notes.get("warnings", []):
        warn(warning)
    return loaded


def is_main() -> bool:
    """Whether this process speaks and writes for all."""
    return part()[0] == 0


def part() -> tuple[int, int]:
    """Which of several processes this is, and how many there are."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def gathered(x: "Tensor", n: int) -> "Tensor":
    """All of n samples from the parts that processes drew."""
    if part()[1] == 1:
        return x
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather

    from .samplers import rows_of

    state = PartialState(cpu=x.device.type == "cpu")
    _, longest = rows_of(n, (0, state.num_processes))
    padded = torch.cat([x, x.new_zeros(longest - len(x), *x.shape[1:])])
    whole: Tensor = gather(padded)[:n]
    state.destroy_process_group()
    return whole


def place(out: Path, overwrite: bool, resume: bool) -> AbstractContextManager[None]:
    """The place of a model folder, for a block that writes it."""
    if not is_main():
        return nullcontext()
    if resume and (out / "config.json").exists():
        raise OutputExists(f"{out} is finished, there is nothing to resume; use it, or pass --overwrite")
    return claimed(out, overwrite=overwrite, resume=resume)


class Reading(NamedTuple):
    """How a command reads data; see `readers.catalog.read`."""

    label_column: str | None = None
    size: int | None = None
    skip_broken: bool = False
    seconds: float | None = None
    band: tuple[float, float] | None = None
    leads: list[str] | None = None


AS_IT_IS = Reading()


def beside(how: Reading, path: Path, *others: Path | None) -> Reading:
    """How one of several data is read: an array among folders is taken as it is, what is asked of recordings is left to the folders."""
    if not array_among_folders(path, *others):
        return how
    left = [f"--{name.replace('_', '-')}" for name in ("seconds", "band", "leads", "label_column") if getattr(how, name) is not None]
    if left:
        warn(f"{path} is an array and taken as it is, folders alone heed {', '.join(left)}")
    return Reading(size=how.size, skip_broken=how.skip_broken)


def read(path: Path, what: str, like: "Layout | None", how: Reading = AS_IT_IS) -> "Read":
    """Data of a file; what a person should know of them goes to stderr."""
    from .readers import catalog

    found = catalog.read(path, what, like=like, **how._asdict())
    for warning in found.warnings:
        warn(warning)
    return found


def window_of(file: Path) -> "Layout | None":
    """Leads, rate, window and band that a file of sampled signals names, so that a folder of recordings is read alike; None of other files."""
    if file.suffix.lower() != ".npz" or not file.is_file():
        return None
    from .readers import catalog

    layout = catalog.read(file, "sample").layout
    return None if layout.seconds is None else layout


def warn(line: str) -> None:
    """A line on stderr."""
    if is_main():
        print(f"warning: {line}", file=sys.stderr)


def source_model(pool: "Read", out: Path, seed: int, device: str, quiet: bool, flip: bool = False) -> "Denoiser":
    """A source model of the source data, kept in OUT/source; the one that is there already where a fit is resumed."""
    from . import store
    from .pretrain import pretrain

    folder = out / "source"
    if (folder / "config.json").is_file():
        return store.load(folder)
    checkpoints = out / "checkpoints" / "source"
    told: dict[str, Any] = {"device": torch_device(device), "watch": show_progress(out, quiet), "folder": checkpoints}
    model = pretrain(pool.points, seed, layout=pool.layout, flip=flip, **told)
    if is_main():
        store.save(model, folder, origin={"method": "pretrain", "n_source": pool.points.n, "seed": seed}, overwrite=True)
    return model


@contextmanager
def resumable(out: Path, asked: dict[str, Any]) -> Iterator[None]:
    """Keep what a fit was asked for in OUT/checkpoints, for a block that does it; where it stands there already, it has to be the same.

    Raises:
        BadPlan: The run that is resumed was asked for something else; the differences are named.
    """
    import json

    file, now = out / "checkpoints" / "asked.json", json.loads(json.dumps(asked))
    before = json.loads(file.read_text()) if file.is_file() else now
    if changed := [key for key in {**before, **now} if before.get(key) != now.get(key)]:
        raise BadPlan(f"the run in {out} was begun with other {listed(changed)}; --resume with the same, or begin anew by --overwrite")
    if is_main():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, now)
    try:
        yield
    except DiffgraftError:
        if is_main() and list(out.rglob("*")) == [file.parent, file]:  # nothing was begun
            shutil.rmtree(out)
        raise


def show_progress(out: Path, quiet: bool) -> "Watch":
    """Progress to the screen, to OUT/log.jsonl, to TensorBoard and Weights & Biases, and pictures to OUT/previews."""
    from . import watch

    if not is_main():
        return lambda progress: None
    log = out / "log.jsonl"
    mend_lines(log)
    curves = watch.log(log), watch.tensorboard(out / "tensorboard"), watch.wandb(out.name)
    return watch.every(watch.screen(quiet=quiet), *curves, watch.previews(out / "previews"))


def counter(what: str, quiet: bool) -> Callable[[int, int], None]:
    """Shows how many of something are done, on a terminal."""
    if quiet or not sys.stderr.isatty():
        return lambda k, total: None
    return lambda k, total: print(f"\r{what} {k}/{total}", end="\n" if k == total else "", file=sys.stderr, flush=True)


def write_model(model: Any, out: Path, origin: dict[str, Any]) -> None:
    """Write the model folder in place of the checkpoints; keep the training curves."""
    if not is_main():
        return
    from . import store

    store.save(model, out, origin=origin, overwrite=True, keep=("log.jsonl", "tensorboard", "previews", "source", "sweep.json", "sweep.html"))
    print(f"model: {out}")
