"""The order of imports, what plugins may import, how large the core is, what start-up costs, and what may never stand
in the code."""

import ast
import importlib.util
import io
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

import genkit

PACKAGE = Path(genkit.__file__).parent
ROOT = Path(__file__).parents[1]
ROOMS = tomllib.loads((ROOT / "docs" / "rooms.toml").read_text())
TOP = ROOMS["top"]["modules"].split()
ORDER = [*TOP, *(f"{room}.{m}" for room, said in ROOMS.items() if room != "top" for m in said["modules"].split())]
PICKLES = ROOT / "plugins" / "weights" / "genkit_weights" / "pickles.py"  # the one module that opens pickles
OWN = ROOT / "plugins" / "own" / "genkit_own" / "files.py"  # the one that runs what a user has named
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/genkit_*/__init__.py"))


def name_of(path):
    """A module of genkit as ORDER names it."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imports(path, package, everywhere=False):
    """(module, name) of what a file imports from a package: when it is imported, or anywhere in it."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name, "") for a in node.names if a.name.split(".")[0] == package)


def modules_of(path, package, known, everywhere=False):
    """The modules of a package that a file imports."""
    for module, name in imports(path, package, everywhere):
        inner = [m.removeprefix(package).lstrip(".") for m in (f"{module}.{name}", module)]
        yield from [m for m in inner if m in known][:1]


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_modules_before_it(name):
    path = PACKAGE / f"{name.replace('.', '/')}.py"
    before = set(ORDER[: ORDER.index(name)])
    everywhere = name not in ("cli.dispatch", "hookspecs", "kinds", "levels")  # which name types, or import lazily
    assert set(modules_of(path, "genkit", set(ORDER), everywhere)) <= before


def test_every_module_has_its_place_in_the_order():
    there = {name_of(p) for p in PACKAGE.rglob("*.py") if p.stem not in ("__init__", "__main__")}
    assert there == set(ORDER)
    assert len([p for p in PACKAGE.iterdir() if p.name != "__pycache__"]) <= 18


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "top"])
def test_what_a_room_offers_is_there(room):
    package = __import__(f"genkit.{room}", fromlist=["_"])
    assert len(package.__doc__.splitlines()) >= 3
    for name in ROOMS[room]["public"].split():
        assert (PACKAGE / room / f"{name}.py").exists() or hasattr(package, name), name


def is_public(module, name):
    """Whether a plugin may import a name of a module."""
    parts = [*module.split(".")[1:], *filter(None, [name])]
    if not parts or any(part.startswith("_") for part in parts):
        return not parts
    if len(parts) == 1:
        return parts[0] in (*TOP, *genkit.__all__)
    return parts[0] in TOP or parts[1] in ROOMS.get(parts[0], {}).get("public", "").split()


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_a_plugin_imports_only_what_is_public(plugin):
    wrong = [
        f"{path.name}: {module} {name}"
        for path in plugin.rglob("*.py")
        for module, name in imports(path, "genkit", everywhere=True)
        if module.startswith("genkit.testing") or not is_public(module, name)
    ]
    assert wrong == []


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)
def test_no_modules_of_a_plugin_import_each_other(plugin):
    files = {p.stem: p for p in plugin.glob("*.py") if p.stem != "__init__"}
    uses = {name: set(modules_of(path, plugin.name, files, everywhere=True)) for name, path in files.items()}
    while free := {name for name, needed in uses.items() if not needed & uses.keys()}:
        uses = {name: needed for name, needed in uses.items() if name not in free}
    assert uses == {}, "these import each other"


def test_the_law_of_imports_can_fail(tmp_path):
    file = tmp_path / "sly.py"
    file.write_text("from genkit.runs.running import run\nfrom genkit.kinds import _no_models\nfrom genkit import Key")
    found = [is_public(module, name) for module, name in imports(file, "genkit")]
    assert found == [False, False, True]


# ---- size ----------------------------------------------------------------------------------------


def lines_of_code(path):
    """Lines that hold code: no docstring, comment or blank."""
    source = path.read_text()
    told = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            told |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {n for t in tokens if t.type not in silent for n in range(t.start[0], t.end[0] + 1)}
    return len(lines - told)


def test_the_core_is_small():
    assert sum(map(lines_of_code, PACKAGE.rglob("*.py"))) <= 5000


def test_files_are_short_or_say_why_not():
    long = [p for p in sources() if p.read_text().count("\n") > 250]
    assert [p.name for p in long if "on one page" not in (ast.get_docstring(ast.parse(p.read_text())) or "")] == []


def test_most_functions_are_short():
    lengths = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                told = node.body[0].end_lineno - node.body[0].lineno + 1 if ast.get_docstring(node) else 0
                lengths["all"].append(node.end_lineno - node.lineno + 1 - told)
    ordered = sorted(lengths["all"])
    assert ordered[int(0.9 * len(ordered))] <= 20


# ---- start-up ------------------------------------------------------------------------------------


HEAVY = "torch numpy scipy torchvision h5py rich attrs cattrs typer"


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["plugins", "list"], ["components", "list"], ["recipe", "--help"]]
)
def test_looking_around_imports_nothing_heavy(argv):
    heavy = HEAVY if argv[0].startswith("--") else "torch numpy scipy torchvision h5py rich"
    code = (
        "import sys; from genkit.cli import main\n"
        f"try: main({argv!r})\nexcept SystemExit: pass\n"
        f"print([m for m in {heavy.split()!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip().endswith("[]"), done.stderr


def test_checking_a_recipe_imports_only_what_it_names():
    code = (
        "import sys; from genkit.kernel.loading import load_recipe; load_recipe('ict_digits')\n"
        "print([m for m in ('genkit_ct.losses', 'genkit_ct.teachers', 'genkit_images.folder') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- what may never stand in the code -------------------------------------------------------------


def sources():
    root = PACKAGE.parent
    return [*PACKAGE.rglob("*.py"), *(p for p in root.glob("plugins/*/genkit_*/**/*.py"))]


def of_plain_data(call):
    """Whether a call says weights_only=True."""
    return any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in call.keywords)


@pytest.mark.parametrize("path", sources(), ids=lambda p: p.name)
def test_nothing_loads_code_or_hides_a_failure(path):
    tree = ast.parse(path.read_text())
    plain_loads = [call.func for call in ast.walk(tree) if isinstance(call, ast.Call) and of_plain_data(call)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", "") or ""]
            forbidden = {"yaml", "dill"} if path == PICKLES else {"pickle", "yaml", "dill"}
            assert not forbidden & set(names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "eval" and (node.func.id != "exec" or path == OWN)
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"nan_to_num", "nan_to_num_"}
            assert getattr(node.value, "id", "") != "pickle" or node.attr == "Unpickler"  # the guarded one
            if (getattr(node.value, "id", ""), node.attr) == ("torch", "load"):
                assert node in plain_loads, "torch.load without weights_only=True"


@pytest.mark.parametrize(("name", "picture"), [("architecture", "architecture"), ("few_step", "few-step")])
def test_a_picture_is_what_its_script_draws_today(name, picture):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.drawn() == (ROOT / f"docs/images/{picture}.svg").read_text(), f"run python docs/{name}.py"
