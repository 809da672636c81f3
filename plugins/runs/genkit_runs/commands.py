"""`genkit runs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from genkit.cli import show
from genkit.cli.options import Json, Run

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _runs() -> None:
    """What has been run."""


@app.command("list")
def list_(
    study: Annotated[str, typer.Option(help="Trials of this study alone, by its folder, name or id.")] = "",
    recipe: Annotated[str, typer.Option(help="Runs of this name alone.")] = "",
    state: Annotated[str, typer.Option(help="Runs in this state alone, such as done or diverged.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many, the newest.", min=0, show_default=False)] = 0,
    every: Annotated[bool, typer.Option("--all", help="Also folders that --fresh renamed.")] = False,
    json: Json = False,
) -> None:
    """Runs, newest first, and in what those of one name differ; a study is one line, in place of its trials.

    With --json every run is told, trials as well, with the studies that it is in.
    """
    import attrs

    from genkit.runs import store
    from genkit_runs import housekeeping

    known = housekeeping.studies()
    chosen = housekeeping.of_study(known, study) if study else None
    found = [s for s in store.runs(lambda text: show.say(f"note: {text}")) if every or ".old" not in s.folder.suffix]
    told = housekeeping.in_what(housekeeping.recipes(found))
    found = [s for s in found if recipe in ("", s.name) and state in ("", s.state)]
    found = [s for s in found if chosen is None or s.folder.resolve() in chosen.trials]
    if json:
        rows = [{**attrs.asdict(s), "differs": told.get(s.folder, "")} for s in found]
        inside = [[k.folder.name for k in known if s.folder.resolve() in k.trials] for s in found]
        show.as_json([{**row, "studies": names} for row, names in zip(rows, inside, strict=True)][: limit or None])
        return
    _listed(housekeeping.lines(found, [] if study else known), told, limit)
    if not found:
        narrowed = study or recipe or state
        show.say(
            f"no runs {'like that ' * bool(narrowed)}in {store.root()}"
            + ": `genkit run ict_digits` makes one" * (not narrowed)
        )


def _listed(lines: list[Any], told: dict[Path, str], limit: int) -> None:
    """Runs and studies as a table, and how many are left out."""
    from genkit.runs import store

    rows = [["run", "state", "step", "differs", "figures"]]
    for s in lines[: limit or None]:
        if isinstance(s, store.Summary):
            figures = _figures(s.figures, s.apart)
            rows.append([s.folder.name, s.state, f"{s.k}/{s.steps}", told.get(s.folder, ""), figures])
        else:
            size = f"{s.arms} arms, {s.seeds} seed{'s' * (s.seeds != 1)}"
            rows.append([f"study {s.folder.name}", s.state, "", size, ""])
    show.table(rows)
    if limit and len(lines) > limit:
        show.say(f"{len(lines) - limit} more; --limit {limit} leaves them out")


def _figures(by_steps: dict[str, dict[str, float]], apart: str = "") -> str:
    """Figures on a line, behind the words that tell them apart from those that the run's recipe asks for."""
    from genkit.evaluation import results

    every = results.figures_of({"steps": {n: {"figures": f} for n, f in by_steps.items()}})
    shown = [f"{name} {value:.3g}" for name, value in every.items() if not results.is_floor(name)]
    return "  ".join([f"({apart})"] * bool(apart) + shown)


@app.command("show")
def show_(run: Run, json: Json = False) -> None:
    """State, figures and size of a run, and in what its recipe differs from the installed one of its name."""
    from genkit.data import records
    from genkit.kernel.loading import installed, load_recipe
    from genkit.runs import store
    from genkit.training import checkpoint
    from genkit_runs import housekeeping

    folder = store.find(run)
    s, lock = store.summary(folder), records.read(folder / "lock.json")
    own = housekeeping.flat(store.recipe_file(folder))
    base = housekeeping.flat(load_recipe(s.name).tree()) if s.name in installed() else {}
    found: dict[str, Any] = {
        "folder": str(folder),
        "id": s.id,
        "state": s.state,
        "step": f"{s.k} of {s.steps}",
        "figures": _figures(s.figures, s.apart),
        "other figures": [_figures(_by_steps(e), e["apart"]) for e in store.evaluations(folder)[1:]],
        "checkpoints": [p.name for p in checkpoint.present(folder / "checkpoints")],
        "best": checkpoint.best(folder / "checkpoints").get("k"),
        "bytes": housekeeping.size(folder),
        "studies": housekeeping.studies_of(folder),
        "made with": {name: lock.get(name) for name in ("genkit", "torch", "device", "threads", "world_size", "git")},
        "differs": {key: [base.get(key), own.get(key)] for key in housekeeping.differing([base, own])} if base else {},
    }
    if json:
        show.as_json(found)
        return
    rows = [[name, _text(value)] for name, value in found.items() if value not in ([], {}, None, "")]
    show.table([["", s.folder.name], *rows])


def _by_steps(evaluation: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {n: row["figures"] for n, row in evaluation["steps"].items()}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{k} {v[0]} -> {v[1]}" if isinstance(v, list) else f"{k} {v}" for k, v in value.items() if v)
        return ", ".join(pairs)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more.", metavar="RUN RUN...")],
    json: Json = False,
) -> None:
    """In what runs differ, side by side: their recipes and their figures."""
    from genkit.errors import RecipeError
    from genkit.runs import store
    from genkit_runs import overview

    if len(runs) < 2:
        raise RecipeError("runs compare", "one run alone differs in nothing", "name two or more")
    rows = overview.told([store.summary(store.find(run)) for run in runs], [])
    found = overview.apart(rows)
    if json:
        show.as_json(found)
        return
    lines = [[key, *map(_number, values)] for kind in found.values() for key, values in kind.items()]
    show.table([["", *(row.summary.folder.name for row in rows)], *lines])


@app.command()
def page(
    out: Annotated[Path | None, typer.Option(help="Where to; index.html of the store if not given.")] = None,
) -> None:
    """Write all runs and studies of the store on one page, to filter, sort and compare; it opens offline."""
    from genkit.runs import store
    from genkit_runs import housekeeping, overview
    from genkit_runs import page as pages

    def damaged(text: str) -> None:
        show.say(f"note: {text}")

    found = [s for s in store.runs(damaged) if ".old" not in s.folder.suffix]
    known = housekeeping.studies()
    print(pages.write(overview.told(found, known), known, out))


def _number(value: object) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command()
def remove(
    run: Annotated[list[str], typer.Argument(help="Runs.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also trials of studies.")] = False,
) -> None:
    """Remove runs, with all that they hold; not those that are running."""
    from genkit.errors import RecipeError
    from genkit.runs import store
    from genkit_runs import housekeeping

    folders = [store.find(name) for name in run]
    for folder in folders:
        housekeeping.removable(folder, force)
    if not yes:
        if not sys.stdin.isatty():
            raise RecipeError("runs remove", "nobody is there to be asked", "give --yes")
        named = ", ".join(folder.name for folder in folders)
        typer.confirm(f"remove {named} ({_mega(sum(map(housekeeping.size, folders)))})?", abort=True)
    housekeeping.remove(folders, lambda path, bytes_: print(f"removed {path} ({_mega(bytes_)})"))


@app.command()
def gc(
    old: Annotated[bool, typer.Option("--old", help="Also folders that --fresh renamed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go.")] = False,
) -> None:
    """Remove half-written files, and checkpoints of finished runs but the last, the best, and those that are kept."""
    from genkit_runs import housekeeping

    found = list(housekeeping.superseded(old))
    if dry_run:
        for path in found:
            print(f"would remove {path} ({_mega(housekeeping.size(path))})")
        print(f"{_mega(sum(map(housekeeping.size, found)))} in {len(found)} places")
        return
    print(f"{_mega(housekeeping.remove(found, _told))} freed in {len(found)} places")


def _told(path: Path, bytes_: int) -> None:
    print(f"removed {path} ({_mega(bytes_)})")


def _mega(bytes_: int) -> str:
    return f"{bytes_ / 1e6:.1f} MB"
