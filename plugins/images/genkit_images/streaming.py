"""Data sets larger than memory: images are read as they are needed, ahead of the training, by other processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import attrs
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genkit.data import quantise
from genkit.errors import DataError
from genkit.keys import Key
from genkit.kinds import Batch, Data, Spec, setting
from genkit.training.signals import SIGNALS
from genkit_images.arrays import Array
from genkit_images.augment import Augmented
from genkit_images.reading import quiet

STEPS = 2**62  # more than any run has


@attrs.frozen(kw_only=True)
class Large(Augmented):
    """Settings of data sets that may not fit into memory."""

    max_gib: float = setting(
        4.0,
        "GiB of decoded images that are held in memory; more are read as they are needed",
        check=attrs.validators.ge(0),
        identity=False,
    )
    workers: int = setting(
        2,
        "processes that read images as they are needed, each two batches ahead; 0 reads within the training's own",
        check=[attrs.validators.ge(0), attrs.validators.le(256)],
        identity=False,
    )


@attrs.frozen(kw_only=True, eq=False)
class Streamed:
    """A data set that does not fit: `rows` reads images by their indices.

    Attributes:
        rows: int64 (n,) to uint8 (n, C, H, W). Other processes call it, too, so it opens its files in each for itself.
        workers: How many processes read ahead.
    """

    rows: Callable[[Array], Array]
    count: int
    spec: Spec
    identity: str
    device: str = "cpu"
    workers: int = 0
    labels: Tensor | None = None
    held_out: Data | None = None
    notices: tuple[str, ...] = ()
    augment: Callable[[Batch, Key], Batch] | None = None

    def __attrs_post_init__(self) -> None:
        if self.count == 0:
            raise DataError("dataset", "has no samples", "check its path and settings")

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Tensor, key: Key) -> Batch:
        return self._placed(self._read(indices))

    def ahead(self, chosen: Callable[[int], Tensor], first: int) -> Iterator[Batch]:
        """The batches of steps first, first + 1, …, of the samples chosen(k), in this order; read by `workers`.

        Which process reads a batch has no influence on it. They end with this one, however it ends.

        Raises:
            DataError: Images cannot be read, or a process that reads them was ended.
        """
        for found in _watched(_loader(_Steps(self._read, chosen), first, self.workers, self.device)):
            if isinstance(found, _Failure):
                raise DataError(*found)
            yield self._placed(found)

    def decode(self, x0: Tensor) -> Tensor:
        return quantise(x0)

    def _read(self, indices: Tensor) -> Batch:
        cond = {} if self.labels is None else {"label": self.labels[indices]}
        return Batch(torch.from_numpy(self.rows(indices.numpy())), cond)

    def _placed(self, batch: Batch) -> Batch:
        cond = {name: values.to(self.device, non_blocking=True) for name, values in batch.cond.items()}
        return Batch(batch.x.to(self.device, non_blocking=True), cond)


class _Failure(NamedTuple):
    """The parts of an error, which another process can be told."""

    where: str
    what: str
    hint: str


@attrs.frozen
class _Steps(Dataset[Batch | _Failure]):
    """What a run's steps are fed, by their numbers."""

    read: Callable[[Tensor], Batch]
    chosen: Callable[[int], Tensor]

    def __getitem__(self, k: int) -> Batch | _Failure:
        try:
            return self.read(self.chosen(k))
        except DataError as error:
            return _Failure(error.where, error.what, error.hint)


def _loader(steps: _Steps, first: int, workers: int, device: str) -> Iterator[Any]:
    """Torch's reader of what steps are fed, in their order.

    Processes are forked where that is safe, as they start at once and share what is in memory; they touch no GPU. A
    generator of its own keeps the loader from the default one.
    """
    with quiet(), _unsignalled():  # torch has its own opinion of how many processes there should be
        return iter(
            DataLoader(
                steps,
                batch_size=None,
                sampler=range(first, STEPS),
                num_workers=workers,
                collate_fn=_as_it_is,
                pin_memory=device.startswith("cuda"),
                worker_init_fn=_heed_parent,
                multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
                generator=torch.Generator(),
            )
        )


@contextmanager
def _unsignalled() -> Iterator[None]:
    """Processes that are started within have signals blocked; and torch leaves no handler that raises anywhere."""
    before = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, before)


def _as_it_is(found: Any) -> Any:
    return found


def _heed_parent(worker: int) -> None:
    """In a process that reads, which was started with signals blocked: only its parent ends it.

    Schedulers and terminals signal all processes of a job, and the training takes a last step before it leaves.
    """
    threading.Thread(target=_await_parent, args=(os.getppid(),), daemon=True).start()


def _await_parent(parent: int) -> None:
    if hasattr(signal, "sigwaitinfo"):
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
    else:  # macOS does not tell who sent it
        signal.sigwait({signal.SIGTERM})
    os._exit(0)


def _watched(reading: Iterator[Any]) -> Iterator[Any]:
    """The same; a reader that is gone is one line.

    Raises:
        DataError: It was ended from outside.
    """
    while True:
        try:
            found = next(reading)
        except (RuntimeError, ConnectionError, EOFError) as error:  # the last two: as it was asked for what it had read
            told = "exited unexpectedly" in str(error) or "killed by signal" in str(error)
            if isinstance(error, RuntimeError) and not told:
                raise
            hint = "see whether memory and /dev/shm suffice; dataset.workers=0 reads without other processes"
            raise DataError("dataset.workers", "a process that reads images was ended from outside", hint) from error
        yield found
