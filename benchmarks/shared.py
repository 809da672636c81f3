"""What the measurements have in common: plans on random images, tables, and JSON that says where it comes from."""

from __future__ import annotations

import functools
import json
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import genkit
from genkit import Context, Spec, load_recipe
from genkit.data import Resident, named
from genkit.runs import models
from genkit.runs.planning import Plan
from genkit_bench import chips

SMALL = 'network={use="ddpmpp", model_channels=32, channel_mult=[2, 2], num_blocks=2, dropout=0.1}'  # 1.5 M weights


def on_random(
    recipe: str,
    overrides: Sequence[str] = (),
    swaps: Sequence[str] = (),
    device: str = "cpu",
    shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 0,
    count: int = 4096,
) -> Plan:
    """A recipe with random images in place of its data, which need not be here."""
    chosen = load_recipe(recipe, list(overrides), list(swaps))
    spec = Spec(channels=shape[0], height=shape[1], width=shape[2], classes=classes)
    cond = {"label": torch.randint(classes, (count,), device=device)} if classes else {}
    x = torch.randint(256, (count, *shape), dtype=torch.uint8, device=device)
    told = named.setup_of(chosen, device)
    context = Context(
        **told,
        spec=spec,
        data="random",
        dataset=chosen.dataset,
        total_steps=chosen.train.steps,
        load=functools.partial(models.load_source, device=device),
    )
    data = Resident(x=x, spec=spec, identity="random", cond=cond)
    return Plan(recipe=chosen, data=data, context=context, id="random", folder=Path("nowhere"))


def origin(device: str) -> dict[str, Any]:
    """Where figures come from: the device, versions, the command, and when."""
    card = torch.cuda.get_device_properties(device).total_memory if device.startswith("cuda") else None
    return {
        "device": chips.name(device),
        "memory": card,
        "machine": platform.machine(),
        "versions": {
            "genkit": genkit.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cuda": torch.version.cuda if card else None,
        },
        "command": shlex.join(["python", *sys.argv]),
        "at": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def written(path: Path | None, device: str, figures: Any) -> None:
    """Figures and their origin, as JSON, where a file is asked for."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**origin(device), "figures": figures}, indent=1, default=str) + "\n")
