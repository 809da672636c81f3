"""Checkpoints: what a kill, a flipped bit or a full disk leaves behind."""

import json

import pytest
import torch

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
