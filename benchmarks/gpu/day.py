"""What all stages are told, and how the cases of one are gone through."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import torch
from shared import origin

from genkit.data import atomic

Case = Callable[[], Any]
Cases = dict[str, Case]


@attrs.frozen
class Day:
    """Where and how large.

    Attributes:
        tiny: The same code at sizes that a CPU has done in seconds.
        work: A folder for runs, which go on where they stopped.
        settings: Of the proxy's recipes, as `genkit run` takes them.
        peer: Words for `peers.py`, from --peer on; none leaves that stage out.
        until: When the stage is over, by `time.monotonic`.
    """

    device: str
    tiny: bool
    work: Path
    settings: tuple[str, ...] = ()
    peer: tuple[str, ...] = ()
    until: float = float("inf")

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")


class Skipped(Exception):
    """A case that cannot be here; says why."""


def through(day: Day, name: str, cases: Cases, file: Path) -> bool:
    """Do the cases that have no result yet, and write each one's as it is known; whether all are through.

    A case gives figures, raises `Skipped`, or fails; what is not done is tried again the next time.
    """
    told = json.loads(file.read_text()) if file.exists() else {"stage": name, "cases": {}}
    for case, work in cases.items():
        if told["cases"].get(case, {}).get("state") == "done":
            continue
        if time.monotonic() > day.until:
            return False
        begun = time.monotonic()
        found = _outcome(work)
        told["cases"][case] = {**found, "seconds": round(time.monotonic() - begun, 1)}
        print(f"{name} {case}: {found['state']} {found.get('why', '')}".rstrip(), flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(file, json.dumps({**told, **origin(day.device), "tiny": day.tiny}, indent=1, default=str) + "\n")
    return all(told["cases"][case]["state"] in ("done", "skipped") for case in cases)


def _outcome(work: Case) -> dict[str, Any]:
    try:
        return {"state": "done", "figures": work()}
    except Skipped as reason:
        return {"state": "skipped", "why": str(reason)}
    except (
        Exception
    ) as error:  # whatever is wrong on a card is what the day is for: it is told, and the next case tried
        trace = "".join(traceback.format_exception(error))[-2000:]
        return {"state": "failed", "why": f"{type(error).__name__}: {error}"[:500], "trace": trace}
    finally:
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
