"""From a question to arms: swaps, settings, two recipes, study files; what each design makes of them; bad input."""

import re
from pathlib import Path

import attrs
import pytest

from genkit.errors import GenkitError, RecipeError
from genkit.kernel.loading import load_recipe
from genkit.kinds import slots
from genkit_studies import ablation, designs, factors, files, planning
from genkit_studies import changes as changes_of
from genkit_studies.designs import Factor, Option

SWAPS = ["loss=l2", "noise=uniform", "network.dropout=0.1"]
ON = {"loss=l2": "loss: pseudo-huber -> l2", "noise=uniform": "noise: lognormal -> uniform",
      "network.dropout=0.1": "network.dropout: 0.0 -> 0.1"}  # fmt: skip
OFF = {name: re.sub(r"(.*): (.*) -> (.*)", r"\1: \3 -> \2", change) for name, change in ON.items()}


def arms(*swaps, recipe="ict_digits", **told):
    return designs.arms(ablation.ask(recipe, list(swaps), **told))


def changes(found):
    return {arm.label: set(arm.changes) for arm in found}


def test_one_at_a_time_is_the_baseline_and_each_option_alone():
    found = arms(*SWAPS, "loss=l1")
    assert found[0].recipe == load_recipe("ict_digits")
    wanted = {name: {change} for name, change in ON.items()}
    assert changes(found) == {"baseline": set(), **wanted, "loss=l1": {"loss: pseudo-huber -> l1"}}
    assert [arm.label for arm in found][1:3] == ["loss=l2", "loss=l1"]  # the options of a slot stand together
    assert found[1].recipe == load_recipe("ict_digits", swaps=["loss=l2"])


def test_leave_one_out_is_all_and_all_but_one():
    found = arms(*SWAPS, design="leave-one-out")
    assert changes(found) == {"baseline": set(), **{f"without {name}": {change} for name, change in OFF.items()}}
    assert set(changes_of.differences(load_recipe("ict_digits"), found[0].recipe)) == set(ON.values())


def test_add_on_is_one_more_in_each_row_in_their_order():
    found = arms(*SWAPS, design="add-on")
    assert [arm.label for arm in found] == ["baseline", *(f"+ {name}" for name in SWAPS)]
    assert [set(arm.changes) for arm in found] == [{ON[name] for name in SWAPS[:i]} for i in range(4)]


def test_a_grid_is_every_combination_once():
    found = arms("loss=l2,l1", "noise=uniform", design="grid")
    pairs = {(type(a.recipe.objective.loss).__name__, type(a.recipe.objective.noise).__name__) for a in found}
    assert len(found) == len(pairs) == 6 and found[0].label == "baseline"
    assert "loss=l1, noise=uniform" in changes(found)


def test_an_excluded_combination_makes_no_arm():
    question = ablation.ask("ict_digits", ["loss=l2,l1", "noise=uniform"], design="grid")
    less = attrs.evolve(question, excluded=({"loss": "loss=l2", "noise": "noise=uniform"},))
    assert {a.label for a in designs.arms(question)} - {a.label for a in designs.arms(less)} == {
        "loss=l2, noise=uniform"
    }


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("l2,l1", ["l2", "l1"]),
        ('{use="pseudo-huber", c=0.1}, l2', ['{use="pseudo-huber", c=0.1}', "l2"]),
        ('"a,b",[1, 2],x', ['"a,b"', "[1, 2]", "x"]),
        ("0.1", ["0.1"]),
    ],
)
def test_commas_part_options_only_outside_brackets_and_quotes(text, parts):
    assert factors.split(text) == parts


def test_a_swap_replaces_the_table_and_a_setting_changes_one_value():
    _, swapped, changed = arms('curriculum={use="exponential", s1=640}', "curriculum.s1=320")
    assert (swapped.recipe.objective.curriculum.s0, swapped.recipe.objective.curriculum.s1) == (10, 640)
    assert changed.recipe.objective.curriculum.s1 == 320
    (_, named) = arms("optimizer.decay=constant")  # a word for a setting is no component
    assert named.changes == ("optimizer.decay: cosine -> constant",)


def test_what_a_swap_changes_beyond_its_name_is_marked():
    """`optimizer=adam` is another learning rate, too: the rate of the recipe's own table went with that table."""
    plain, named, loss = arms("optimizer=adam", 'optimizer={use="adam", lr=2e-3, decay="cosine"}', "loss=l2")[1:]
    assert plain.changes[0] == "optimizer: radam -> adam"
    assert "also optimizer.lr: 0.002 -> 0.0001" in plain.changes
    assert named.changes == ("optimizer: radam -> adam",)
    assert loss.changes == ("loss: pseudo-huber -> l2",)
    (_, reset) = arms("optimizer=radam")  # the same component, and yet another run
    assert reset.changes == ("also optimizer.lr: 0.002 -> 0.0001", "also optimizer.decay: cosine -> constant")
    without = designs.arms(ablation.ask("ict_digits", ["optimizer=adam", "loss=l2"], design="leave-one-out"))
    assert "also optimizer.lr: 0.0001 -> 0.002" in without[1].changes and not without[2].changes[1:]


def test_settings_for_all_arms_go_below_the_swaps():
    found = arms("loss=l2", overrides=["loss.c=0.5", "train.steps=7"])
    assert found[0].recipe.objective.loss.c == 0.5 and {arm.recipe.train.steps for arm in found} == {7}


def test_two_recipes_are_a_baseline_and_the_factors_between_them():
    found = arms(recipe=None, origin="ict_digits", to="ct_digits")
    ours, theirs = load_recipe("ict_digits"), load_recipe("ct_digits")
    assert found[0].recipe == ours and len(found) == 8
    every = set(changes_of.differences(ours, theirs))
    assert set.union(*(set(arm.changes) for arm in found)) == every and len(every) == 7
    rows = arms(recipe="ct_digits", origin="ict_digits", design="add-on")
    assert set(rows[-1].changes) == every and not changes_of.differences(rows[-1].recipe, theirs)
    out = arms(recipe=None, origin="ict_digits", to="ct_digits", design="leave-one-out")
    assert not changes_of.differences(out[0].recipe, theirs) and all(len(arm.changes) == 1 for arm in out[1:])


def test_an_arm_may_be_another_recipe_on_the_data_and_for_the_length_of_this_one():
    Path("b.toml").write_text(
        'extends = "ct_digits"\n[train]\nbatch_size = 8\n[dataset]\nuse = "ring"\n[loss]\nuse = "l1"\n'
    )
    base, other, ct = arms("recipe=b.toml,ct_digits", overrides=["train.steps=7", "network.dropout=0.1"])
    theirs, l1 = (
        load_recipe("ct_digits", ["train.steps=7", "network.dropout=0.1", *more]) for more in ([], ["loss.use=l1"])
    )
    assert other.recipe.dataset == base.recipe.dataset and other.recipe.train == base.recipe.train
    assert not changes_of.differences(ct.recipe, theirs) and not changes_of.differences(other.recipe, l1)
    assert (other.label, ct.label) == ("recipe=b.toml", "recipe=ct_digits") and "also" not in " ".join(ct.changes)
    with pytest.raises(RecipeError, match="do not differ in what is trained"):
        arms("recipe=ict_digits")
    Path("s.toml").write_text(
        'genkit = 1\nrecipe = "ict_digits"\n[[factor]]\nkey = "recipe"\nvalues = ["b.toml"]\nlabels = ["CT"]\n'
    )
    (_, told) = arms(recipe="s.toml", overrides=["train.steps=7", "network.dropout=0.1"])
    assert told.label == "CT" and not changes_of.differences(told.recipe, l1)


def test_settings_of_training_are_factors_and_the_seed_is_none():
    Path("b.toml").write_text('extends = "ict_digits"\n[train]\nbatch_size = 8\nseed = 5\n')
    found = arms(recipe=None, origin="ict_digits", to="b.toml", design="add-on")
    assert found[-1].recipe.train == attrs.evolve(load_recipe("b.toml").train, seed=0) and len(found) == 2


LABELS = ["dataset.labels=true", "objective.label_drop=0.1", "network.dropout=0.1", "noise.p_std=1.5"]


@pytest.mark.parametrize(
    ("recipe", "objective"),
    [
        *(("ect_digits", other) for other in ("diffusion", "meanflow", "scm", "imm", "ctm", "shortcut")),
        *(("edm_digits", other) for other in ("consistency", "alpha-flow", "scm", "ctm")),
    ],
)
def test_a_swap_of_the_objective_keeps_what_both_have_and_names_the_rest(recipe, objective):
    """Network, noise law, optimizer and the chance of the null class stay; the sampler is one of such models."""
    base, other = arms(f"objective={objective}", recipe=recipe, overrides=LABELS)
    was, now = base.recipe.objective, other.recipe.objective
    assert now.network == was.network and now.label_drop == was.label_drop == 0.1
    assert getattr(now, "noise", was.noise) == was.noise and other.recipe.optimizer == base.recipe.optimizer
    assert now.sampler.needs == now.predicts
    told = {change.removeprefix("also ").partition(":")[0].partition(".")[0] for change in other.changes}
    both = {*slots(type(was)), *slots(type(now))}
    assert told == {"objective"} | {n for n in both if getattr(was, n, None) != getattr(now, n, None)}


def test_scalings_of_two_times_are_refused_for_a_model_of_one():
    with pytest.raises(RecipeError, match="'ctm' is of models of 2 times, this objective's have 1"):
        arms("parameterization=ctm")


def test_levels_and_sampler_are_those_of_the_method_where_objectives_differ():
    (base, other) = arms("recipe=shortcut_digits")
    assert (base.recipe.levels.sigma_max, other.recipe.levels.sigma_max) == (80, 1000)
    assert "levels.sigma_max: 80.0 -> 1000.0" in other.changes


def test_levels_are_part_of_how_one_evaluates_and_no_factor():
    Path("b.toml").write_text('extends = "ict_digits"\n[levels]\nsigma_max = 40.0\n')
    with pytest.raises(RecipeError, match=r"evaluated otherwise than the baseline \(levels\)"):
        arms(recipe=None, origin="ict_digits", to="b.toml")


# ---- study files ---------------------------------------------------------------------------------

WHOLE = """
genkit = 1
recipe = "ict_digits"
about = "what it asks"
design = "leave-one-out"
baseline = "iCT"
seeds = [0, 1]
metric = "fd.fd@1"
set = { "train.steps" = 900 }

[[factor]]
label = "lognormal noise"
without = { noise = "uniform" }

[[factor]]
name = "teacher"
label = "stop-grad"
without = { teacher = { use = "ema", mu0 = 0.9 }, "optimizer.lr" = 1e-3 }

[[factor]]
key = "network.dropout"
values = [0.1]
"""


def asked(text, name="x.toml", **told):
    Path(name).write_text(text)
    return ablation.ask(name, **told)


def test_a_study_file_is_a_question():
    question = asked(WHOLE)
    found = designs.arms(question)
    assert changes(found) == {
        "iCT": set(),
        "without lognormal noise": {"noise: lognormal -> uniform"},
        "without stop-grad": {"teacher: stop-grad -> ema", "optimizer.lr: 0.002 -> 0.001"},
        "without network.dropout=0.1": {"network.dropout: 0.1 -> 0.0"},
    }
    assert (question.name, question.seeds, question.metric) == ("x", (0, 1), "fd.fd@1")
    assert {arm.recipe.train.steps for arm in found} == {900}
    rows = designs.arms(asked(WHOLE, design="add-on", seeds=(7,), overrides=["train.steps=8"]))
    assert [arm.label for arm in rows][1:] == ["+ lognormal noise", "+ stop-grad", "+ network.dropout=0.1"]
    assert (
        rows[0].recipe.objective.teacher.mu0 == 0.9
        and rows[-1].recipe.objective.teacher != rows[0].recipe.objective.teacher
    )
    assert {arm.recipe.train.steps for arm in rows} == {8}


def test_a_study_file_of_two_recipes_beside_it(tmp_path):
    Path("papers").mkdir()
    Path("papers/mine.toml").write_text('extends = "ict_digits"\n[loss]\nuse = "l1"\n')
    found = designs.arms(asked('genkit = 1\nfrom = "ict_digits"\nto = "mine.toml"\n', "papers/table.toml"))
    assert changes(found)["loss=l1"] == {"loss: pseudo-huber -> l1"}


def test_exclusions_are_by_factor_and_label():
    text = 'recipe = "ict_digits"\ndesign = "grid"\nexclude = [{ loss = "loss=l2", "network.dropout" = "a" }]\n'
    sweep = '[[factor]]\nkey = "{}"\nvalues = {}\nlabels = {}\n'
    whole = (
        text + sweep.format("loss", '["l2", "l1"]', "[]") + sweep.format("network.dropout", "[0.1, 0.2]", '["a", "b"]')
    )
    labels = {arm.label for arm in designs.arms(asked(whole))}
    assert len(labels) == 8 and "loss=l2, a" not in labels and "loss=l1, a" in labels


@pytest.mark.parametrize("path", sorted(files.installed().values()), ids=lambda path: path.stem)
def test_every_study_that_comes_along_asks_something(path):
    question = files.question(path)
    found = designs.arms(question)
    assert len(found) >= 2 and question.seeds and question.metric
    assert all(arm.changes for arm in found[1:])
    assert len({arm.label for arm in found}) == len(found)


# ---- bad input: all of it at once, with the closest names, and exit code 2 -----------------------


@pytest.mark.parametrize(
    ("swaps", "told"),
    [
        (["los=l2", "loss=l3"], ["did you mean 'loss'?", "no loss named 'l3'"]),
        (["nosie=uniform", "loss.cc=3", "network.model_channels=foo"], ["'noise'", "unknown key 'cc'", "expected int"]),
        (["loss="], ["names nothing"]),
        (["loss"], ["names nothing"]),
        (["loss=l2,,l1"], ["empty place"]),
        (["loss=l2", "loss=l2"], ["'loss=l2': stands twice"]),
        (["loss=l2,l2", "noise="], ["stands twice", "names nothing"]),
        (["loss=pseudo-huber"], ["same run as 'baseline'", "leave it out"]),
        (["loss=l2", 'loss={use="l2"}'], ["same run as 'loss=l2'"]),
        (["train.log_every_steps=7"], ["same run as 'baseline'"]),
        (["metrics.fd=pr", "evaluate.samples=3"], ["metrics.fd: all arms share it", "evaluate.samples: all arms"]),
        (["train.seed=1,2"], ["--seeds"]),
        (["train=3"], ["table of settings"]),
        ([], ["nothing to swap"]),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_swaps_are_told_all_at_once(swaps, told):
    with pytest.raises(RecipeError) as error:
        arms(*swaps)
    assert error.value.exit_code == 2
    for part in told:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("swaps", "told", "text"),
    [
        (SWAPS, {"design": "gird"}, "did you mean 'grid'?"),
        (["loss=l2,l1"], {"design": "add-on"}, "several options"),
        (["train.batch_size=" + ",".join(map(str, range(40, 52))), "loss=l1,l2", "network.dropout=0.1,0.2"],
         {"design": "grid"}, "makes 117 arms, and 100 are the limit"),
        (["train.batch_size=" + ",".join(map(str, range(40, 150)))], {}, "makes 110 arms"),
        (["loss=l2"], {"origin": "ict_digits", "to": "ct_digits"}, "--swap beside --from"),
        ([], {"recipe": None, "origin": "ict_digits", "to": "ict_digits"}, "do not differ"),
        ([], {"origin": "ict_digits", "to": "ct_digits"}, "ict_digits beside --from and --to"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_designs_are_a_line(swaps, told, text):
    with pytest.raises(RecipeError, match=text):
        arms(*swaps, **told)


FACTOR = '[[factor]]\nkey = "loss"\nvalues = ["l2"]\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('recipe = "ict_digits"\nsedes = [1]\n' + FACTOR, ["x.toml:2", "unknown key 'sedes'", "did you mean 'seeds'?"]),
        ('recipe = "ict_digits"\nseeds = 3\n' + FACTOR, ["expected a list, got 3"]),
        (FACTOR, ["names no recipe"]),
        ('recipe = "ict_digits"\nfrom = "ct_digits"\n' + FACTOR, ["names no recipe to start from"]),
        ('recipe = "ict_digit"\n' + FACTOR, ["did you mean 'ict_digits'"]),
        ('recipe = "ict_digits"\n[[factor]]\nkye = "loss"\n[[factor]]\nkey = "loss"\nvalues = []\n',
         ["x.toml:2", "unknown key 'kye'", "did you mean 'key'", "x.toml:4", "no values"]),
        ('recipe = "ict_digits"\n[[factor]]\nlabel = "x"\n', ["says not what changes"]),
        ('recipe = "ict_digits"\n[[factor]]\nchange = { loss = "l3" }\n', ["x.toml:2", "no loss named 'l3'"]),
        ('recipe = "ict_digits"\n[[factor]]\nkey = "loss"\nvalues = ["l2", "l2"]\n', ["loss=l2 stands twice"]),
        ('recipe = "ict_digits"\n[[factor]]\nkey = "loss"\nvalues = ["l2"]\nlabels = ["a", "b"]\n', ["1 values and 2"]),
        ('recipe = "ict_digits"\nexclude = [{ lss = "l2" }]\n' + FACTOR, ["no factor 'lss'", "factors: loss"]),
        ('recipe = "ict_digits"\nexclude = [{ loss = "l3" }]\n' + FACTOR, ["no option 'l3'", "loss=l2"]),
        ('recipe = "ict_digits"\nset = 3\n' + FACTOR, ["expected a table, got 3"]),
        ('recipe = "ict_digits"\nset = { "train.stesp" = 3 }\n' + FACTOR, ["x.toml:2", "unknown key 'stesp'"]),
        ('recipe = "ict_digits"\nfactor = 3\n', ["expected a table, got 3"]),
        ('recipe = "ict_digits"\n[[factor]]\nchange = "loss=l2"\n', ["x.toml:2", "expected a table of changes"]),
        ('recipe = "ict_digits"\nfactor = [\n', ["is not TOML"]),
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_study_file_is_told_with_its_lines(text, told):
    with pytest.raises(GenkitError) as error:
        designs.arms(asked(text))
    assert error.value.exit_code == 2
    for part in told:
        assert part in str(error.value)


def test_a_study_file_takes_no_swaps_beside():
    with pytest.raises(RecipeError, match="has its own factors"):
        asked(WHOLE, swaps=["loss=l2"])


def test_arms_that_are_evaluated_otherwise_are_refused():
    Path("other.toml").write_text('extends = "ict_digits"\n')
    question = ablation.ask("ict_digits", ["loss=l2"])
    place = question.factors[0].options[0].edits[0].place
    wrong = Option(label="few", edits=(designs.Edit(("evaluate", "samples"), 7, place),))
    with pytest.raises(RecipeError, match=r"evaluated otherwise than the baseline \(samples\)"):
        designs.arms(attrs.evolve(question, factors=(*question.factors, Factor(name="x", options=(wrong,)))))
    with pytest.raises(RecipeError, match=r"evaluated otherwise than the baseline \(dataset\)"):
        designs.arms(ablation.ask("ict_ring", ["dataset.radius=2"]))
    augmented = designs.arms(ablation.ask("ict_digits", ["dataset.augment=0.12"]))  # of training alone
    assert [arm.recipe.dataset.augment for arm in augmented] == [0.0, 0.12]


@pytest.mark.parametrize(
    ("changed", "told"), [({"name": "../../x"}, "can name no folder"), ({"seeds": (-1, 2)}, "-1 to 2")], ids=str
)
def test_a_plan_has_a_folder_and_seeds(changed, told):
    with pytest.raises(RecipeError, match=told):
        planning.plan(attrs.evolve(ablation.ask("ict_ring", ["loss=l2"]), **changed), "cpu")
