"""Randomness as a function of (seed, step, position, purpose): nothing to save, nothing to restore.

The purposes are init, order, level, eps, flip, label, dropout and sample; a program may add its own.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import torch
from torch import Tensor


@attrs.frozen
class Key:
    """The address of all draws of one step on one rank.

    `normal` and `uniform` draw once for the batch of all ranks, and a rank or micro-batch gets its rows, so that
    results do not depend on how a batch is cut. So each rank draws for all: eps for 1,024 images of 3x32x32 takes
    0.03 s on a CPU, where a step of an eighth of them takes 3.6 s with the smallest U-Net. Numbers from `generator`,
    and the masks of dropout, are a rank's own.

    Attributes:
        seed: The run's seed.
        step: The step k.
        rank: The process.
        micro: The micro-batch; only dropout depends on it.
        rows: Which rows of the rank's batch this key serves; `None` means all of them.
        size: Rows of the rank's whole batch; 0 means "as many as are asked for".
        phase: Which parameter group is being trained, where a program has several.
        world: How many processes share a batch, evenly.
    """

    seed: int
    step: int = 0
    rank: int = 0
    micro: int = 0
    rows: slice | None = None
    size: int = 0
    phase: str = ""
    world: int = 1
    _drawn: dict[tuple[object, ...], Tensor] = attrs.field(factory=dict, eq=False, repr=False)

    def part(self, micro: int, start: int, stop: int, size: int) -> Key:
        """The key of micro-batch `micro`: rows `start` to `stop` of `size`."""
        return attrs.evolve(self, micro=micro, rows=slice(start, stop), size=size, drawn=self._drawn)

    def during(self, phase: str) -> Key:
        """The key for the training of parameter group `phase`; its draws are the same."""
        return attrs.evolve(self, phase=phase, drawn=self._drawn)

    def integer(self, purpose: str, *i: int, micro: int = 0) -> int:
        """63 bits: the first 8 bytes of blake2b over "seed/step/rank/micro/purpose/i"."""
        address = "/".join(map(str, (self.seed, self.step, self.rank, micro, purpose, *i)))
        digest = hashlib.blake2b(address.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    def generator(self, purpose: str, *i: int, device: torch.device | str = "cpu") -> torch.Generator:
        """The device's own generator, reseeded: use it before asking for another one."""
        return _generator(torch.device(device)).manual_seed(self.integer(purpose, *i))

    def normal(self, purpose: str, like: Tensor, *i: int) -> Tensor:
        """Unit normals with the shape, dtype and device of `like`, whose rows are this key's."""
        return self._draw(torch.randn, purpose, len(like), like.shape[1:], like.dtype, like.device, i)

    def uniform(self, purpose: str, count: int, device: torch.device | str = "cpu", *i: int) -> Tensor:
        """Uniform numbers in [0, 1), float64, shape (count,)."""
        return self._draw(torch.rand, purpose, count, (), torch.float64, torch.device(device), i)

    def _draw(self, law, purpose, count, shape, dtype, device, i) -> Tensor:  # type: ignore[no-untyped-def]
        address = (law, purpose, tuple(shape), i)
        whole = self._drawn.get(address)
        if whole is None:
            size = self.size or count
            generator = attrs.evolve(self, rank=0).generator(purpose, *i, device=device)
            whole = law((size * self.world, *shape), generator=generator, dtype=dtype, device=device)
            if self.world > 1:
                whole = whole[self.rank * size :][:size].clone()  # the others' rows are not kept
            if self.rows is not None:  # other micro-batches will ask for the rest
                self._drawn[address] = whole
        return whole if self.rows is None else whole[self.rows]

    @contextmanager
    def reseeded(self, device: torch.device | str) -> Iterator[None]:
        """Within, the device's default generator is reseeded, which dropout uses; afterwards it is as before.

        Two passes under the same key see the same masks: the student's and the teacher's.
        """
        generator = default_generator(torch.device(device))
        before = generator.get_state()
        generator.manual_seed(self.integer("dropout", micro=self.micro))
        _reseeded.append(device)
        try:
            yield
        finally:
            _reseeded.pop()
            generator.set_state(before)


_reseeded: list[object] = []


def is_reseeded() -> bool:
    """Whether a default generator is reseeded at the moment, and put back afterwards."""
    return bool(_reseeded)


@functools.cache
def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device=device)


def default_generator(device: torch.device) -> torch.Generator:
    """The generator that a device uses where none is named."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, n: int) -> Tensor:
    return torch.randperm(n, generator=Key(seed).generator("order", epoch))


def order(seed: int, start: int, count: int, n: int) -> Tensor:
    """Data indices at global positions p = start … start + count - 1: perm(seed, p // n)[p mod n].

    Every image comes once in each n positions, whatever the batch size and wherever a run resumes.

    Returns:
        int64, shape (count,), on the CPU.
    """
    parts = []
    while count > 0:
        epoch, first = divmod(start, n)
        taken = min(count, n - first)
        parts.append(_permutation(seed, epoch, n)[first : first + taken])
        start, count = start + taken, count - taken
    return parts[0] if len(parts) == 1 else torch.cat(parts)
