"""Claims about data that other processes read ahead: the same batches, no process left, one line of what fails."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import genkit
from genkit.data import batches, hdf5
from genkit.errors import DataError, Stopped
from genkit.keys import Key
from genkit.kinds import Batch, Setup
from genkit_images import streaming
from genkit_images.hdf5 import Hdf5
from genkit_images.streaming import _Steps

RANDOM = np.random.RandomState(0)
IMAGES = RANDOM.randint(0, 256, (101, 3, 6, 5)).astype(np.uint8)
LABELS = RANDOM.randint(0, 4, 101)


@pytest.fixture
def packed(tmp_path) -> Path:
    hdf5.write(tmp_path / "packed.h5", {"train/images": IMAGES, "train/labels": LABELS}, {})
    return tmp_path / "packed.h5"


def build(path: Path, **settings):
    setup = Setup(cache_dir=path.parent / "cache")
    return Hdf5(path=path, **{"labels": True, "max_gib": 0, "augment": 0.5, **settings}).build(setup)


def taken(data, first: int, count: int, rank: int = 0, world: int = 1) -> list[Batch]:
    stream = batches(data, 7, first, 16, rank, world)
    found = [next(stream) for _ in range(count)]
    stream.close()
    return found


def same(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.x, b.x)
        and a.cond.keys() == b.cond.keys()
        and all(torch.equal(a.cond[n], b.cond[n]) for n in a.cond)
    )


def test_batches_are_the_same_by_any_number_of_readers_from_any_step_on(packed):
    whole = taken(build(packed, max_gib=4.0), 0, 16)  # through two turns of the 101 images
    for workers in (0, 1, 3):
        data = build(packed, workers=workers)
        for first in (0, 5):
            found = taken(data, first, 16 - first)
            assert all(same(a, b) for a, b in zip(found, whole[first:], strict=True))


def test_processes_that_share_a_batch_read_their_shares(packed):
    whole = taken(build(packed, max_gib=4.0), 3, 6)
    shares = [taken(build(packed, workers=1), 3, 6, rank, 2) for rank in range(2)]
    for one, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([part.x for part in parts]), one.x)


def test_readers_leave_the_default_generator_and_the_signals_alone(packed, monkeypatch):
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)  # as in a new process
    before, handler = torch.get_rng_state(), signal.getsignal(signal.SIGCHLD)
    taken(build(packed, workers=2, augment=0.0), 0, 4)
    assert torch.equal(torch.get_rng_state(), before)
    assert signal.getsignal(signal.SIGCHLD) == handler


def test_what_readers_are_given_can_be_sent_to_processes_that_are_not_forked(packed):
    data = build(packed)
    steps = pickle.loads(pickle.dumps(_Steps(data._read, batches)))
    assert torch.equal(steps.read(torch.arange(9)).x, data.batch(torch.arange(9), Key(0)).x)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_is_damaged_is_named_in_one_line(packed, workers):
    arrays = {"images": IMAGES, "labels": LABELS}
    with hdf5.writing(packed) as file:
        for key, values in arrays.items():
            file.create_dataset(f"train/{key}", data=values, chunks=(1, *values.shape[1:]), fletcher32=True)
    data = build(packed, workers=workers)
    with hdf5.opened(packed) as file:
        chunk = file["train/images"].id.get_chunk_info_by_coord((41, 0, 0, 0))
    with packed.open("r+b") as raw:
        raw.seek(chunk.byte_offset + 5)
        byte = raw.read(1)
        raw.seek(chunk.byte_offset + 5)
        raw.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DataError, match=r"packed\.h5:/train/images\[41\]: is damaged") as caught:
        taken(data, 0, 8)
    assert "\n" not in str(caught.value)


def children() -> set[int]:
    """Processes of this one that still run."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(pid) for pid in found if running(int(pid))}


TINY = (
    "name=x train.steps=9 train.batch_size=16 network.model_channels=8 network.num_blocks=1 evaluate.samples=16".split()
)


def test_a_run_reads_ahead_from_where_it_was_stopped_with_the_id_and_the_bits_of_one_in_memory(packed, monkeypatch):
    monkeypatch.chdir(packed.parent)
    hdf5.write(packed, {"images": RANDOM.randint(0, 256, (60, 1, 8, 8)).astype(np.uint8)}, {})
    words = [*TINY, "dataset.use=hdf5", f"dataset.path={packed}", "train.save_every_steps=4"]

    def weights(out: str, *more: str) -> dict[str, torch.Tensor]:
        result = genkit.run(genkit.load_recipe("ict_digits", [*words, *more]), out=out)
        ids.append(result.id)
        return genkit.load(result.folder).state_dict()

    def stop(watch) -> None:
        if watch["event"] == "step" and watch["k"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    ids: list[str] = []
    whole = weights("whole")
    streamed = [*words, "dataset.max_gib=0", "dataset.workers=2", "train.log_every_steps=1"]
    with pytest.raises(Stopped):
        genkit.run(genkit.load_recipe("ict_digits", streamed), out="cut", watch=stop)
    resumed = weights("cut", "dataset.max_gib=0", "dataset.workers=1")
    assert len(set(ids)) == 1 and all(torch.equal(whole[name], resumed[name]) for name in whole)


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


@linux
def test_a_reader_that_is_ended_from_outside_is_one_line(packed):
    before = children()
    stream = batches(build(packed, workers=2), 7, 0, 16)
    next(stream)
    for pid in children() - before:
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(
        DataError, match=r"dataset\.workers: a process that reads images was ended from outside; see"
    ) as caught:
        for _ in stream:
            pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_reader_that_is_ended_while_it_hands_over_is_one_line_too(error):
    def reading():
        yield 1
        raise error

    found = streaming._watched(reading())
    assert next(found) == 1
    with pytest.raises(DataError, match="was ended from outside"):
        next(found)


@linux
def test_signals_to_all_processes_leave_the_readers_to_their_parent(packed):
    before = children()
    stream = batches(build(packed, workers=2), 7, 0, 16)
    next(stream)
    readers = children() - before
    for pid in readers:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
            subprocess.run(["kill", f"-{number}", str(pid)], check=True)  # from another process than their parent
    for _ in range(8):
        next(stream)
    assert readers and readers <= children()
    stream.close()
    assert not readers & children()


TRAINS = """
import sys, os
from pathlib import Path
from genkit.data import batches
from genkit.kinds import Setup
from genkit_images.hdf5 import Hdf5
data = Hdf5(path=Path(sys.argv[1]), max_gib=0, workers=2).build(Setup(cache_dir=Path(sys.argv[2])))
stream = batches(data, 0, 0, 8)
next(stream)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
if sys.argv[3] == "fails":
    raise SystemExit(3)
sys.stdin.read()
"""


@linux
@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGTERM, "fails", "returns"])
def test_readers_end_with_the_run_however_it_ends(packed, ends):
    command = [sys.executable, "-c", TRAINS, str(packed), str(packed.parent / "cache"), str(ends)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        readers = [int(pid) for pid in run.stdout.readline().split()]
        if isinstance(ends, signal.Signals):
            run.send_signal(ends)
    assert len(readers) == 2 and run.returncode == (
        -ends if isinstance(ends, signal.Signals) else {"fails": 3, "returns": 0}[ends]
    )
    until = time.monotonic() + 60
    while any(running(pid) for pid in readers):
        assert time.monotonic() < until, f"of {readers} some still run"
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
