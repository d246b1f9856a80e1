"""What the folders promise as a package: everything is shipped, arrows point one way, doors are closed."""

import ast
import inspect
import resource
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("operators", "priors", "datasets", "recon", "apps")
MAY_IMPORT = {
    "operators": set(),
    "priors": {"operators"},
    "datasets": {"operators", "priors"},
    "recon": {"operators", "priors"},
    "apps": {"operators", "priors", "datasets", "recon"},
}
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
MODULES = [".".join(("resolvent", *p.relative_to(ROOT).with_suffix("").parts)) for p in SOURCES]

#: Modules that run what a file says, and calls that do unless told otherwise.
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
FORBIDDEN_CALLS = {"eval", "exec", "yaml.load", "yaml.full_load", "yaml.unsafe_load"}


def relative(path):
    return str(path.relative_to(ROOT))


def tree(path):
    return ast.parse(path.read_text(), filename=str(path))


def test_every_package_is_shipped():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    inits = {p.parent for folder in FOLDERS for p in (ROOT / folder).rglob("__init__.py")}
    assert set(settings["packages"]) == {".".join(("resolvent", *p.relative_to(ROOT).parts)) for p in inits}
    assert not (ROOT / "__init__.py").exists(), "the root is a namespace package"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_marked_as_typed(folder):
    assert (ROOT / folder / "py.typed").exists()


def test_every_data_file_is_shipped():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    for folder in FOLDERS:
        shipped = {p for pattern in patterns for p in (ROOT / folder).glob(pattern)}
        present = {p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
        assert present <= shipped, "name them in package-data"


@pytest.mark.parametrize("module", MODULES)
def test_what_must_be_overridden_is_asked_for(module):
    """``@abstractmethod`` without ABC is a comment: the class could be made, and hints would offer it."""
    for kind in vars(import_module(module)).values():
        if inspect.isclass(kind) and kind.__module__ == module:
            owed = {name for name, value in vars(kind).items() if getattr(value, "__isabstractmethod__", False)}
            assert owed <= getattr(kind, "__abstractmethods__", set()), kind


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_exported_name_exists(folder):
    module = import_module(f"resolvent.{folder}")
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert [n for n in names if not hasattr(module, n)] == []


def imported_folders(path):
    """Folders of this project that a file imports; a relative import counts from the file's own place."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split("."))
            base = tuple(part for part in base if part)
            yield from [base[0]] if base else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            full = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            for name in full:
                first = name.split(".")[0]
                assert first != "resolvent" and first not in FOLDERS, f"{path}: import {name} must be relative"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_arrows_point_one_way(path):
    own = path.relative_to(ROOT).parts[0]
    assert set(imported_folders(path)) - {own} <= MAY_IMPORT[own]


def test_relative_imports_are_seen_through(tmp_path, monkeypatch):
    """The test above can fail."""
    (tmp_path / "operators" / "deep").mkdir(parents=True)
    path = tmp_path / "operators" / "deep" / "x.py"
    path.write_text("from . import a\nfrom ..b import c\nfrom ...recon import d\nfrom ... import priors\n")
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert set(imported_folders(path)) == {"operators", "recon", "priors"}
    path.write_text("from recon import d\n")
    with pytest.raises(AssertionError, match="must be relative"):
        list(imported_folders(path))


def unsafe(source):
    """Lines that could run code out of a file."""
    for node in ast.walk(source):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if (
                call in FORBIDDEN_CALLS
                or (call == "torch.load" and options.get("weights_only") != "True")
                or (call in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False")
            ):
                yield f"{node.lineno}: {call}"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_no_file_is_executed(path):
    assert list(unsafe(tree(path))) == []


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from joblib import load", "torch.load(f)", "torch.load(f, weights_only=False)", "yaml.load(f)",
     "np.load(f, allow_pickle=True)", "eval(x)"],
)  # fmt: skip
def test_what_executes_files_is_found(line):
    assert list(unsafe(ast.parse(line)))


@pytest.mark.parametrize(
    "line", ["torch.load(f, weights_only=True)", "np.load(f)", "yaml.safe_load(f)", "model.eval()"]
)
def test_what_only_reads_is_allowed(line):
    assert not list(unsafe(ast.parse(line)))


EACH_ALONE = """
import importlib, os, sys, traceback
import h5py, matplotlib, scipy.ndimage, skimage.metrics, deepinv  # once for all; none of them is ours
broken = []
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        broken.append(name)
sys.exit(f"cannot be imported first: {broken}" if broken else 0)
"""


def test_each_module_can_be_imported_first():
    """No import cycle, whatever the first module a program asks for."""
    done = subprocess.run([sys.executable, "-c", EACH_ALONE, *MODULES], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def test_help_is_immediate():
    program = (
        "import sys; from resolvent.apps.cli import main; status = main(['--help'])\n"
        "heavy = {'torch', 'deepinv', 'numpy', 'h5py', 'matplotlib', 'jsonargparse'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd="/")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.6
