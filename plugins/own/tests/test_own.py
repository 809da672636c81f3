"""Classes without a package: named by their file in recipes, or registered; run only where a user has said so."""

import json
import linecache
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import genkit
from genkit.errors import GenkitError, PluginError, RecipeError
from genkit.testing import present, provide

LOSS = '''
import attrs
import torch

from genkit.kinds import setting

# {mark}


@attrs.frozen(kw_only=True)
class Cauchy:
    """Cauchy metric."""

    c: float = setting(0.5, "scale", check=attrs.validators.gt(0))

    def build(self, context):
        return lambda x, y, at=None: torch.log1p(((x - y) / self.c).square()).flatten(1).mean(1)
'''
FEW = ["train.steps=20", "evaluate.samples=200", "train.batch_size=16", "network.width=16", "metrics.fd.floor=false"]


@pytest.fixture
def own(request):
    """The file my_loss.py in the working folder, of a content that no other test has."""
    path = Path("my_loss.py")
    path.write_text(LOSS.format(mark=request.node.name))
    return path


def recipe(path="mine.toml", use="./my_loss.py:Cauchy", extends="ict_ring"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(f'name = "mine"\nextends = "{extends}"\n\n[loss]\nuse = "{use}"\nc = 0.3\n')
    return path


def only(pattern):
    (found,) = Path().glob(pattern)
    return found


# ---- files -----------------------------------------------------------------------------------------


def test_a_recipe_names_a_file_and_its_run_keeps_a_copy(own, call):
    call("run", recipe(), *FEW)
    copy = only("runs/mine-*/code/my_loss-*.py")
    assert copy.read_text() == own.read_text()
    own.unlink()
    call("sample", "mine", "--count", 4)
    call("evaluate", "mine", "--samples", 100)
    call("run", only("runs/mine-*/recipe.toml"))  # nothing is left to do
    assert len(list(Path("runs").glob("mine-*"))) == 1


def test_what_the_file_says_is_part_of_the_runs_id(own, call):
    def told(*more):
        return json.loads(call("run", recipe(), *FEW, *more, "--dry-run", "--json")[0])["id"]

    before = told()
    shutil.copy(own, "elsewhere.py")
    own.write_text(own.read_text().replace("mean(1)", "sum(1)"))
    assert told() != before
    Path("sub").mkdir()
    shutil.move("elsewhere.py", "sub/my_loss.py")
    assert told("loss.use=sub/my_loss.py:Cauchy", "loss.c=0.3") == before  # where it lies is not


def test_a_study_swaps_it_in(own, call):
    call("ablate", "ict_ring", *FEW, "--swap", "loss=my_loss.py:Cauchy", "--seeds", 2, "--jobs", 2)
    assert len(list(Path("runs").glob("ict_ring-*/code/my_loss-*.py"))) == 2
    own.unlink()
    again = "from genkit_studies import study; print({t.state for t in study.load(study.find('ict_ring')).trials})"
    assert subprocess.check_output([sys.executable, "-c", again], text=True) == "{'done'}\n"


def test_a_killed_run_goes_on_without_the_file(own):
    argv = ["run", recipe(), *FEW, "train.steps=1000000", "train.save_every_steps=50"]
    process = subprocess.Popen([sys.executable, "-m", "genkit", *argv], stderr=subprocess.DEVNULL)
    while not list(Path("runs").glob("mine-*/checkpoints/step-*")):
        assert process.poll() is None
    process.terminate()
    assert process.wait() == 75
    own.unlink()
    resumed = [sys.executable, "-m", "genkit", "run", str(only("runs/mine-*/recipe.toml")), "--dry-run"]
    done = subprocess.run(resumed, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and re.search(r"steps +[1-9]\d* of 1000000 done", done.stdout), done


# ---- whose word it takes ---------------------------------------------------------------------------------


def test_code_that_a_run_folder_brings_is_not_run_until_it_is_allowed(own, call, monkeypatch, tmp_path):
    """As where a colleague's run folder was copied here; samples need no loss, so they are had without running it."""
    own.write_text(own.read_text() + "\nopen('executed', 'w').close()\n")
    script = f"import genkit.cli; genkit.cli.main(['run', 'mine.toml', *{FEW!r}])"
    recipe()
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "another"))
    Path("executed").unlink()
    call("sample", "mine", "--count", 4)
    for argv in (["evaluate", "mine"], ["run", only("runs/mine-*/recipe.toml")]):
        _, err = call(*argv, code=2)
        assert "code that you have not named" in err and "--local-code" in err
    monkeypatch.setenv("GENKIT_LOCAL_CODE", "")  # what the option sets is gone after the test
    assert not Path("executed").exists()
    shutil.copytree(
        only("runs/mine-*"), "theirs", ignore=shutil.ignore_patterns("lock.json")
    )  # as a recipe with its code
    _, err = call("run", "theirs/recipe.toml", code=2)
    assert "code that you have not named" in err and not Path("executed").exists()
    call("--local-code", "evaluate", "mine", "--samples", 100)
    assert Path("executed").exists()


def test_an_installed_recipe_names_no_code(own, call, tmp_path):
    site = tmp_path / "site"
    (site / "recipes_of_probe").mkdir(parents=True)
    (site / "recipes_of_probe" / "__init__.py").write_text(
        "from genkit import hookimpl\nGENKIT_API = 1\n@hookimpl\ndef genkit_recipes():\n    return 'recipes_of_probe'\n"
    )
    shutil.copy(own, site / "recipes_of_probe")
    recipe(site / "recipes_of_probe" / "theirs.toml")
    provide(site, "theirs", "recipes_of_probe")
    Path("above.toml").write_text('extends = "theirs"\n')
    with present(site):
        for name in ("theirs", "above.toml"):
            with pytest.raises(RecipeError, match="code that you have not named"):
                genkit.load_recipe(name, FEW)
    recipe("theirs.toml")
    Path("above.toml").write_text('extends = "theirs.toml"\n')
    assert genkit.load_recipe("above.toml", FEW)  # by its path, and so by hand


@pytest.mark.parametrize(
    ("text", "use", "told"),
    [
        (None, "./none.py:Cauchy", "cannot be read"),
        ("x = (", "./bad.py:Cauchy", "SyntaxError"),
        ("raise ValueError('mine')", "./bad.py:Cauchy", "ValueError: mine"),
        ("import attrs\n@attrs.frozen\nclass Cauchi:\n    pass", "./bad.py:Cauchy", "did you mean 'Cauchi'"),
        ("class Cauchy:\n    pass", "./bad.py:Cauchy", "@attrs.frozen(kw_only=True)"),
        ("import attrs\n@attrs.frozen\nclass Cauchy:\n    pass", "./bad.py:Cauchy", "has no build"),
    ],
)
def test_a_file_that_will_not_do_is_told_in_a_line(text, use, told):
    if text:
        Path("bad.py").write_text(text)
    with pytest.raises(GenkitError) as error:
        genkit.load_recipe("ict_ring", FEW, [f"loss={use}"])
    assert told in str(error.value) and "\n" not in str(error.value)


# ---- genkit.register ---------------------------------------------------------------------------------------

SCRIPT = '''
import functools

import attrs
import torch

import genkit
from genkit.kinds import setting

TWO, NAMES = 2, ("a", "b")


def halved(value):
    return value / TWO if value is not None else other(value)


def other(value):
    return halved(value)


@attrs.frozen(kw_only=True)
class Base:
    c: float = setting(0.5, "scale")


@attrs.frozen(kw_only=True)
class {name}(Base):
    """Of a script."""

    def build(self, context):
        return functools.partial(self._distance, len(NAMES))

    def _distance(self, n, x, y, at=None):
        return torch.log1p(halved((x - y) / self.c).square()).flatten(1).mean(1)


genkit.register("loss", "{word}", {name})
'''


def test_a_script_registers_a_class_and_its_trials_have_it(call):
    few = [*FEW, "evaluate.samples=100"]
    Path("study.py").write_text(
        SCRIPT.format(name="Log", word="log")
        + f"result = genkit.run(genkit.load_recipe('ict_ring', {few!r}, ['loss=log']))\n"
        f"study = genkit.ablate('ict_ring', ['loss=log'], {few!r}, seeds=[0, 1], jobs=2)\n"
        "print(result.folder.name, *(t.state for t in study.trials))\n"
    )
    done = subprocess.run([sys.executable, "study.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    name, *states = done.stdout.split()
    assert states == ["done"] * 4
    kept = only(f"runs/{name}/code/log-*.py").read_text()
    assert "def halved" in kept and "class Base" in kept and "genkit.register" not in kept
    call("sample", name, "--count", 4)  # in a process that never ran the script


def test_a_file_that_registers_serves_a_command(call):
    Path("mine.py").write_text(SCRIPT.format(name="Mine", word="mine"))
    call("--plugin", "mine.py", "run", "ict_ring", "--swap", "loss=mine", *FEW)
    assert only("runs/ict_ring-*/code/mine-*.py")
    Path("idle.py").write_text("x = 1\n")
    _, err = call("--plugin", "idle.py", "run", "ict_ring", code=3)
    assert "registers nothing" in err


def defined(text, file="cell.py"):
    Path(file).write_text(text)
    module = type(sys)(Path(file).stem)
    module.__file__ = str(Path(file).resolve())
    sys.modules[module.__name__] = module
    exec(compile(text, module.__file__, "exec"), vars(module))
    return module


HEAD = "import attrs\nimport torch\n"
CLASS = "@attrs.frozen(kw_only=True)\nclass A:\n    def build(self, context):\n        return {what}\n"


def test_registered_classes_may_be_changed_and_registered_again():
    ids = []
    for word in ("mean", "sum", "mean"):
        what = f"lambda x, y, at=None: (x - y).square().flatten(1).{word}(1)"
        cls = defined(HEAD + CLASS.format(what=what), "again.py").A
        linecache.checkcache()
        genkit.register("loss", "again", cls)
        made = genkit.load_recipe("ict_ring", FEW, ["loss=again"])
        ids.append(json.dumps(made.toml()))
    assert ids[0] == ids[2] != ids[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + CLASS.format(what="nowhere"), "mentions 'nowhere', which is not defined"),
        (HEAD + "it = iter([])\n" + CLASS.format(what="it"), "mentions 'it', a list_iterator"),
        (
            HEAD + "def f():\n    " + CLASS.format(what="1").replace("\n", "\n    ") + "\n    return A\nA = f()",
            "within",
        ),
        ("class A:\n    pass", "put @attrs.frozen(kw_only=True) above"),
        (HEAD + "@attrs.frozen\nclass A:\n    x: int = 1\n", "has no build"),
    ],
)
def test_what_cannot_be_registered_is_told(text, told):
    cls = defined(text, f"cell_{abs(hash(text))}.py").A
    with pytest.raises(GenkitError, match=re.escape(told)):
        genkit.register("loss", "never", cls)


def test_names_and_kinds_that_are_taken_or_unknown():
    cls = defined(HEAD + CLASS.format(what="None"), "taken.py").A
    with pytest.raises(RecipeError, match="genkit-lab-ct has a loss 'l2'"):
        genkit.register("loss", "l2", cls)
    with pytest.raises((RecipeError, PluginError), match="los"):
        genkit.register("los", "mine", cls)


def test_a_component_made_in_python_of_a_class_that_nobody_knows_is_told_how():
    cls = defined(HEAD + CLASS.format(what="None"), "unknown.py").A
    with pytest.raises(RecipeError, match=r"say genkit.register\('loss', 'a', A\) before"):
        genkit.recipe_of(dataset="ring", objective={"use": "consistency", "loss": cls()}, train={"steps": 5})
