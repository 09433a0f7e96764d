"""The command line: parse, call, print. Heavy imports happen inside the commands, so `--help` answers at once."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__, console
from .errors import BadData, DiffgraftError
from .files import check_writable, claim, refusal, write_json
from .machine import Machine, on

INTERRUPTED = 130
DATA = ".npz, .npy, .csv, .parquet, IDX, a folder of images, subfolders are labels, or of ECG recordings"

app = typer.Typer(
    help="Transfer learning for diffusion models: graft a model trained where data are plentiful onto a domain where they are scarce.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Out = Annotated[Path, typer.Option(help="Where to write.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what stands at --out.")]
LabelColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column of a table that holds the label, by name or position, -1 the last.")]
Size = Annotated[int | None, typer.Option(min=1, help="Cut images to a square and bring them to this many pixels a side.")]
SkipBroken = Annotated[bool, typer.Option("--skip-broken", help="Leave out images and recordings that cannot be read, with a warning.")]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Run the function that makes a network of your own.")]
Seconds = Annotated[float | None, typer.Option(help="Of ECG recordings, the length of the windows, the first of each; else 10, or the model's.")]
Band = Annotated[tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="Of ECG recordings, the frequencies in Hz to keep, such as 0.5 40.")]
Leads = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Of ECG recordings, the leads: --leads I II V1; else all twelve, or the model's.")]
Flip = Annotated[bool, typer.Option("--flip", help="Take images mirrored left to right as images, too, in training.")]
Precision = Annotated[str, typer.Option(help="Autocast: no, bf16 or fp16.")]
Accumulate = Annotated[int, typer.Option(min=1, help="Cut each batch into so many parts, to save memory.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Compute activations again instead of keeping them; networks of diffusers.")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network that is trained.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; repeat for more.")]


def main() -> None:
    """Run the command line; errors of the user end in one line and status 2, interrupts in 130."""
    # threads wait awake for about as long as sleeping and waking would take: longer, and any busy process beside them slows them by the factor
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "2000")}
    try:
        status = app(console.spread(sys.argv[1:]) or ["--help"], standalone_mode=False) or 0  # the parser turns an interrupt into status 130
    except DiffgraftError as error:
        console.fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as error:
        said = refusal(error)
        if said is None:
            raise
        console.fail(said)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # of torch, which most commands do without
            console.fail("the GPU's memory is full; take a smaller batch (sample: --batch-size, fit: --set batch_size=...), or --device cpu")
        if not hasattr(error, "format_message"):  # not a usage error of the parser: a fault of ours
            raise
        console.fail(error.format_message())
    if status == INTERRUPTED:
        print("interrupted; what was done is saved, --resume goes on", file=sys.stderr)
    sys.exit(status)


def _version(show: bool) -> None:
    if show:
        print(f"diffgraft {__version__}")
        raise typer.Exit


@app.callback()
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)] = False) -> None:
    """Transfer learning for diffusion models."""


@app.command("pretrain")
def pretrain_command(
    data: Annotated[Path, typer.Option(help=f"Source data: {DATA}.")],
    out: Out,
    label_column: LabelColumn = None,
    size: Size = None,
    skip_broken: SkipBroken = False,
    seconds: Seconds = None,
    band: Band = None,
    leads: Leads = None,
    flip: Flip = False,
    net: Annotated[str | None, typer.Option(help="Backbone; see `diffgraft list nets`.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "no",
    accumulate: Accumulate = 1,
    checkpointing: Checkpointing = False,
    compiled: Compile = False,
    quiet: Quiet = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a source model on plentiful data."""
    with on(Machine(precision, accumulate, checkpointing, compiled)), console.place(out, overwrite, resume):
        from .data import hash_points
        from .pretrain import default_training, pretrain, with_steps

        pool, layout, *_ = console.read(data, "source", None, console.Reading(label_column, size, skip_broken, seconds, band, leads))
        training = with_steps(default_training(tuple(pool.x.shape[1:])), steps)
        told: dict[str, Any] = {"device": console.torch_device(device), "watch": console.show_progress(out, quiet), "folder": out / "checkpoints"}
        with console.resumable(out, {"data": hash_points(pool), "net": net, "flip": flip}):
            model = pretrain(pool, seed, net=net, training=training, layout=layout, flip=flip, **told)
        console.write_model(model, out, {"method": "pretrain", "n_source": pool.n, "seed": seed})


@app.command()
def fit(
    target_data: Annotated[Path, typer.Option(help=f"Target data: {DATA}; read like the source's.")],
    out: Out,
    source: Annotated[Path | None, typer.Option(help="Source model folder, or module:path.to:factory; else one is trained, kept in OUT/source.")] = None,
    weights: Annotated[Path | None, typer.Option(metavar="FILE", help="Weights of a network of your own, .safetensors; with module:...")] = None,
    method: Annotated[str, typer.Option(help="See `diffgraft list methods`.")] = "tgdp",
    source_data: Annotated[Path | None, typer.Option(help="Source data; samples of the source model stand in without it.")] = None,
    label_column: LabelColumn = None,
    size: Size = None,
    skip_broken: SkipBroken = False,
    seconds: Seconds = None,
    band: Band = None,
    leads: Leads = None,
    flip: Flip = False,
    latents: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep latents of images there for later fits of a source with an autoencoder.")] = None,
    seed: Seed = 0,
    settings: Settings = None,
    device: Device = "auto",
    precision: Precision = "no",
    accumulate: Accumulate = 1,
    checkpointing: Checkpointing = False,
    compiled: Compile = False,
    allow_code: AllowCode = False,
    quiet: Quiet = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Adapt a source model to target data."""
    import time

    from . import rng
    from .data import Data
    from .interop.latents import keep_latents
    from .job import asked_of, origin_of
    from .plan import make_method, parse_changes

    chosen = make_method(method, parse_changes(settings or []))
    if latents is not None:
        check_writable(latents)
    if source is None and source_data is None:
        raise BadData("a source is needed, got none; give --source MODEL, --source-data DATA, or both")
    base = None if source is None else console.load_model(source, weights, allow_code)
    how = console.Reading(label_column, size, skip_broken, seconds, band, leads)
    with on(Machine(precision, accumulate, checkpointing, compiled)), console.place(out, overwrite, resume):
        like = None if base is None else base.layout
        pool = None if source_data is None else console.read(source_data, "source", like, console.beside(how, source_data, target_data))
        layouts = [known.layout for known in (base, pool) if known is not None]
        known = layouts[0].filled(layouts[-1])
        target = console.read(target_data, "target", known, console.beside(how, target_data, source_data))
        data = Data(source=None if pool is None else pool.points, target=target.points, flip=flip, owners=target.owners)
        if base is not None and base.n_classes and known.labels is None and target.layout.labels:
            taken = ", ".join(f"'{name}' is {k}" for k, name in enumerate(target.layout.labels[:3]))
            console.warn(f"the source model knows labels by index, the target data by name; {taken}, and so on in sorted order")
        with console.resumable(out, asked_of(chosen, base, data, seed)):
            if base is None:
                assert pool is not None
                base = console.source_model(pool, out, seed, device, quiet, flip)
            began, watch = time.monotonic(), console.show_progress(out, quiet)
            keep_latents(base, latents or out / "checkpoints" / "latents")
            model = chosen.fit(base.to(console.torch_device(device)), data, rng.generator(seed, "fit"), watch=watch, folder=out / "checkpoints")
        model.layout = known.filled(target.layout)
        spent = round(time.monotonic() - began, 1)
        for warning in model.notes.get("warnings", []):
            console.warn(warning)
        notes = {key: value for key, value in model.notes.items() if key != "select_seconds"}
        files = {"source": (source or source_data or out).resolve().name, "target": target_data.name}
        console.write_model(model, out, {**files, **origin_of(chosen, data, seed, notes), "fit_seconds": spent})


@app.command("guide")
def guide_command(
    source: Annotated[Path, typer.Option(help="Source model folder.")],
    tuned: Annotated[Path, typer.Option(help="Model folder of a fine-tune of it.")],
    out: Out,
    weight: Annotated[
        list[float] | None, typer.Option(help="Guidance weight: 0 source, 1 fine-tune; several are compared on --reference. [default: 1.5]")
    ] = None,
    interval: Annotated[tuple[float, float] | None, typer.Option(help="Guide inside this range of log-SNR only.")] = None,
    reference: Annotated[Path | None, typer.Option(help="Held-out target data, to compare several weights on.")] = None,
    train: Annotated[Path | None, typer.Option(help="Training target data, for memorisation.")] = None,
    n: Annotated[int, typer.Option("-n", min=4, help="Samples of each weight that is compared.")] = 2000,
    steps: Annotated[int, typer.Option(min=1, help="Intervals of the sampler's grid.")] = 25,
    label_column: LabelColumn = None,
    size: Size = None,
    skip_broken: SkipBroken = False,
    seed: Seed = 0,
    device: Device = "auto",
    allow_code: AllowCode = False,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Domain Guidance: a source model leads its fine-tune at sampling time; nothing is trained."""
    weights, bounds = weight or [1.5], None if interval is None else list(interval)
    if len(weights) > 1 and reference is None:
        raise BadData(f"{len(weights)} weights are compared on held-out target data, got none; pass --reference DATA, or one --weight")
    from .methods.lead import guided_by_source, led_by_source, limited

    base, target = (console.load_model(path, allow_code=allow_code).to(console.torch_device(device)) for path in (source, tuned))
    with console.place(out, overwrite, resume=False):
        rows: list[dict[str, Any]] = []
        chosen = weights[0]
        if reference is not None:
            from .sweep import best, sweep

            layout, how = target.layout, console.Reading(label_column, size, skip_broken)
            held_out = console.read(reference, "reference", layout, how).points
            known = None if train is None else console.read(train, "training", layout, how).points
            model = led_by_source(base, target, limited(chosen, bounds))
            rows = sweep(model, weights, held_out, train=known, n=n, steps=steps, seed=seed, watch=console.counter("weights", quiet))
            chosen = best(rows)
        model = guided_by_source(base, target, limited(chosen, bounds))
        for warning in model.notes.get("warnings", []):
            console.warn(warning)
        if rows:
            from .pages.sweep import page, table

            print(table(rows))
            write_json(out / "sweep.json", rows)
            page(rows, out / "sweep.html", f"{source.resolve().name} leads {tuned.resolve().name}", chosen)
        made_of = {"source": source.resolve().name, "tuned": tuned.resolve().name}
        settings = {"name": "domain_guidance", "weight": chosen, **({} if bounds is None else {"interval": bounds})}
        console.write_model(model, out, {"method": settings, **made_of, "notes": model.notes})


@app.command()
def sample(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    n: Annotated[int, typer.Option("-n", min=1, help="How many samples.")],
    out: Out,
    steps: Annotated[int, typer.Option(min=1, help="Intervals of the sampler's grid.")] = 25,
    sampler: Annotated[str, typer.Option(help="See `diffgraft list samplers`.")] = "dpmpp_2m",
    weight: Annotated[float | None, typer.Option(help="Guidance weight: 0 source, 1 target.")] = None,
    interval: Annotated[tuple[float, float] | None, typer.Option(help="Use the weight inside this range of log-SNR only.")] = None,
    particles: Annotated[int | None, typer.Option(min=2, help="Correct guided samples in groups of so many particles; with --sampler ddpm.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Label to sample, by name or index, A+B for both; repeat for more. Default: the target's own mix.")
    ] = None,
    label_weight: Annotated[float | None, typer.Option(help="Lead by the label: 1 the model as it is, 1.5 shows more clearly what labels say.")] = None,
    label_interval: Annotated[tuple[float, float] | None, typer.Option(help="Use the label weight inside this range of log-SNR only.")] = None,
    seed: Seed = 0,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Samples a pass.")] = None,
    device: Device = "auto",
    precision: Precision = "no",
    allow_code: AllowCode = False,
    quiet: Quiet = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw samples of a model into a .npz or .csv file."""
    machine = Machine(precision)
    console.check_label_weight(label_weight, label_interval, particles)
    if overwrite:
        check_writable(out.absolute().parent)
    elif console.is_main():
        claim(out)
    import torch

    from . import rng, samplers
    from .data import Points
    from .methods.lead import at_weights
    from .readers.labels import label_values
    from .sample_files import check_samples_file, write_samples

    net = console.load_model(model, allow_code=allow_code).to(console.torch_device(device))
    check_samples_file(out, net.shape)
    if label:
        y: torch.Tensor | None = label_values(label, net.layout, net.n_classes, samplers.takes_rows(net))[torch.arange(n) % len(label)]
    else:
        y = samplers.sample_labels(net, n, rng.split(seed, "sample"))
    net = at_weights(net, weight, interval, label_weight, label_interval)
    given: dict[str, Any] = {"steps": steps, "sampler": sampler, "particles": particles, "batch_size": batch_size, "part": console.part()}
    shares: list[float] = []
    with machine.autocast(next(net.parameters(), torch.zeros(())).device.type):
        x = samplers.sample(net, n, y=y, **given, generator=rng.generator(seed, "sample"), watch=console.counter("sampling", quiet), trace=shares)
    x = console.gathered(x, n)
    if not console.is_main():
        return
    claim(out, overwrite=overwrite)
    write_samples(out, Points(x.cpu(), y), seed, net.layout)
    if shares and not quiet:
        print(f"effective share of {particles} particles: smallest {min(shares):.3f}, final {shares[-1]:.3f}")
    print(f"{n} samples of shape {tuple(x.shape[1:])} in {out}")


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="Samples: a .npz or .csv that `diffgraft sample` wrote.")],
    reference: Annotated[Path, typer.Option(help="Held-out target data, never the training data.")],
    train: Annotated[Path | None, typer.Option(help="Training target data, for memorisation.")] = None,
    model: Annotated[Path | None, typer.Option(help="The model, for its units and names.")] = None,
    features: Annotated[
        str | None, typer.Option(metavar="MODEL", help="What the Frechet distance is taken on: a model, an encoder of transformers, or module:...")
    ] = None,
    label_column: LabelColumn = None,
    size: Size = None,
    skip_broken: SkipBroken = False,
    seconds: Seconds = None,
    band: Band = None,
    leads: Leads = None,
    allow_code: AllowCode = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the scores here.")] = None,
) -> None:
    """Score samples against held-out target data."""
    if json_file:
        check_writable(json_file.absolute().parent)
    from .data import fingerprints
    from .features import features_named
    from .metrics.catalog import METRICS
    from .metrics.catalog import evaluate as score
    from .tasks.measures import measures

    net = None if model is None else console.load_model(model, allow_code=allow_code)
    how = console.Reading(label_column, size, skip_broken, seconds, band, leads)
    looks = None if features is None else features_named(features, allow_code=allow_code)
    layout = console.window_of(file) if net is None else net.layout
    real = console.read(reference, "reference", layout, console.beside(how, reference, train))
    layout = layout or real.layout
    samples = console.read(file, "sample", layout).points
    known = None if train is None else console.read(train, "training", layout, console.beside(how, train, reference)).points
    if known is not None and (both := len(set(fingerprints(known.x)) & set(fingerprints(real.points.x)))):
        console.warn(f"{both:,} samples are in --reference and in --train: scores and floors are not those of held-out data; give data that no fit has seen")
    measured = measures(layout, real.points.x)
    scores = score(samples.x, real.points.x, y=samples.y, train=known and known.x, model=net, features=looks, measures=measured)
    print(f"{'metric':<14}{'value':>12}{'floor':>12}{'n':>8}")
    for name, s in scores.items():
        best = "the floor is ideal" if METRICS[name].best == "ideal" else f"{METRICS[name].best}er is better"
        print(f"{name:<14}{s['value']:>12.5g}{s['floor']:>12.3g}{s['n']:>8}   {METRICS[name].says}, {best}")
    if "frechet" not in scores:
        print("frechet, kid and feature_coverage are distances of features: name a network by --features MODEL")
    if json_file:
        write_json(json_file, scores)


@app.command("inspect")
def inspect_command(
    source_data: Annotated[Path, typer.Option(help="Source data.")],
    target_data: Annotated[Path, typer.Option(help="Target data.")],
    label_column: LabelColumn = None,
    size: Size = None,
    skip_broken: SkipBroken = False,
    seconds: Seconds = None,
    band: Band = None,
    leads: Leads = None,
    seed: Seed = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the report here.")] = None,
) -> None:
    """Say before any training which method suits two data sets, and why."""
    if json_file:
        check_writable(json_file.absolute().parent)
    from .overlap.advice import say, tables
    from .overlap.inspect import inspect

    how = console.Reading(label_column, size, skip_broken, seconds, band, leads)
    source = console.read(source_data, "source", None, console.beside(how, source_data, target_data))
    target = console.read(target_data, "target", source.layout, console.beside(how, target_data, source_data))
    names = source.layout.filled(target.layout).labels
    report = inspect(source.points, target.points, columns=source.layout.columns, labels=names, seed=seed, owners=target.owners)
    if json_file:
        write_json(json_file, report)
    print("\n".join([*say(report), "", *tables(report)]))


@app.command()
def run(
    plan: Annotated[Path, typer.Argument(help="A plan, TOML.")],
    out: Annotated[Path | None, typer.Option(help="Where to write.", show_default="runs/ and the plan file's name")] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="Replace the plan's seeds: --seeds 0 1 2.")] = None,
    settings: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the data, print plan, jobs and what folders of recordings hold; run nothing.")] = False,
    jobs: Annotated[int | None, typer.Option("--jobs", min=1, help="Processes side by side; by default one a core, one on a GPU.")] = None,
    device: Device = "auto",
    precision: Precision = "no",
    accumulate: Accumulate = 1,
    checkpointing: Checkpointing = False,
    compiled: Compile = False,
    quiet: Quiet = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Run a plan: methods x tasks x seeds, with a report."""
    from .plan import read_plan, reduced, to_toml

    checked, machine = read_plan(plan, settings, seeds), Machine(precision, accumulate, checkpointing, compiled)
    from . import experiment
    from .pages.run import report, table

    if dry_run:
        small = reduced(checked)
        lines, enough = experiment.found(small)
        print(to_toml(small))
        print("\n".join(f"# {line}" for line in [*lines, *(job.id for job in experiment.jobs(small))]))
        raise typer.Exit(0 if enough else 2)
    say = (lambda line: None) if quiet else (lambda line: print(line, file=sys.stderr, flush=True))
    where = console.torch_device(device)
    workers = jobs or (experiment.cores() if where == "cpu" else 1)
    out = out or Path("runs", plan.stem)
    experiment.run(checked, out, resume=resume, overwrite=overwrite, device=where, workers=workers, machine=machine, say=say, quiet=quiet)
    print(table(out))
    print(f"\nreport: {report(out)}")


@app.command("report")
def report_command(folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]) -> None:
    """Write RUN/report.html from the records of a run."""
    from .pages.run import report

    print(report(folder))


@app.command("list")
def list_command(what: Annotated[str, typer.Argument(help="methods, tasks, metrics, nets or samplers.")]) -> None:
    """List what there is, by id."""
    from .errors import one_of

    one_of("list", what, ("methods", "tasks", "metrics", "nets", "samplers"))
    from importlib import import_module

    home = "samplers" if what == "samplers" else f"{what}.catalog"
    known = getattr(import_module(f"diffgraft.{home}"), what.upper())
    for name, thing in known.items():
        doc = thing.says if what == "metrics" else ", ".join(thing) if what == "tasks" else (thing.__doc__ or "").strip().splitlines()[0]
        print(f"{name:<22}{doc}")
