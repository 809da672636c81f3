"""`genkit run`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from genkit.cli import show, streams
from genkit.cli.options import Device, Json, Overrides, Recipe, Swap
from genkit.hookspecs import Lazy


def run(
    recipe: Recipe,
    overrides: Overrides = None,
    swap: Swap = None,
    device: Device = None,
    out: Annotated[Path | None, typer.Option(help="The run folder itself.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew; the old folder is renamed.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Repeat in a folder of its own.")] = False,
    gpus: Annotated[int, typer.Option(min=1, help="Processes, each with a GPU of its machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines that --launcher is to take.")] = 1,
    launcher: Annotated[str, typer.Option(help="Submit it, and leave: NAME or NAME={setting=value, ...}.")] = "",
    trial: Annotated[tuple[str, str] | None, typer.Option(hidden=True, help="Its study and arm.")] = None,
    json: Json = False,
) -> None:
    """Train a recipe, evaluate it and write its report; or go on where it stopped."""
    from genkit.kernel import registry

    if gpus > nodes == 1 and not launcher and "WORLD_SIZE" not in os.environ:
        spread = Lazy("genkit_runs.spread:spread", "The same command in several processes.")
        registry.imported(spread, "--gpus, of genkit-lab-runs")(gpus, sys.argv[1:])
        return
    from genkit.kernel.loading import load_recipe
    from genkit.runs import models, planning, running, store
    from genkit.training import processes

    with models.made_with(Path(recipe).parent):
        checked = load_recipe(recipe, overrides or [], swap or [])
    for notice in checked.notices:
        show.say(f"note: {notice}")
    if (launcher or nodes > 1) and not dry_run and "WORLD_SIZE" not in os.environ:
        submit = Lazy("genkit_studies.elsewhere:submit", "The same command as a job.")
        registry.imported(submit, "--launcher, of genkit-lab-studies")(launcher, nodes, gpus, device, sys.argv[1:])
        return
    if device == "mps":
        show.say("note: mps is untested")
    if dry_run:
        planned = planning.plan(checked, out, device)
        planned.try_out()
        for notice in planned.notes():
            show.say(f"note: {notice}")
        described = describe(planned)
        show.as_json(described) if json else show.table([["", ""], *([k, str(v)] for k, v in described.items())])
        return
    with show.progress() as watch:
        result = running.run(checked, out, device=device, fresh=fresh, again=again, trial=trial or (), watch=watch)
    if why := streams.lost():
        store.event(result.folder, event="notice", text=f"not all of it could be told: {why}")
    if processes.rank() == 0:
        with show.results(str(result.folder)):
            present(result, json)


def describe(planned: object) -> dict[str, object]:
    """What a run would be, and how far it is."""
    from genkit.kernel import discovery
    from genkit.runs.planning import Plan
    from genkit.training import checkpoint

    assert isinstance(planned, Plan)
    newest, _ = checkpoint.latest(planned.folder / "checkpoints")
    recipe, done = planned.recipe, checkpoint.step_of(newest) if newest else 0
    curriculum = getattr(recipe.objective, "curriculum", None)
    asked = range(0, recipe.train.steps, max(1, recipe.train.steps // 10_000))
    stages = sorted({curriculum(k, recipe.train.steps) for k in asked}) if curriculum else []
    shown = stages if len(stages) <= 12 else [*stages[:3], "...", *stages[-3:]]
    each = discovery.installed().manager.hook.genkit_step_seconds(planned=planned)
    left, eager = recipe.train.steps - done, ", uncompiled" * bool(recipe.train.compile)
    return {
        "recipe": recipe.name,
        "id": planned.id,
        "folder": str(planned.folder),
        "data": f"{len(planned.data)} samples of {planned.data.spec.shape}, {planned.data.identity}",
        "parameters": sum(p.numel() for p in planned.program().student.parameters()),
        "steps": f"{done} of {recipe.train.steps} done, {recipe.train.batch_size} samples each",
        **({"grid points": ", ".join(map(str, shown))} if stages else {}),
        "device": f"{planned.context.device}, {recipe.train.kernels}",
        **({"time": f"about {show.clock(left * each)}, {1000 * each:.3g} ms a step{eager}"} if each else {}),
    }


def present(result: object, json: bool) -> None:
    """The figures and the paths of a run that is done."""
    from genkit.evaluation import results
    from genkit.runs.running import RunResult

    assert isinstance(result, RunResult)
    pictures = sorted(str(p) for p in (result.folder / "samples").glob("final-*.png"))
    reports = list(map(str, result.reports))
    if json:
        told: dict[str, object] = {"folder": str(result.folder), "id": result.id, "figures": result.figures}
        told |= {"evaluation": result.evaluation, "samples": pictures, "report": next(iter(reports), None)}
        show.as_json(told)
        return
    for notice in result.notices:
        show.say(f"note: {notice}")
    if result.evaluation.get("steps"):
        show.table(results.figures_table(result.evaluation))
        print(results.protocol_line(result.evaluation))
        print()
    for path in pictures:
        print(f"samples  {path}")
    for path in reports:
        print(f"report   {path}")
