"""`genkit ablate`."""

from __future__ import annotations

import shlex
import sys
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli import show
from genkit.cli.options import Device, Json

if TYPE_CHECKING:
    from genkit_studies.designs import Question
    from genkit_studies.study import Study

ASK_ABOVE = 600  # seconds


def ablate(
    recipe: Annotated[str | None, typer.Argument(help="A recipe or a study file; else the newest run's.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value ...", show_default=False)] = None,
    swap: Annotated[list[str] | None, typer.Option(help="slot=component[,component] or key=value[,value].")] = None,
    start: Annotated[str | None, typer.Option("--from", help="The recipe to start from ...")] = None,
    to: Annotated[str | None, typer.Option(help="... and that to arrive at: what differs is asked about.")] = None,
    design: Annotated[str, typer.Option(help="one-at-a-time, leave-one-out, add-on or grid.")] = "",
    seeds: Annotated[str, typer.Option(help="How many (3), or which (0,1,7); else the recipe's own.")] = "",
    metric: Annotated[str, typer.Option(help="The figure that it is about, such as fd.fd@1.")] = "",
    name: Annotated[str, typer.Option(help="Of the study; else the recipe's, or the study file's.")] = "",
    jobs: Annotated[int | None, typer.Option(help="Trials at a time.", show_default=False)] = None,
    per_device: Annotated[int, typer.Option(help="Trials at a time on each GPU; 0: as many as fit.")] = 0,
    only: Annotated[str, typer.Option(help="failed: run those alone that crashed before.")] = "",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first that crashes.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Try two steps of each arm, show the plan, stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a long plan or a download.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Submit the trials, and leave.")] = False,
    launcher: Annotated[str, typer.Option(help="Where trials run: NAME or NAME={setting=value, ...}.")] = "",
    device: Device = None,
    json: Json = False,
) -> None:
    """Run a recipe and what differs from it, compare; the same command runs only what is missing.

    A study is its name and its baseline: other arms, seeds, samples and metrics are added to it.
    `genkit ablate report STUDY` makes the tables of a study again; `status STUDY`, `wait STUDY` and `cancel STUDY` look
    at its jobs, wait for them and go on, or have them save and leave.
    """
    import attrs

    from genkit.errors import RecipeError
    from genkit_studies import ablation, affordable, launching, planning, progress, running, study, telling, tryouts

    if only not in ("", "failed"):
        raise RecipeError("--only", f"{only!r}", "only failed is known")
    given = list(overrides or [])
    if recipe in (*OF_A_STUDY, "jobs"):
        _of_a_study(recipe, given, json)
        return
    if recipe and "=" in recipe:
        given, recipe = [recipe, *given], None
    if recipe is None and not start:
        chosen, said = ablation.default_recipe()
        recipe = str(chosen)
        show.say(f"note: taking {said}")
    asked = ablation.ask(recipe, swap or [], given, origin=start, to=to, design=design, metric=metric, name=name)
    asked = _with_seeds(asked, seeds)
    where = launching.chosen(launcher, asked.launcher, jobs, per_device)
    launching.require_elsewhere(where, detach)
    with launching.launched(where, device) as (queue, here):
        planned = planning.plan(asked, here)
        untried = ablation.untried(planned, only)
        for arm in (arm for arm in untried if affordable.absent(arm.recipe)):
            show.say(f"note: timing two steps of {arm.label} with random weights: minutes on a CPU")
        tried = tryouts.try_out(planned, queue, untried)
        measured = {**planned.measured, **tried}
        planned = attrs.evolve(planned, measured=measured)
        queue.share(measured, per_device)
        wanted = running.missing(planned, only)
        slots = telling.at_a_time(planned, wanted, measured, queue)
        for notice in (*planned.notices, *telling.lacking(untried, tried), *telling.idle(planned, wanted, only)):
            show.say(f"note: {notice}")
        if dry_run and json:
            seconds = {label: one["seconds"] for label, one in tried.items()}
            show.as_json({**study.as_plain(planned), "seconds": seconds, "to_run": len(wanted)})
        else:
            whole = telling.plan(planned, wanted, measured, slots, to_stdout=dry_run)
            for sentence in telling.packed(planned, wanted, queue):
                show.say(sentence)
            again = ["genkit", "ablate", str(recipe), *given, *(["--seeds", seeds] if seeds else [])]
            each = {label: one["seconds"] for label, one in tried.items()}
            for sentence in affordable.offers(planned, each, here, shlex.join(again) if swap else ""):
                show.say(sentence)
        if not (dry_run or yes):
            affordable.require(planned, wanted)
        if dry_run or not (yes or _agreed(whole)):
            return
        with progress.watching(planned, wanted, measured, slots) as watch:
            done = running.run(
                planned, queue, wanted, fail_fast=fail_fast, detach=detach, watch=watch, measured=measured
            )
    telling.submitted(done, wanted, json) if detach else _present(done, json)


def estimate(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of an installed recipe.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value ...", show_default=False)] = None,
    out: Annotated[Path | None, typer.Option(help="Write the seconds there, as JSON.")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Try a recipe's components, two steps, samplers and metrics, and say how long a run of it will take."""
    from genkit.data import atomic, files
    from genkit.kernel.loading import load_recipe
    from genkit_studies import affordable
    from genkit_studies.estimate import estimate as estimated

    chosen = load_recipe(recipe, overrides or [])
    for file in affordable.absent(chosen):
        show.say(f"note: tried with random weights, for it {files.wanted(file)}")
    found = estimated(chosen, device)
    if out:
        atomic.write(out, dumps(found))
    elif json:
        show.as_json(found)
    else:
        print(
            f"{show.clock(found['seconds'])}: {found['step']:.3g} s a step, {found['evaluation']:.3g} s of evaluations"
        )


def _with_seeds(asked: Question, text: str) -> Question:
    """The question with `--seeds 3`, from the recipe's own on, or `--seeds 0,1,7`."""
    import attrs

    from genkit.errors import RecipeError

    if not text:
        return asked
    try:
        numbers = [int(part) for part in text.split(",")]
        if min(numbers) < 0 or (len(numbers) == 1 and not 1 <= numbers[0] <= 10_000):
            raise ValueError
    except ValueError:
        raise RecipeError("--seeds", f"{text!r} says not which", "give how many, 3, or which, 0,1,7") from None
    first = asked.base.tree.get("train", {}).get("seed", 0)
    return attrs.evolve(asked, seeds=tuple(numbers if "," in text else range(first, first + numbers[0])))


def _agreed(seconds: float) -> bool:
    if seconds <= ASK_ABOVE or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    return typer.confirm(f"This takes about {show.clock(seconds)}. Go on?", err=True)


def _of_a_study(word: str, given: list[str], json: bool) -> None:
    """`report`, `status`, `wait` or `cancel`, and the study that is meant."""
    from genkit.errors import RecipeError
    from genkit_studies import study

    if len(given) > 1:
        raise RecipeError(f"ablate {word}", f"{len(given)} studies", "name one")
    if word == "jobs":
        _jobs(Path(given[0]))
    else:
        OF_A_STUDY[word](study.find(given[0] if given else "latest"), json)


def _report(folder: Path, json: bool) -> None:
    """The tables of a study, made again from what is stored."""
    from genkit_studies import comparison, page, study, table, telling

    found = study.load(folder)
    rows = comparison.compare(found)
    files = [*table.write(found, rows), page.write(found, rows)]
    show.as_json(table.as_plain(found, rows)) if json else telling.compared(found, rows, files)


def _status(folder: Path, json: bool) -> None:
    """How far a study is, as its folder, its runs and its launcher say."""
    from genkit_studies import attached, progress, study, telling

    now, slots = attached.look(folder)
    if json:
        show.as_json({**study.as_plain(now), "counts": progress.counts(now)})
    else:
        telling.status(now, slots)


def _wait(folder: Path, json: bool) -> None:
    """Look after the jobs of a study until the last has ended, then compare."""
    from genkit_studies import attached

    _present(attached.wait(folder), json)


def _cancel(folder: Path, json: bool) -> None:
    """Have the jobs of a study save and leave, and whoever looks after them."""
    from genkit_studies import attached

    told = attached.cancel(folder)
    show.as_json({"cancelled": told}) if json else print(f"{told} trials were told to save and leave: {folder}")


def _jobs(file: Path) -> None:
    """In a job: those of a pack."""
    from genkit_studies import packs

    raise typer.Exit(packs.run(file))


OF_A_STUDY = {"report": _report, "status": _status, "wait": _wait, "cancel": _cancel}


def _present(done: Study, json: bool) -> None:
    """The table, what it says, and the exit code."""
    from genkit_studies import comparison, page, study, table, telling

    rows = comparison.compare(done)
    table.write(done, rows)
    report = page.write(done, rows)
    if (looked := comparison.looked(done)) != done:
        study.save(looked)
    show.as_json(study.as_plain(done)) if json else telling.compared(done, rows, [report])
    states = {trial.state for trial in done.trials}
    if states & {"crashed", "out-of-memory"}:
        raise typer.Exit(5)
    if states - {"done", "diverged"}:
        raise typer.Exit(75)
