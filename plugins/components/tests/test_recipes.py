"""`genkit recipe` and `genkit components`: what is missing, what differs, what can be pasted."""

import json
import tomllib
from pathlib import Path

import pytest

import genkit
from genkit import cli
from genkit.kernel import registry, resolving, toml
from genkit_components import defaults


@pytest.fixture
def call(capsys):
    def words(*argv, code=0):
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in argv])
        told = capsys.readouterr()
        assert left.value.code == code, told.err
        return told

    return words


def test_a_recipe_whose_needs_are_here_is_fine(call):
    told = call("recipe", "check", "ict_digits")
    assert (told.out, told.err) == ("ict_digits: fine\n", "")


def test_data_models_and_weights_that_are_not_here_are_told_at_once_with_their_places(call, monkeypatch, tmp_path):
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENKIT_WEIGHTS", raising=False)
    Path("mine.toml").write_text(
        'extends = "cd_digits"\n[dataset]\nuse = "image-folder"\npath = "photos"\nsize = 8\n[loss]\nuse = "lpips"\n'
        "[evaluate]\nreference = 'stats.h5'\n"
    )
    told = call("recipe", "check", "mine.toml", code=2)
    assert told.out == ""
    for part in (
        f"mine.toml:4 dataset.path: there is no {tmp_path / 'photos'}",
        "mine.toml:9 evaluate.reference: there is no",
        "path.model: recipe:edm_digits: has no finished run here; make it: genkit run edm_digits",
        "init: recipe:edm_digits: has no finished run here",
    ):
        assert part in told.err
    assert "note: mine.toml:6 loss needs vgg16" in told.err and "genkit weights fetch vgg16" in told.err
    (tmp_path / "photos").mkdir()
    (tmp_path / "stats.h5").touch()
    assert call("recipe", "check", "mine.toml", code=2).err.count("there is no") == 0


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("ict_digits metrics.fd.features=vgg16", "metrics.fd.features needs vgg16"),
        ("ict_cifar10", "dataset needs cifar-10-python.tar.gz (170 MB), which is not here: a run downloads it"),
        ("ict_cifar10", "metrics.fid.features needs weights-inception"),
        ("ict_fashion", "dataset needs fashion-train-images"),
        ("ict_imagenet64", "imagenet64.h5: is not there: ImageNet 64x64 is packed from your own copy"),
    ],
)
def test_published_data_and_networks_say_what_they_would_download(recipe, says, call, monkeypatch, tmp_path):
    monkeypatch.setenv("GENKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GENKIT_WEIGHTS", raising=False)
    assert says in call("recipe", "check", *recipe.split(), code=4 if "imagenet" in recipe else 0).err


def test_in_what_two_recipes_differ_is_all_of_it(call):
    found = json.loads(call("recipe", "diff", "ict_digits", "ct_digits", "--json").out)
    assert found["loss.use"] == ["pseudo-huber", "l2"] and found["teacher.mu0"] == [None, 0.9] and "name" not in found
    a, b = (dict(toml.leaves(genkit.load_recipe(name).tree())) for name in ("ict_digits", "ct_digits"))
    for key in {*a, *b} - {("name",)}:
        assert (a.get(key) != b.get(key)) == (".".join(key) in found)
    rows = [line.split() for line in call("recipe", "diff", "ict_digits", "ct_digits").out.splitlines()]
    assert rows[0] == ["ict_digits", "ct_digits"] and ["teacher.mu0", "–", "0.9"] in rows
    assert json.loads(call("recipe", "diff", "ict_digits", "ict_digits", "--json").out) == {}


def usual(kind, name):
    """A component as it is by default; None if something must be given."""
    try:
        return genkit.component(kind, name)
    except genkit.GenkitError:
        return None


@pytest.mark.parametrize(("kind", "name"), list(genkit.components()))
def test_the_table_of_a_component_makes_what_it_is_by_default(kind, name):
    info = genkit.components()[kind, name]
    text = defaults.table_of(info, info.name)
    tree = tomllib.loads(text)
    if (default := usual(kind, name)) is not None:
        place = defaults._place(info, info.name).split(".")
        slots = {key: value for key, value in tree.items() if kind == "objective" and key != "objective"}
        for part in place:
            tree = tree[part]
        made = resolving.component(kind, tree["use"], **{k: v for k, v in {**tree, **slots}.items() if k != "use"})
        assert resolving.plain(made) == resolving.plain(default)
    for key, field in genkit.kinds.fields(registry.load(info)):
        assert key in text, f"{field.name} is left out"


def test_a_component_is_shown_with_all_below_it(call):
    told = call("components", "show", "consistency").out
    for part in ("[objective]", '[loss]\nuse = "pseudo-huber"', "s1 = 1280    # ", "# c = ...", "[sampler]"):
        assert part in told


MINE = """
import attrs
from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Mine:
    \"\"\"The mean of a power of |a - b|.\"\"\"

    power: float = setting(1.5, "of the difference")

    def build(self, context):
        return lambda a, b: (a - b).abs().pow(self.power).flatten(1).mean(1)
"""


def test_a_class_of_ones_own_is_shown_as_a_recipe_calls_it(call):
    Path("mine.py").write_text(MINE)
    told = call("components", "show", "loss", "./mine.py:Mine").out
    assert '[loss]\nuse = "./mine.py:Mine"' in told and "power = 1.5    # of the difference" in told
    Path("registers.py").write_text(f"import genkit\n{MINE}\ngenkit.register('loss', 'mine', Mine)\n")
    told = call("--plugin", "registers.py", "components", "show", "mine").out
    assert told.startswith("loss mine ") and '[loss]\nuse = "mine"' in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["./mine.py:Mine"], "show loss ./mine.py:Mine"),
        (["lss", "./mine.py:Mine"], "did you mean 'loss'?"),
        (["loss", "./mine.py:Mien"], "did you mean 'Mine'?"),
        (["loss", "./nine.py:Mine"], "cannot be read"),
    ],
)
def test_a_class_of_ones_own_that_is_not_there_is_told(call, words, told):
    Path("mine.py").write_text(MINE)
    assert told in call("components", "show", *words, code=2).err
