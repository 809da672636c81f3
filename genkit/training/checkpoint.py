"""Checkpoints: safetensors and JSON, with a manifest of hashes, written so that a kill loses nothing.

A checkpoint counts once its folder `step-0000123` stands with a manifest that its files agree with. It is
written beside its place, every file and folder synced, the manifest last, then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genkit.data.files import sha256
from genkit.errors import CheckpointError

FORMAT = 1


def save(folder: Path, k: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the checkpoint of step k, verify it, and only then prune to the newest `keep` and the best.

    Raises:
        CheckpointError: The disk is full, or the files read back differ; older ones are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final, partial = folder / f"step-{k:07d}", folder / f".tmp-{k:07d}-{os.getpid()}"
    try:
        partial.mkdir()
        own = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
        save_file(own, partial / "state.safetensors")
        (partial / "state.json").write_text(json.dumps(numbers))
        files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in sorted(partial.iterdir())}
        manifest = {"format": FORMAT, "k": k, "torch": torch.__version__, "files": files}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for path in (*partial.iterdir(), partial):
            _sync(path)
        if final.exists():
            _discard(final)
        partial.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            final,
            f"cannot be written ({' '.join(str(error).split())})",
            "free space; the run continues from the checkpoint before",
        ) from error
    if fault := broken(final):
        raise CheckpointError(final, f"reads back wrong: {fault}", "check the disk")
    older = [path for path in present(folder) if step_of(path) < k and step_of(path) != best(folder).get("k")]
    ahead = [path for path in present(folder) if step_of(path) > k]  # damaged: a run never starts before a good one
    for old in [*ahead, *older[: max(0, len(older) - keep + 1)]]:
        _discard(old)
    return final


def pin(folder: Path, k: int, **about: Any) -> None:
    """Keep the checkpoint of step k as the best, whatever comes after it."""
    partial = folder / f".best-{os.getpid()}"
    partial.write_text(json.dumps({"k": k, **about}))
    partial.rename(folder / "best.json")


def best(folder: Path) -> dict[str, Any]:
    """The pinned checkpoint, by its `k`, and why it is; empty if there is none."""
    try:
        said: dict[str, Any] = json.loads((folder / "best.json").read_text())
        return said if said["k"] in map(step_of, present(folder)) else {}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(folder / "best.json", "is damaged", "remove it: the best is found anew") from error


def chosen(folder: Path, which: str = "latest") -> Path:
    """A checkpoint by "latest", "best", or its step.

    Raises:
        CheckpointError: There is none such, or it is damaged.
    """
    if which == "latest":
        newest, _ = latest(folder)
        if newest is None:
            raise CheckpointError(folder.parent, "has no usable checkpoint yet", "run its recipe again to go on")
        return newest
    steps = {step_of(path): path for path in present(folder)}
    k = best(folder).get("k") if which == "best" else int(which) if which.isdecimal() else None
    if k not in steps:
        what = "has no best checkpoint" if which == "best" else f"has no checkpoint {which!r}"
        hint = "evaluate.best names its figure" if which == "best" else f"steps: {', '.join(map(str, steps)) or 'none'}"
        raise CheckpointError(folder.parent, what, hint)
    return steps[k]


def latest(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that its manifest vouches for, and a line about each that was passed over."""
    passed: list[str] = []
    for path in reversed(present(folder)):
        fault = broken(path)
        if not fault:
            return path, passed
        passed.append(f"{path.name} is passed over: {fault}")
    return None, passed


def load(path: Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors and numbers, after checking them against its manifest.

    Raises:
        CheckpointError: It is incomplete or damaged.
    """
    if fault := broken(path):
        raise CheckpointError(path, fault, "use another checkpoint")
    return load_file(path / "state.safetensors", device), json.loads((path / "state.json").read_text())


def broken(path: Path) -> str:
    """Why a checkpoint does not count; empty if it does."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name, said in manifest["files"].items():
            file = path / name
            if file.stat().st_size != said["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {said['bytes']}"
            if sha256(file) != said["sha256"]:
                return f"{name} is damaged (its SHA-256 differs)"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        return f"manifest.json cannot be read ({type(error).__name__})"
    return ""


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written; call it while holding the run's lock."""
    for leftover in [*folder.glob(".tmp-*"), *folder.glob(".trash-*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def present(folder: Path) -> list[Path]:
    """All checkpoints of a folder, whole or not, the newest last."""
    return sorted((p for p in folder.glob("step-*") if p.name[5:].isdigit()), key=step_of)


def _discard(path: Path) -> None:
    trash = path.with_name(f".trash-{path.name}-{os.getpid()}")
    path.rename(trash)  # a half-removed folder is never a candidate
    shutil.rmtree(trash)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
