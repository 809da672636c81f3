"""Checkpoints: safetensors and JSON, with a manifest of hashes, written so that a kill loses nothing.

A checkpoint counts once its folder `step-0000123` stands with a manifest that its files agree with. It is
written beside its place, every file and folder synced, the manifest last, then renamed. The manifest's last
entry is the hash of all its other words, so that a bit flipped in these is found, too (from format 2 on).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from genkit.data import atomic, records
from genkit.data.files import sha256
from genkit.errors import CheckpointError

FORMAT = 2
FILES = ("state.json", "state.safetensors")


def save(
    folder: Path, k: int, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], keep: int = 2, every: int = 0
) -> Path:
    """Write the checkpoint of step k, verify it, and only then prune to the newest `keep` and those that stay.

    Args:
        tensors: On the CPU, contiguous, and none in the memory of another.
        every: What stays, besides the best, is that of each so many steps; 0 for none.

    Raises:
        CheckpointError: The disk is full, or the files read back differ; older ones are untouched.
    """
    final, partial = folder / f"step-{k:07d}", folder / f".tmp-{k:07d}-{os.getpid()}"
    try:
        partial.mkdir(parents=True)
        files = _written(partial, tensors, json.dumps({**numbers, "k": k}))
        manifest = records.sealed({"format": FORMAT, "k": k, "torch": torch.__version__, "files": files})
        (partial / "manifest.json").write_text(manifest)
        _sync(partial / "manifest.json", partial)
        if final.exists():
            _discard(final)
        partial.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        told = atomic.unwritable(final, error, sum(t.nbytes for t in tensors.values()))
        raise CheckpointError(final, told.what, "make room; the run continues from the checkpoint before") from error
    older = [path for path in present(folder) if step_of(path) < k and not stays(path, every)]
    ahead = [path for path in present(folder) if step_of(path) > k]  # damaged: a run never starts before a good one
    for old in [*ahead, *older[: max(0, len(older) - keep + 1)]]:
        _discard(old)
    return final


def stays(path: Path, every: int) -> bool:
    """Whether a checkpoint is kept, however many come after it: the best one, and that of each `every` steps."""
    return step_of(path) == best(path.parent).get("k") or bool(every and step_of(path) % every == 0)


def pin(folder: Path, k: int, **about: Any) -> None:
    """Keep the checkpoint of step k as the best, whatever comes after it."""
    records.write(folder / "best.json", {"k": k, **about})


def best(folder: Path) -> dict[str, Any]:
    """The pinned checkpoint, by its `k`, and why it is; empty if there is none."""
    said = records.read(folder / "best.json", records.ANEW)
    return said if said.get("k") in [*map(step_of, present(folder))] else {}


def chosen(folder: Path, which: str = "latest") -> Path:
    """A checkpoint by "latest", "best", or its step.

    Raises:
        CheckpointError: There is none such, or it is damaged.
    """
    if which == "latest":
        newest, passed = latest(folder)
        if newest is None or passed:
            what = passed[0].replace("is passed over", "is broken", 1) if passed else "has no usable checkpoint yet"
            hint = "run its recipe again to go on" + (f", or choose step {step_of(newest)}" if newest else "")
            raise CheckpointError(folder.parent, what, hint)
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
    return load_file(path / FILES[1], device), _read(path)


def broken(path: Path) -> str:
    """Why a checkpoint does not count; empty if it does.

    Raises:
        CheckpointError: A newer genkit has written it, so that nothing here may judge, or remove, it.
    """
    try:
        text = (path / "manifest.json").read_text()
        manifest = json.loads(text)
        if (form := manifest["format"]) > FORMAT:
            hint = "update genkit, or remove it to go on from the one before"
            raise CheckpointError(path, f"is of format {form}; this genkit reads up to {FORMAT}", hint)
        if form != 1 and (form != FORMAT or text != records.sealed(manifest)):
            return "manifest.json is damaged (its SHA-256 differs)"
        if sorted(manifest["files"]) != sorted(FILES):
            raise ValueError(f"it does not list just {' and '.join(FILES)}")
        for name, said in manifest["files"].items():
            if sha256(path / name) != said["sha256"]:
                return f"{name} is damaged (its SHA-256 differs)"
        steps = [step_of(path), manifest["k"], _read(path)["k"]]
        with safe_open(path / FILES[1], framework="pt"):
            return f"its name, manifest and numbers are of steps {steps}" if len(set(steps)) > 1 else ""
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError, SafetensorError) as error:
        return f"manifest.json, or what it lists, cannot be used ({type(error).__name__}: {error})"


def _read(path: Path) -> Any:
    return json.loads((path / FILES[0]).read_text())


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written; call it while holding the run's lock."""
    for leftover in [*folder.glob(".tmp-*"), *folder.glob(".trash-*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def present(folder: Path) -> list[Path]:
    """All checkpoints of a folder, whole or not, the newest last."""
    return sorted((p for p in folder.glob("step-*") if p.name[5:].isdigit()), key=step_of)


def _written(folder: Path, tensors: Mapping[str, Tensor], numbers: str) -> dict[str, dict[str, Any]]:
    """Write what a checkpoint holds, synced and read back; size and hash of each file.

    The disk is waited for while one thread hashes what stands in the file and another compares it.

    Raises:
        OSError: It cannot be written, or is not what was to be written.
    """
    paths = [folder / name for name in FILES]
    paths[0].write_text(numbers)
    save_file(dict(tensors), paths[1])
    with ThreadPoolExecutor(2) as others, safe_open(paths[1], framework="pt") as file:
        synced = others.submit(_sync, *paths)
        same = others.submit(lambda: all(torch.equal(_raw(file.get_tensor(n)), _raw(t)) for n, t in tensors.items()))
        files = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in paths}
        synced.result()
        if not same.result() or paths[0].read_text() != numbers:
            raise OSError("it reads back wrong: check the disk")
    return files


def _raw(tensor: Tensor) -> Tensor:
    """The bits of a tensor as whole numbers of its width, so that NaN equals NaN; by bytes it would take longer."""
    return tensor.reshape(-1).view({2: torch.int16, 4: torch.int32, 8: torch.int64}.get(tensor.itemsize, torch.uint8))


def _discard(path: Path) -> None:
    trash = path.with_name(f".trash-{path.name}-{os.getpid()}")
    path.rename(trash)  # a half-removed folder is never a candidate
    shutil.rmtree(trash)


def _sync(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
