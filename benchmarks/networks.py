"""Milliseconds and memory of the networks of EDM, and their ratio to the published code where it is at hand.

    OMP_NUM_THREADS=1 python benchmarks/networks.py [--peer PATH] [--channels 64] [--rounds 7] [--only adm]

float32 on the CPU, 32x32 colour pictures, batch 16; `--channels 128` (192 for adm) is full size. PATH is a
checkout of github.com/NVlabs/edm, whose license allows no commercial use: it is run, never copied. Both sides
hold the same weights and take turns within one process, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from genkit.kinds import Context, Spec
from genkit_bench import memory
from genkit_unets.convert import from_edm
from genkit_unets.edm import Adm, Ddpmpp, Ncsnpp

SPEC = Spec(channels=3, height=32, width=32)
SONG = {"channel_mult": [2, 2, 2], "num_blocks": 2}
NCSNPP = {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
CASES: dict[str, tuple[type, str, dict[str, Any], dict[str, Any]]] = {
    "ncsnpp": (Ncsnpp, "SongUNet", SONG, {**NCSNPP, "resample_filter": [1, 3, 3, 1]}),
    "ddpmpp": (Ddpmpp, "SongUNet", SONG, {}),
    "adm": (Adm, "DhariwalUNet", {"channel_mult": [1, 2, 3], "num_blocks": 2, "attn_resolutions": [16, 8]}, {}),
}


def peer(path: str, name: str, settings: dict[str, Any]) -> torch.nn.Module:
    """The published network, from a checkout that the user has; every weight away from zero."""
    if path not in sys.path:
        sys.path.insert(0, path)
    from training import networks  # type: ignore[import-not-found]

    net: torch.nn.Module = getattr(networks, name)(32, 3, 3, dropout=0.0, **settings)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.02)
    return net


def passes(net: torch.nn.Module, x: Tensor, c: Tensor, label: Any) -> dict[str, Callable[[], Tensor]]:
    """What is measured of a network."""

    def forward() -> Tensor:
        with torch.no_grad():
            out: Tensor = net(x, c, label)
        return out

    def both() -> Tensor:
        net.zero_grad(set_to_none=True)
        out: Tensor = net(x, c, label)
        out.square().mean().backward()
        return out.detach()

    return {"forward": forward, "forward+backward": both}


def milliseconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return 1000 * (time.process_time() - begun)


def compare(case: str, channels: int, path: str, rounds: int) -> None:
    """One family, a line per pass: ours, and where it is at hand theirs and the ratio."""
    component, name, common, theirs = CASES[case]
    built = {"ours": ours(component, common, channels)}
    if path:
        built["theirs"] = peer(path, name, {"model_channels": channels, **common, **theirs})
        built["ours"].load_state_dict(from_edm(built["theirs"].state_dict(), built["ours"]))
    x, c = torch.randn(16, 3, 32, 32), torch.randn(16)
    calls = {who: passes(net.eval(), x, c, {} if who == "ours" else None) for who, net in built.items()}
    for kind in ("forward", "forward+backward"):
        outs = [call[kind]() for call in calls.values()]
        times: dict[str, list[float]] = {who: [] for who in calls}
        for n in range(rounds):
            for who in list(calls) if n % 2 else reversed(calls):
                times[who].append(milliseconds(calls[who][kind]))
        line = f"{case:7} {kind:17}"
        taken = {who: memory.taken(call[kind]) / 2**20 for who, call in calls.items()}
        for who in calls:
            line += f" {who} {statistics.median(times[who]):7.0f} ms {taken[who]:6.0f} MiB "
        if path:
            ratio = statistics.median(a / b for a, b in zip(times["ours"], times["theirs"], strict=True))
            line += f" ratio {ratio:.2f}, memory {taken['ours'] / taken['theirs']:.2f}"
            line += f", outputs differ by {(outs[0] - outs[1]).abs().max():.0e}"
        print(line, flush=True)


def ours(component: type, common: dict[str, Any], channels: int) -> torch.nn.Module:
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in common.items()}
    net: torch.nn.Module = component(model_channels=channels, **settings).build(Context(spec=SPEC))
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default="", metavar="PATH", help="a checkout of NVlabs/edm")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=CASES, help="one family")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for case in [given.only] if given.only else CASES:
        compare(case, given.channels, given.peer, given.rounds)


if __name__ == "__main__":
    main()
