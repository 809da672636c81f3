"""The order of imports, what start-up costs, and what may never stand in the code."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import genkit

PACKAGE = Path(genkit.__file__).parent
ORDER = (
    "errors pickles keys levels denoiser ema hookspecs kinds plugins registry files tables resolve weights recipe"
    " identity store reference data state distributed training checkpoint record sampling pictures judge evaluation"
    " runs models foreign watching prepare lock charts story report measure experiment study dunnett"
    " statistics power comparison studypage"
).split()


def imported(path):
    """Modules of genkit that a module imports when it is imported."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module == "genkit":
            found |= {alias.name for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genkit."):
            found.add(node.module.split(".")[1])
    return found


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_modules_before_it(name):
    before = set(ORDER[: ORDER.index(name)])
    assert imported(PACKAGE / f"{name}.py") <= before


def test_every_module_has_its_place_in_the_order():
    assert {p.stem for p in PACKAGE.glob("*.py")} == {*ORDER, "__init__", "__main__"}


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
        "import sys; from genkit.recipe import load_recipe; load_recipe('ict_digits')\n"
        "print([m for m in ('genkit_ct.losses', 'genkit_ct.teachers', 'genkit_images.folder') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


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
            forbidden = {"yaml", "dill"} if path == PACKAGE / "pickles.py" else {"pickle", "yaml", "dill"}
            assert not forbidden & set(names)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec"}
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"nan_to_num", "nan_to_num_"}
            assert getattr(node.value, "id", "") != "pickle" or node.attr == "Unpickler"  # the guarded one
            if (getattr(node.value, "id", ""), node.attr) == ("torch", "load"):
                assert node in plain_loads, "torch.load without weights_only=True"
