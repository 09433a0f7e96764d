"""The layers of the package: a module imports strictly lower layers, and never a package's `__init__`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import diffgraft

ROOT = Path(diffgraft.__file__).parent

LAYERS = [
    {"shapes", "errors", "rng", "terms", "entries", "interrupts", "roc", "pairs", "weights"},
    {"schedule", "data", "files", "workers", "machine"},
    {"ecg"},
    {"denoise", "checkpoint", "card", "readers", "draw"},
    {"interop"},
    {"guide", "ratio", "nets", "gaussians"},
    {"particles"},
    {"samplers", "likelihood", "fit", "density"},
    {"store", "pretrain", "watch", "costs", "sample_files", "domain", "support", "sharpness"},
    {"features"},
    {"methods", "tasks", "metrics", "pipeline"},
    {"overlap", "auto", "plan"},
    {"job", "landscapes", "embedding", "sweep"},
    {"experiment", "pages", "console"},
    {"cli"},
    {"__main__"},
]
"""Lowest first. A package stands for all its files, which may import each other."""
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
PUBLIC_FROM_INIT = {"__version__"}
"""The version is read from the package's `__init__` by the build; it is the one name that modules take from there."""

FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = {name: path for name, path in FILES.items() if not name.endswith("__init__")}

every_module = pytest.mark.parametrize("name", MODULES)


def module_exists(dotted):
    return dotted in FILES or f"{dotted}.__init__" in FILES


def inner_imports(name, path, *, eager=False):
    """Pairs (imported module, name taken from it or None) of this package, as dotted names below it.

    `TYPE_CHECKING` blocks are left out; with `eager`, imports inside functions too.
    """
    here = name.split(".")[:-1]
    for node in walk(ast.parse(path.read_text()), eager):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "diffgraft":
                    yield ".".join(alias.name.split(".")[1:]), None
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = here[: len(here) - node.level + 1]
            elif node.module.split(".")[0] == "diffgraft":
                base = []
            else:
                continue
            tail = (node.module or "").split(".") if node.level else node.module.split(".")[1:]
            module = ".".join([*base, *(part for part in tail if part)])
            for alias in node.names:
                dotted = f"{module}.{alias.name}" if module else alias.name
                yield (dotted, None) if module_exists(dotted) else (module, alias.name)


def walk(tree, eager):
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if eager and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        yield node
        yield from walk(node, eager)


def outer_imports(path):
    """Top names of other packages that a file imports when it is loaded."""
    for node in walk(ast.parse(path.read_text()), eager=True):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def room(dotted):
    return dotted.split(".")[0]


@every_module
def test_every_module_has_a_layer(name):
    assert room(name) in LAYER, f"{name} has no layer; give it one in tests/test_layers.py, above all that it imports"


@every_module
def test_a_module_imports_lower_layers_only(name):
    mine = LAYER.get(room(name), len(LAYERS))
    for module, taken in inner_imports(name, MODULES[name]):
        if taken in PUBLIC_FROM_INIT and module == "":
            continue
        sibling = room(module) == room(name) and "." in name
        assert sibling or LAYER.get(room(module), len(LAYERS)) < mine, f"{name} (layer {mine}) imports {module} (layer {LAYER.get(room(module))})"


@every_module
def test_no_module_imports_from_a_packages_init(name):
    for module, taken in inner_imports(name, MODULES[name]):
        if taken in PUBLIC_FROM_INIT and module == "":
            continue
        is_package = module == "" or f"{module}.__init__" in FILES
        assert not is_package, f"{name} takes {taken or 'the package'} from the __init__ of diffgraft.{module}".rstrip(".")


def test_the_only_methods_that_methods_import_are_fine_tunes():
    from diffgraft.methods.catalog import METHODS

    files = {kind.__module__.removeprefix("diffgraft.") for kind in METHODS.values()}
    assert len(files) == len(METHODS), "one file a method"
    for name in files:
        if name == "methods.auto":
            continue  # it chooses among them
        others = {module for module, _ in inner_imports(name, MODULES[name])} & files - {name}
        assert others <= {"methods.finetune", "methods.lora", "methods.difffit"}, f"{name} imports {others}"


def eager_closure(name):
    """All modules of the package that loading one loads."""
    seen, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module in seen or module not in FILES:
            continue
        seen.add(module)
        parents = [".".join(module.split(".")[:k]) for k in range(module.count(".") + 1)]
        todo += [f"{parent}.__init__".lstrip(".") for parent in parents] + [inner for inner, _ in inner_imports(module, FILES[module], eager=True)]
    return seen


@pytest.mark.parametrize(
    "name", ["__init__", "errors", "files", "terms", "card.card", "ecg.leads", "ecg.physiology", *(n for n in MODULES if room(n) == "pages"), "console", "cli"]
)
def test_light_modules_load_no_torch(name):
    heavy = {module: "torch" for module in eager_closure(name) if "torch" in outer_imports(FILES[module])}
    assert not heavy


@pytest.mark.parametrize("name", ["diffgraft", *(f"diffgraft.{n}" for n in MODULES if room(n) in ("pages", "console", "cli"))])
def test_loading_a_light_module_loads_no_torch_in_truth(name):
    code = f"import sys, {name}; print([m for m in ('torch', 'numpy', 'scipy', 'accelerate', 'diffusers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT.parent)})
    heavy = done.stdout.strip()
    assert heavy == "[]" if name == "diffgraft" else "torch" not in heavy


@pytest.mark.parametrize("extra", ["diffusers", "peft", "tensorboard", "transformers", "wandb", "ot", "azula", "prdc", "pyarrow"])
def test_optional_packages_are_never_loaded_with_a_module(extra):
    assert [name for name, path in MODULES.items() if extra in outer_imports(path)] == []


def test_no_module_bears_the_name_of_a_root_function():
    top = {name for name in MODULES if "." not in name} | {room(name) for name in FILES if "." in name}
    values = set(diffgraft.__all__) - set(diffgraft._PACKAGES) - {"__version__"}
    assert not top & values


def test_every_root_name_resolves_and_is_listed():
    for name in diffgraft.__all__:
        assert getattr(diffgraft, name) is not None
        assert name in dir(diffgraft)
    with pytest.raises(AttributeError, match="no attribute 'Trainer'"):
        diffgraft.Trainer  # noqa: B018


@pytest.mark.parametrize("name", FILES)
def test_every_public_name_has_a_docstring(name):
    tree = ast.parse(FILES[name].read_text())
    assert ast.get_docstring(tree), f"{name} has no docstring"
    public = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]
    bare = [n.name for n in public if not ast.get_docstring(n)]
    assert not bare, f"{name}: no docstring on {', '.join(bare)}"
