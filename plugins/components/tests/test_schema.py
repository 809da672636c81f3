"""The schema of recipes: it takes every recipe that genkit takes, and refuses what an author gets wrong."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

import genkit
from genkit import cli
from genkit.kernel.loading import installed, load_recipe
from genkit_components import defaults, schema

RECIPES = {name: file for name, (_, file) in installed().items() if "/" not in name}


@pytest.fixture(scope="module")
def validator():
    made = json.loads(json.dumps(schema.whole()))
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def wrong(validator, text):
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_that_comes_along_is_valid_as_written_and_resolved(validator, name):
    assert wrong(validator, RECIPES[name].read_text()) == []
    given = ["dataset.path=photos"] if name == "ict_photos" else []
    assert wrong(validator, load_recipe(RECIPES[name], given).toml()) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[loss]\nuse = 'pseudo-huber'\ncc = 0.1", ["$.loss", "'cc'"]),
        ("[loss]\nuse = 'pseudo-huberr'", ["$.loss.use", "'pseudo-huberr'"]),
        ("loss = 'l3'", ["$.loss", "'l3'"]),
        ("[loss]\nuse = 'l2'\nc = 0.1", ["$.loss", "'c'"]),  # of another loss
        ("[loss]\nnobody_has_this = 1", ["$.loss", "nobody_has_this"]),
        ("[train]\nsteps = 0", ["$.train.steps", "minimum"]),
        ("[train]\nsteps = '10'", ["$.train.steps", "integer"]),
        ("[train]\nprecision = 'float31'", ["$.train.precision", "float31"]),
        ("[evaluate]\nsteps = [1, 0]", ["$.evaluate.steps[1]", "minimum"]),
        ("[evaluate]\nsteps = []", ["$.evaluate.steps"]),
        ("[evaluate]\nbest = 'fd'", ["$.evaluate.best"]),
        ("[metrics.fd]\nuse = 'fd'\n[metrics.fd.features]\nuse = 'pixles'", ["$.metrics.fd.features.use", "pixles"]),
        ("[init]\nfrm = 'x'", ["$.init", "frm"]),
        ("seed = 7", ["'seed'"]),
        ("[los]\nuse = 'l2'", ["'los'"]),
        ("genkit = 2", ["$.genkit"]),
        ("name = 'a/b'", ["$.name"]),
    ],
)
def test_a_mistake_is_told_at_its_place_and_genkit_objects_too(validator, text, told, tmp_path):
    assert any(all(word in line for word in told) for line in wrong(validator, text))
    (tmp_path / "bad.toml").write_text(f"{text}\n" if "genkit" in text else f"extends = 'ict_digits'\n{text}\n")
    with pytest.raises(genkit.GenkitError):
        load_recipe(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    "text",
    [
        "extends = ['ict_digits', 'ct_digits']",
        "[network]\ndropout = 0.1\nmodel_channels = 64",  # of the base's network
        "loss = 'l2'",
        "[loss]\nuse = 'genkit-lab-ict/pseudo-huber'\nc = 1",
        "[train]\nmicro_batch = 'auto'\ncompile = 'max-autotune'",
        "[train]\nmicro_batch = 4\ncompile = true",
        "[objective]\nuse = 'consistency'\n[objective.loss]\nuse = 'l2'",
        "[init]\nfrom = 'recipe:ict_ring'",
        "[averages.slow]\nuse = 'constant'\ndecay = 0.9999",
    ],
)
def test_what_an_author_may_write_is_valid(validator, text):
    assert wrong(validator, text) == []


@pytest.mark.parametrize(("kind", "name"), list(genkit.components()))
def test_the_table_of_each_component_is_valid(validator, kind, name):
    if kind != "launcher":  # which stands in no recipe
        assert wrong(validator, defaults.table_of(genkit.components()[kind, name], name)) == []


def test_editors_are_told_what_a_key_and_a_name_mean(validator):
    train = validator.schema["properties"]["train"]["properties"]
    assert train["batch_size"]["description"] == "samples a step, over all processes (default: 64)"
    assert train["batch_size"]["default"] == 64 and "(needed)" in train["steps"]["description"]
    use = validator.schema["definitions"]["loss"]["properties"]["use"]
    told = dict(zip(use["enum"], use["enumDescriptions"], strict=True))
    assert told["l2"] == genkit.components()["loss", "l2"].summary
    assert use["x-taplo"]["docs"]["enumValues"] == use["enumDescriptions"]


def test_it_is_written_where_it_is_asked_for(capsys):
    with pytest.raises(SystemExit):
        cli.main(["recipe", "schema", "--write"])
    told = capsys.readouterr()
    assert told.out == "genkit.schema.json\n" and "#:schema genkit.schema.json" in told.err
    with pytest.raises(SystemExit):
        cli.main(["recipe", "schema"])
    assert capsys.readouterr().out == Path("genkit.schema.json").read_text()
