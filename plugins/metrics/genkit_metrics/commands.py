"""`genkit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genkit.cli import show
from genkit.cli.options import Device, Json
from genkit.runs import store

MODELS = (".safetensors", ".pt2", ".onnx")  # files that `genkit export` writes
AGAINST = "Data set, recipe or statistics; statistics for a RUN, whose recipe names its data."


def evaluate(
    what: Annotated[
        str, typer.Argument(help="A run, or a file of `genkit export`; or samples: a folder of pictures, .h5 or .npz.")
    ],
    against: Annotated[str | None, typer.Option(help=AGAINST)] = None,
    steps: Annotated[str | None, typer.Option(help="Numbers of sampling steps: 1,2")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="How many samples.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How often, each time from other latents.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first latents.")] = None,
    weights: Annotated[str | None, typer.Option(help="ema, raw, or the name of another average.")] = None,
    checkpoint: Annotated[str, typer.Option(help="latest, best, or a step.")] = "latest",
    protocol: Annotated[str | None, typer.Option(help="How published figures were made, such as edm-fid.")] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Of samples that are there: fd,precision-recall; else fd.")
    ] = None,
    features: Annotated[str, typer.Option(help="Features of these; else the statistics' own, or inception.")] = "",
    device: Device = None,
    json: Json = False,
) -> None:
    """Evaluate a run, as its recipe says or otherwise; or samples that are there, against data or statistics."""
    from genkit.evaluation import scoring
    from genkit.kernel import resolving
    from genkit.training import processes
    from genkit_metrics import evaluating, exported, external

    with show.progress() as watch:
        if _are_samples(Path(what)):
            at = checkpoint if checkpoint != "latest" else None
            _require(against, steps=steps, seeds=seeds, seed=seed, weights=weights, checkpoint=at)
            features = features or external.features_of(Path(str(against))) or "inception"
            slots = {
                name: resolving.component("metric", name, features=features) for name in (metrics or "fd").split(",")
            }
            found = external.evaluate(
                what,
                str(against),
                slots,
                protocol=resolving.component("protocol", protocol or "edm-fid"),
                count=samples,
                device=processes.start(processes.pick_device(device)),
                watch=scoring.progress(watch),
                say=lambda text: watch({"event": "notice", "text": text}),
            )
        else:
            _not_of_runs(metrics=metrics, features=features)
            settings: dict[str, Any] = {"samples": samples, "seeds": seeds, "seed": seed, "weights": weights}
            settings |= {"protocol": protocol, "steps": _numbers(steps)}
            settings["reference"] = str(Path(against).absolute()) if against else None
            given = {k: v for k, v in settings.items() if v is not None}
            if store.weights_in(Path(what)):
                _as_it_is(weights=weights, checkpoint=None if checkpoint == "latest" else checkpoint)
                found = exported.evaluate(what, given, device=device, watch=watch)
            else:
                found = evaluating.evaluate(what, at=checkpoint, device=device, watch=watch, **given)
    if processes.rank() == 0:
        show.as_json(found) if json else present(found)


def present(found: dict[str, Any]) -> None:
    """The table, and below it how it was made."""
    from genkit.evaluation import results

    show.table(results.figures_table(found))
    print(results.protocol_line(found))


def _are_samples(path: Path) -> bool:
    if path.suffix in MODELS or (path.is_dir() and store.weights_in(path)):
        return False
    return path.is_file() or (path.is_dir() and not (path / "lock.json").exists())


def _require(against: str | None, **unused: Any) -> None:
    from genkit.errors import RecipeError

    if against is None:
        raise RecipeError("--against", "is missing", "say what the samples are held against: a data set or statistics")
    for name, value in unused.items():
        if value is not None:
            raise RecipeError(f"--{name}", "is for runs; samples that are there are not drawn", "leave it out")


def _as_it_is(**given: str | None) -> None:
    from genkit.errors import RecipeError

    for name in (name for name, value in given.items() if value):
        raise RecipeError(f"--{name}", "is for runs; a model that was exported is as it is", "leave it out")


def _not_of_runs(**given: str | None) -> None:
    from genkit.errors import RecipeError

    for name, value in given.items():
        if value:
            raise RecipeError(
                f"--{name}", "is for samples that are there; a run's metrics are its recipe's", "leave it out"
            )


def _numbers(steps: str | None) -> tuple[int, ...] | None:
    from genkit.errors import RecipeError

    numbers = tuple(steps.split(",")) if steps else ()
    if not all(n.isdecimal() and len(n) < 10 and int(n) > 0 for n in numbers):
        raise RecipeError("--steps", f"{steps!r} is no list of numbers of steps", "for instance 1,2")
    return tuple(map(int, numbers)) or None
