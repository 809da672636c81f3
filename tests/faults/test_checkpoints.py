"""Checkpoints and JSON that agree with themselves and are wrong: refused in a line before anything is loaded."""

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from driver import RING, Forked, documented, events, final, genkit, refused, same, steps, tensors
from marks import point

from genkit.testing import provide

RUN = [*RING, "--out", "run"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, _server):
    """A folder with a run that was stopped after step 45, and what the run comes to."""
    folder = tmp_path_factory.mktemp("runs")
    site = provide(folder / "site", "staged", "probe_staged")
    genkit(*RING, "--out", folder / "stopped", path=[site], FAULT="step:45 SIGTERM", code=75)
    genkit(*RING, "--out", folder / "done")
    return folder, final(folder / "done")


@pytest.fixture
def stopped(undisturbed):
    """Such a run, in `run`; its newest checkpoint."""
    shutil.copytree(undisturbed[0] / "stopped", "run")
    shutil.rmtree("run/checkpoints/step-0000040")
    return Path("run/checkpoints/step-0000045")


def agreed(newest):
    """Have the manifest agree with what stands beside it."""
    manifest = json.loads((newest / "manifest.json").read_text())
    for name in manifest["files"]:
        raw = (newest / name).read_bytes()
        manifest["files"][name] = {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}
    (newest / "manifest.json").write_text(sealed(manifest))


def sealed(manifest):
    """A manifest that agrees with its own hash."""
    words = {name: value for name, value in manifest.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(words, indent=1).encode()).hexdigest()
    return json.dumps({**words, "sha256": digest}, indent=1)


def put(newest, change):
    """Change the tensors of a checkpoint, {name: (dtype, shape, bytes)}, and have its manifest agree."""
    found, header, data = tensors(newest / "state.safetensors"), {}, b""
    change(found)
    for name, (kind, shape, raw) in found.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    (newest / "state.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    agreed(newest)


def one(found, part):
    """The name of a large tensor of a part of the state: `program/`, `ema/` or `optimizer/`."""
    return max((name for name in found if name.startswith(part)), key=lambda name: (len(found[name][2]), name))


def cast(part, kind, dtype):
    def change(found):
        name = one(found, part)
        values = np.frombuffer(found[name][2], np.float32).astype(dtype)
        found[name] = (kind, found[name][1], values.tobytes())

    return change


def shaped(part):
    def change(found):
        name = one(found, part)
        found[name] = ("F32", [len(found[name][2]) // 4], found[name][2])

    return change


def broken(part):
    def change(found):
        name = one(found, part)
        found[name] = ("F32", found[name][1], np.full(len(found[name][2]) // 4, np.nan, np.float32).tobytes())

    return change


TOLD = "a tensor missing in program/"  # today, too
CHANGES = {
    f"{what} in {part}": (lambda make=make, part=part: make(part))
    for part in ("program/", "ema/", "optimizer/")
    for what, make in {
        "half precision": lambda part: cast(part, "F16", np.float16),
        "integers": lambda part: cast(part, "I32", np.int32),
        "doubles": lambda part: cast(part, "F64", np.float64),
        "another shape": shaped,
        "NaN": broken,
        "a tensor missing": lambda part: lambda found: found.pop(one(found, part)),
        "a tensor too many": lambda part: lambda found: found.update({f"{part}more": ("F32", [1], bytes(4))}),
    }.items()
}


FITTING = point(5, "traceback, or cast and taken without a word")


@pytest.mark.parametrize("what", [w if w == TOLD else pytest.param(w, marks=FITTING) for w in CHANGES])
def test_a_checkpoint_that_does_not_fit_is_refused_by_the_name_of_a_tensor(what, stopped):
    put(stopped, CHANGES[what]())
    part = what.split()[-1]
    refused(Forked(RUN).wait(), {4}, [f"{part}|tensor|weight|finite"])
    if part == "ema/":
        refused(Forked(["sample", "run", "--count", "4", "--out", "some"]).wait(), {4})


def edit(name, **values):
    def change(newest):
        path = newest / name
        changed = {**json.loads(path.read_text()), **values}
        path.write_text(sealed(changed) if name == "manifest.json" else json.dumps(changed))
        if name == "state.json":
            agreed(newest)

    return change


EDITS = {
    "a newer format": edit("manifest.json", format=99),
    "no format": edit("manifest.json", format=None),
    "another step": edit("manifest.json", k=44),
    "a manifest that lists nothing": edit("manifest.json", files={}),
    "a manifest that is a list": lambda newest: (newest / "manifest.json").write_text("[]"),
    "a manifest that is nested": lambda newest: (newest / "manifest.json").write_text("[" * 100_000),
    "k as text": edit("state.json", k="45"),
    "k beyond the end": edit("state.json", k=10**9),
    "k below zero": edit("state.json", k=-1),
    "k of another step": edit("state.json", k=44),
    "numbers that are a list": lambda newest: ((newest / "state.json").write_text("[1]"), agreed(newest)),
    "numbers that are nested": lambda newest: ((newest / "state.json").write_text("[" * 100_000), agreed(newest)),
    "a copy as a later step": lambda newest: newest.rename(newest.with_name("step-0000050")),
}
HELD = {"a manifest that is a list"}
WORDS = point(5, "accepted, or traceback")


@pytest.mark.parametrize("what", [w if w in HELD else pytest.param(w, marks=WORDS) for w in EDITS])
def test_a_checkpoint_whose_words_do_not_agree_is_not_taken(what, stopped, undisturbed):
    """It is refused, or passed over for the one before (here: none, so that the run begins anew)."""
    EDITS[what](stopped)
    done = Forked(RUN).wait()
    if done.code:
        refused(done, {4})
    else:
        documented(done)
        assert "passed over" in done.err and [e["event"] for e in events("run") if "steps" in e][-1] == "start"
        same(undisturbed[1], final("run"))


JSONS = {"nothing": "", "a list": "[]", "nested": "[" * 100_000, "UTF-16": "{}".encode("utf-16"), "null": "null",
         "NaN": '{"k": NaN, "spec": NaN}', "a huge number": '{"k": 1e999, "id": ' + "9" * 5000 + "}"}  # fmt: skip
FILES = ["lock.json", "checkpoints/best.json", "evaluations/*.json"]
COMMANDS = [RUN, ["sample", "run", "--count", "4", "--out", "some"], ["report", "run"], ["runs", "show", "run"],
            ["runs", "list"], ["evaluate", "run", "--samples", "100"]]  # fmt: skip


def misread(what, file):
    deep, lock = what == "nested", file == "lock.json" and what in ("UTF-16", "NaN")
    mark = point("I", "RecursionError") if deep else point("B", "a lock without a spec is a traceback")
    return pytest.param(what, file, marks=mark if deep or lock else ())


@pytest.mark.parametrize(("what", "file"), [misread(what, file) for what in JSONS for file in FILES])
def test_json_of_a_run_that_is_something_else_is_no_traceback(what, file, undisturbed):
    shutil.copytree(undisturbed[0] / "done", "run")
    for command in COMMANDS:
        raw, (path,) = JSONS[what], list(Path("run").glob(file)) or [Path("run", file)]
        path.write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        done = Forked(command, GENKIT_RUNS=".").wait()
        documented(done, {0, 4})
        assert not done.code or refused(done, {4}) is None


def test_control_a_checkpoint_that_is_written_anew_as_it_was_is_taken(stopped, undisturbed):
    put(stopped, lambda found: None)
    assert "resume at step 45" in genkit(*RUN).err
    same(undisturbed[1], final("run"))
    assert steps("run")[-1].name == "step-0000060"
