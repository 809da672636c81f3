"""What must be right on a card before its speed is worth anything."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from shared import on_random
from torch import Tensor

import genkit
from genkit import Key, Spec
from genkit.denoiser import jvp
from genkit.errors import CheckpointError, DataError
from genkit.kernel import loading
from genkit.kernel.recipe import Train
from genkit.keys import order
from genkit.kinds import Context
from genkit.runs import planning
from genkit.runs.planning import Plan
from genkit.training import checkpoint, processes
from genkit.training.state import State
from genkit.training.step import train
from genkit_testing import tryout
from gpu.day import Cases, Day, Skipped

FAMILIES = {
    "ncsnpp": {"model_channels": 16, "num_blocks": 1, "channel_mult": [1, 2]},
    "ddpmpp": {"model_channels": 16, "num_blocks": 1, "channel_mult": [1, 2]},
    "adm": {"model_channels": 64, "num_blocks": 1, "channel_mult": [1, 1], "attn_resolutions": [16]},
}
SMALL = 'network={use="ncsnpp", model_channels=16, num_blocks=1, channel_mult=[1, 2], dropout=0.3}'
PLAIN = ["train.precision=float32", "train.batch_size=8"]


def cases(day: Day) -> Cases:
    return {
        **{f"fixed vectors of {name}": lambda name=name: vectors(day, name) for name in FAMILIES},
        "draws": draws,
        "masks, eager": lambda: masks(day, "float32"),
        "masks, bf16": lambda: masks(day, "bf16"),
        "forward mode": lambda: forward_mode(day),
        "no waits in 100 steps": lambda: no_waits(day),
        "resume after SIGKILL": lambda: resume(day),
    }


def compiled(day: Day) -> Cases:
    """What differs where networks are compiled, which takes minutes, and on a CPU is left out."""
    return {
        "masks": lambda: masks(day, "float32", "true"),
        "masks, CUDA graphs": lambda: masks(day, "bf16", "reduce-overhead"),
        "resume after SIGKILL, bf16": lambda: resume(day, "train.precision=bf16", "train.compile=true"),
    }


SHAPES = {"cifar10": ((3, 32, 32), 0), "imagenet64": ((3, 64, 64), 1000)}  # and classes


def recipes(day: Day) -> Cases:
    """Every bundled recipe, at its own size but for the batch; a few small ones where all is tiny."""
    small = ("ict_ring", "meanflow_digits", "imm_digits")
    return {name: lambda name=name: tried(day, name) for name in (small if day.tiny else bundled())}


def bundled() -> list[str]:
    names = (name for name in loading.installed() if "/" not in name)
    return sorted(name for name in names if name.endswith(("_ring", "_digits", "_proxy", *SHAPES)))


def tried(day: Day, name: str) -> dict[str, Any]:
    """Two steps of a recipe with its components held against what they owe, samples, and its metrics."""
    settings = ["train.batch_size=8"]
    shape, classes = next((told for end, told in SHAPES.items() if end in name), ((3, 32, 32), 0))
    try:
        if name.endswith(("_ring", "_digits")):
            tryout.check(planning.plan(genkit.load_recipe(name, settings), day.work / name, day.device))
        else:
            tryout.check(on_random(name, settings, [], day.device, shape, classes, count=64))
    except (DataError, CheckpointError) as missing:
        raise Skipped(str(missing)) from None
    return {"batch_size": 8}


def close(a: Tensor, b: Tensor, tolerance: float) -> float:
    """The largest difference over the largest value, which must be within a tolerance."""
    off = float((a.double().cpu() - b.double().cpu()).abs().max() / b.double().abs().max().cpu())
    if not off <= tolerance:
        raise AssertionError(f"differs by {off:.2e} of the largest value, and {tolerance:.0e} is owed")
    return off


def network(name: str, device: str) -> torch.nn.Module:
    """A small one of a family, the same weights on every device, none of them zero."""
    context = Context(spec=Spec(channels=3, height=16, width=16))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built: torch.nn.Module = genkit.build(genkit.component("network", name, **FAMILIES[name]), context)
        with torch.no_grad():
            for p in built.parameters():
                p.add_(torch.randn(p.shape), alpha=0.02)
    return built.to(device).eval()


def vectors(day: Day, name: str) -> dict[str, float]:
    """A network's output and gradients, those of the CPU, whose vectors the test suite holds."""
    key = Key(0)
    x, c = key.normal("eps", torch.empty(4, 3, 16, 16)), torch.linspace(-1, 1, 4)
    sides = []
    for device in (day.device, "cpu"):
        net = network(name, device)
        with processes.settled(Train(steps=1), None, True):
            out = net(x.to(device), c.to(device), {})
            out.square().mean().backward()
        sides.append(
            (out.detach(), torch.cat([p.grad.flatten().cpu() for p in net.parameters() if p.grad is not None]))
        )
    (out, grads), (right, slopes) = sides
    return {"output": close(out, right, 1e-3), "gradients": close(grads, slopes, 1e-2)}


def draws() -> dict[str, Any]:
    """The order of the data, and addresses of draws, which are made on the CPU and known."""
    told = hashlib.blake2b(order(0, 0, 1000, 1000).numpy().tobytes(), digest_size=8).hexdigest()
    if sorted(order(0, 0, 1000, 1000).tolist()) != list(range(1000)):
        raise AssertionError("a pass over the data does not hold each image once")
    return {"order": told, "dropout": Key(0, 7).integer("dropout")}


def masks(day: Day, precision: str, compiled: str = "false") -> dict[str, float]:
    """Student and teacher see the same masks of dropout under one key, and others under another."""
    if compiled != "false" and day.tiny:
        raise Skipped("compiling takes minutes on a CPU")
    planned = on_random("ict_cifar10", [*PLAIN, f"train.compile={compiled}"], [SMALL], day.device)
    with planned.settled():
        return _masks(planned.state(), precision, day.device)


def _masks(state: State, precision: str, device: str) -> dict[str, float]:
    student, x = state.program.train().student, torch.randn(4, 3, 32, 32, device=device)
    for p in student.network.parameters():  # last layers begin at zero
        torch.nn.init.normal_(p, std=0.05)
    t = torch.full((4,), 2.0, device=device)

    def answer(seed: int) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        cast = torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16")
        with Key(seed).reseeded(x.device), cast:
            return student(x, t).clone()  # CUDA graphs write over what they gave before

    with_gradient = answer(0)
    with torch.no_grad():
        without, another = answer(0), answer(1)
    apart = float((without - another).abs().max() / without.abs().max())
    same = close(with_gradient.detach(), without, 1e-4 if precision == "float32" else 2e-3)
    if apart <= 5 * same or apart < 1e-3:
        raise AssertionError(f"another key changes the output by {apart:.1e} alone: the masks do not follow it")
    return {"same key": same, "another key": apart}


def forward_mode(day: Day) -> dict[str, float]:
    """The derivative of a network in forward mode, by central differences."""
    net = network("ncsnpp", day.device)
    x, along = torch.randn(2, 3, 16, 16, device=day.device), torch.randn(2, 3, 16, 16, device=day.device)
    c, h = torch.zeros(2, device=day.device), 1e-2
    with processes.settled(Train(steps=1), None, True), torch.no_grad():
        value, slope = jvp(lambda x, c: net(x, c, {}), (x, c), (along, torch.zeros_like(c)))
        plain = net(x, c, {})
        by_differences = (net(x + h * along, c, {}) - net(x - h * along, c, {})) / (2 * h)
    return {"value": close(value, plain, 1e-3), "slope": close(slope, by_differences, 2e-2)}


def no_waits(day: Day) -> dict[str, Any]:
    """Steps in which any operation that waits for the device is an error; on a CPU, the same steps."""
    planned = on_random("ict_cifar10", PLAIN, [SMALL], day.device)
    with planned.settled():
        return _no_waits(day, planned)


def _no_waits(day: Day, planned: Plan) -> dict[str, Any]:
    state, count = planned.state(), 4 if day.tiny else 100
    steps = train(state, planned.data, planned.recipe.train)
    for _ in range(2):
        next(steps)
    if day.cuda:
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(count):
            figures = next(steps)
    finally:
        if day.cuda:
            torch.cuda.set_sync_debug_mode("default")
    return {"steps": count, "watched": day.cuda, "loss": float(figures["loss"])}


def resume(day: Day, *more: str) -> dict[str, Any]:
    """A run that is killed and goes on ends with the bits of one that was left alone."""
    if day.tiny and "train.compile=true" in more:
        raise Skipped("compiling takes minutes on a CPU")
    steps, recipe = (40, "ict_ring") if day.tiny else (400, "ict_digits")
    settings = [f"train.steps={steps}", f"train.save_every_steps={steps // 4}", "evaluate.samples=100", *more]
    words = [sys.executable, "-m", "genkit", "run", recipe, *settings, "--device", day.device]
    alone, killed = (day.work / "-".join([name, *more]) for name in ("alone", "killed"))
    subprocess.run([*words, "--fresh", "--out", str(alone)], check=True, capture_output=True)
    aside = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*words, "--fresh", "--out", str(killed)], **aside) as process:
        while process.poll() is None and not checkpoint.present(killed / "checkpoints"):
            time.sleep(0.02)
        process.kill()
    at = checkpoint.step_of(checkpoint.latest(killed / "checkpoints")[0])
    subprocess.run([*words, "--out", str(killed)], check=True, capture_output=True)
    both = [_tensors(folder) for folder in (alone, killed)]
    other = [name for name, t in both[0].items() if not torch.equal(t, both[1][name])]
    if other:
        raise AssertionError(f"{len(other)} of {len(both[0])} tensors differ, {other[0]!r} among them")
    return {"killed at or after": at, "of": steps, "tensors": len(both[0])}


def _tensors(folder: Path) -> dict[str, Tensor]:
    return checkpoint.load(checkpoint.latest(folder / "checkpoints")[0], "cpu")[0]
