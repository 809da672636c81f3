"""`genkit bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from genkit.cli import show
from genkit.cli.options import Device, Json, Overrides, Recipe, Swap


def bench(
    recipe: Recipe,
    overrides: Overrides = None,
    swap: Swap = None,
    steps: Annotated[int, typer.Option(help="Steps that are timed, and as many of their floor.", min=1)] = 30,
    watts: Annotated[float | None, typer.Option(help="What one device draws, for the energy.", min=0.0)] = None,
    profile: Annotated[Path | None, typer.Option(help="Write a trace of some steps, for Perfetto.")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Take some steps of a recipe; say what they cost, beside the bare passes of their networks. Nothing is kept."""
    from genkit.errors import RecipeError
    from genkit.kernel.loading import load_recipe
    from genkit.runs import planning
    from genkit_bench import measuring

    if profile and not profile.absolute().parent.is_dir():
        raise RecipeError("--profile", f"{profile.parent} is no folder", "make it")
    checked = load_recipe(recipe, overrides or [], swap or [])
    for notice in checked.notices:
        show.say(f"note: {notice}")
    found = measuring.measure(planning.plan(checked, device=device), steps, watts, profile)
    show.as_json(found) if json else _present(found)
    if profile:
        show.say(f"trace {profile}: open it at https://ui.perfetto.dev")


def _present(found: dict[str, Any]) -> None:
    from genkit_bench.parts import ABOUT

    show.table([["", ""], *([name, text] for name, text in _rows(found).items())])
    print()
    whole = sum(found["parts"].values())
    split = [[n, f"{1000 * s:.2f}", f"{s / whole:.1%}", ABOUT[n]] for n, s in found["parts"].items()]
    show.table([["part of a step", "ms", "share", ""], *split])
    print()
    energy = f"{found['kwh']:.3g}" if found["kwh"] else "not known: --watts"
    hours = [[str(n), f"{h:.3g}", energy] for n, h in found["hours"].items()]
    show.table([["devices", "hours of training, at least", "kWh"], *hours])
    show.say("note: 8 and 64 devices are taken to scale perfectly, which they will not; evaluations are not in it")


def _rows(found: dict[str, Any]) -> dict[str, str]:
    """The figures but for the parts and the hours, as text."""
    seconds, memory, ratio = found["seconds"], found["memory"], found["ratio"]
    extra = found["bookkeeping"]
    compiled = ", compiled" * found["compile"]
    share = (
        f"{found['share_of_peak']:.1%}" if found["peak"] else f"no published peak is on record for {found['device']}"
    )
    return {
        "recipe": f"{found['recipe']}, {found['batch_size']} images a step, {found['precision']}{compiled}",
        "device": f"{found['device']}, {found['threads']} CPU threads, torch {found['versions']['torch']}",
        "parameters": f"{found['parameters']:,}",
        "FLOPs an image": f"{found['flops_per_image']:.3g}",
        "bytes a parameter": f"{found['bytes_per_parameter']:.1f}, gradients among them",
        "memory": f"{_mega(memory['held'])} held, {_mega(memory['step'])} more in a step",
        "memory of the floor": f"{_mega(memory['floor'])} more",
        "step": f"{1000 * seconds['step']:.2f} ms",
        "floor": f"{1000 * seconds['floor']:.2f} ms: the networks' passes alone",
        "step / floor": f"{ratio['median']:.3f} {_ends(ratio, 1, 3)}",
        "bookkeeping": f"{1000 * extra['median']:.2f} ms {_ends(extra, 1000, 2)}: beyond floor, optimizer and average",
        "images a second": f"{found['images_per_second']:.3g}",
        "share of the chip's peak": share,
    }


def _ends(found: dict[str, float | None], times: float, digits: int) -> str:
    from genkit_bench.pairing import LEAST

    low, high = found["low"], found["high"]
    if low is None or high is None:
        return f"(an interval needs {LEAST} rounds: more --steps)"
    return f"[{times * low:.{digits}f}, {times * high:.{digits}f}]"


def _mega(bytes_: int) -> str:
    return f"{bytes_ / 1e6:.1f} MB"
