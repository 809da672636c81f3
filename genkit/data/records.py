"""JSON objects of a run, each ending with the hash of all else in it, so that a flipped bit is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genkit.data import atomic
from genkit.errors import CheckpointError

ANEW = "remove it: it is made anew"


def sealed(words: Mapping[str, Any]) -> str:
    """The text of an object, which ends with the hash of all else in it."""
    words = {name: value for name, value in words.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(words, indent=1).encode()).hexdigest()
    return json.dumps({**words, "sha256": digest}, indent=1)


def write(path: Path, words: Mapping[str, Any]) -> None:
    """Write an object, whole or not at all; raises DataError where that cannot be."""
    atomic.write(path, sealed(words))


def read(path: Path, hint: str = "restore it, or start anew with --fresh") -> dict[str, Any]:
    """An object as it was written; empty if there is no file. One without a hash, of an earlier genkit, is believed.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        found = json.loads(text := path.read_text("utf-8"))
        what = "" if isinstance(found, dict) and found else "no JSON object"
        if not what and "sha256" in found and text != sealed(found):
            what = "its SHA-256 differs"
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        what = f"no JSON object ({type(error).__name__})"
    if what:
        raise CheckpointError(path, f"is damaged: {what}", hint)
    return {name: value for name, value in found.items() if name != "sha256"}
