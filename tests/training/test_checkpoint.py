"""Checkpoints: what a kill, a flipped bit or a full disk leaves behind."""

import hashlib
import json
import random
import shutil
import threading
from pathlib import Path

import pytest
import torch

from genkit.data import records
from genkit.errors import CheckpointError
from genkit.training import checkpoint

TENSORS = {"a": torch.arange(1000.0), "b/c": torch.ones(3, 2, dtype=torch.bfloat16), "n": torch.tensor(7)}


def test_tensors_and_numbers_come_back_as_they_were(tmp_path):
    path = checkpoint.save(tmp_path, 12, TENSORS, {"k": 12, "lr": 0.1})
    tensors, numbers = checkpoint.load(path)
    assert numbers == {"k": 12, "lr": 0.1} and tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[n], t) and tensors[n].dtype == t.dtype for n, t in TENSORS.items())


@pytest.mark.parametrize("position", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken(tmp_path, position):
    for k in (1, 2):
        checkpoint.save(tmp_path, k, TENSORS, {"k": k})
    file = tmp_path / "step-0000002" / "state.safetensors"
    data = bytearray(file.read_bytes())
    data[int(len(data) * position)] ^= 1
    file.write_bytes(data)
    path, passed = checkpoint.latest(tmp_path)
    assert path.name == "step-0000001" and "step-0000002 is passed over" in passed[0] and "SHA-256" in passed[0]
    with pytest.raises(CheckpointError, match="SHA-256"):
        checkpoint.load(tmp_path / "step-0000002")


@pytest.mark.parametrize("gone", ["manifest.json", "state.json", "state.safetensors"])
def test_a_checkpoint_with_a_missing_file_does_not_count(tmp_path, gone):
    path = checkpoint.save(tmp_path, 3, TENSORS, {})
    (path / gone).unlink()
    assert checkpoint.latest(tmp_path)[0] is None and f"{gone} is missing" in checkpoint.broken(path)


def test_a_torn_manifest_does_not_count(tmp_path):
    path = checkpoint.save(tmp_path, 3, TENSORS, {})
    (path / "manifest.json").write_text("{")
    assert "manifest.json" in checkpoint.broken(path)


def test_two_checkpoints_are_kept_and_leftovers_swept(tmp_path):
    (tmp_path / ".tmp-0000009-1").mkdir()
    for k in range(5):
        checkpoint.save(tmp_path, k, TENSORS, {})
    checkpoint.sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-0000003", "step-0000004"]


def test_a_failed_write_leaves_the_older_one_and_nothing_half(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, TENSORS, {})

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.save(tmp_path, 2, TENSORS, {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000001"]


def test_the_manifest_says_what_is_in_it(tmp_path):
    path = checkpoint.save(tmp_path, 4, TENSORS, {})
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["k"] == 4 and set(manifest["files"]) == {"state.safetensors", "state.json"}


OLD = Path(__file__).parents[1] / "fixtures" / "run-format-1" / "checkpoints"


def rewritten(path, change, seal=True):
    """A manifest with a change in it, sealed as by who knows how."""
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(records.sealed(manifest) if seal else json.dumps(manifest))


def replaced(path, name, content):
    """Another content under a hash that is right."""
    (path / name).write_bytes(content)
    said = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewritten(path, lambda m: m["files"].update({name: said}))


@pytest.mark.parametrize("seal", [True, False])
def test_a_newer_format_is_refused_in_one_line_and_left_alone(tmp_path, seal):
    checkpoint.save(tmp_path, 1, TENSORS, {})
    path = checkpoint.save(tmp_path, 2, TENSORS, {})
    rewritten(path, lambda m: m.update(format=99), seal)
    for read in (
        lambda: checkpoint.latest(tmp_path),
        lambda: checkpoint.load(path),
        lambda: checkpoint.chosen(tmp_path),
    ):
        with pytest.raises(
            CheckpointError, match="is of format 99; this genkit reads up to 2; update genkit"
        ) as caught:
            read()
        assert "\n" not in str(caught.value)
    assert len(checkpoint.present(tmp_path)) == 2


def test_a_checkpoint_of_format_1_is_read(tmp_path):
    path, passed = checkpoint.latest(OLD)
    assert path.name == "step-0000040" and not passed and checkpoint.load(path)[1]["k"] == 40


@pytest.mark.parametrize("source", ["old", "new"])
def test_a_copy_does_not_count_as_another_step(tmp_path, source):
    path = OLD / "step-0000040" if source == "old" else checkpoint.save(tmp_path / "from", 40, TENSORS, {})
    for name in ("step-0000040", "step-0000060"):
        shutil.copytree(path, tmp_path / name)
    newest, passed = checkpoint.latest(tmp_path)
    assert newest.name == "step-0000040" and "step-0000060 is passed over" in passed[0]
    with pytest.raises(CheckpointError, match=r"are of steps \[60, 40, 40\]"):
        checkpoint.load(tmp_path / "step-0000060")


def test_the_numbers_are_of_the_same_step_too(tmp_path):
    path = checkpoint.save(tmp_path, 3, TENSORS, {})
    for k in (b'{"k": 4}', b'{"k": "3"}', b'{"k": [3]}', b"{}", b"3", b"[]", b"{", b"\xff", b"[" * 100_000):
        replaced(path, "state.json", k)
        assert checkpoint.broken(path) and checkpoint.latest(tmp_path)[0] is None, k
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"].clear(),
        lambda m: m["files"].pop("state.json"),
        lambda m: m["files"].update({"../../../etc/passwd": {"bytes": 1, "sha256": ""}}),
        lambda m: m.update(files=[]),
        lambda m: m.update(files=None),
        lambda m: m.pop("files"),
        lambda m: m.update(k="3"),
        lambda m: m.pop("k"),
        lambda m: m.update(format="2"),
        lambda m: m.update(format=0),
        lambda m: m.pop("format"),
        lambda m: m["files"].update({"state.json": 5}),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("form", [1, 2])
def test_a_manifest_that_does_not_list_what_is_owed_does_not_count(tmp_path, form, change):
    path = shutil.copytree(OLD / "step-0000020", tmp_path / "step-0000020")
    if form == 2:
        path = checkpoint.save(tmp_path / "new", 3, TENSORS, {})
    assert not checkpoint.broken(path)
    rewritten(path, change)
    assert checkpoint.broken(path) and checkpoint.latest(path.parent)[0] is None


def refused(path):
    try:
        return checkpoint.broken(path)
    except CheckpointError as error:  # the digit of the format is now that of a newer one
        return str(error)


def test_every_bit_of_a_manifest_is_vouched_for(tmp_path):
    path = checkpoint.save(tmp_path, 3, {"n": torch.tensor(7)}, {})
    file, chance = path / "manifest.json", random.Random(0)
    whole = file.read_bytes()
    for place in chance.sample(range(8 * len(whole)), 400):
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        file.write_bytes(data)
        assert refused(path), (place, data[place // 8 - 20 : place // 8 + 20])
    file.write_bytes(whole)
    assert not checkpoint.broken(path)


def test_garbage_under_a_right_hash_is_one_line(tmp_path):
    checkpoint.save(tmp_path, 1, TENSORS, {})
    path = checkpoint.save(tmp_path, 2, TENSORS, {})
    for garbage in (b"", b"junk", b"\xff" * 100, (path / "state.safetensors").read_bytes()[:-1]):
        replaced(path, "state.safetensors", garbage)
        assert checkpoint.latest(tmp_path)[0].name == "step-0000001"
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(path)
        assert "\n" not in str(caught.value)


def test_what_reads_back_wrong_is_told_and_older_ones_stay(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, TENSORS, {}, keep=1)
    write = checkpoint.save_file

    def flips(tensors, path):
        write({**tensors, "a": tensors["a"] + (torch.arange(1000) == 7)}, path)

    monkeypatch.setattr(checkpoint, "save_file", flips)
    with pytest.raises(CheckpointError, match="reads back wrong"):
        checkpoint.save(tmp_path, 2, TENSORS, {}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-0000001"]


def test_nan_reads_back_right(tmp_path):
    path = checkpoint.save(tmp_path, 1, {"a": torch.tensor([float("nan"), -0.0])}, {})
    assert checkpoint.load(path)[0]["a"].isnan().tolist() == [True, False]


def test_files_and_folders_are_synced_before_a_checkpoint_counts(tmp_path, monkeypatch):
    done, rename, sync, before = [], Path.rename, checkpoint._sync, set(threading.enumerate())
    monkeypatch.setattr(checkpoint, "_sync", lambda *paths: [done.append(p.name[:6]) or sync(p) for p in paths])
    monkeypatch.setattr(Path, "rename", lambda self, to: done.append("rename") or rename(self, to))
    checkpoint.save(tmp_path / "checkpoints", 1, TENSORS, {})
    assert done == ["state.", "state.", "manife", ".tmp-0", "rename", "checkp"]
    assert set(threading.enumerate()) <= before
