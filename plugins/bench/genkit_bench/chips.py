"""Published peaks of cards, for the share of them that a training reaches."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Chip(NamedTuple):
    """Operations a second / 10^12, dense (no sparsity), at full clocks; a multiplication with its addition is two."""

    bf16: float
    tf32: float
    float32: float
    source: str


HOPPER = "NVIDIA H100 Tensor Core GPU data sheet"
ADA = "NVIDIA Ada GPU Architecture white paper"
PEAKS = {  # by the beginning of the name that torch gives
    "NVIDIA H100 80GB HBM3": Chip(989.4, 494.7, 66.9, HOPPER),
    "NVIDIA H100 PCIe": Chip(756.0, 378.0, 51.2, HOPPER),
    "NVIDIA H200": Chip(989.4, 494.7, 66.9, "NVIDIA H200 Tensor Core GPU data sheet"),
    "NVIDIA A100": Chip(312.0, 156.0, 19.5, "NVIDIA A100 Tensor Core GPU data sheet"),
    "NVIDIA L40S": Chip(362.05, 183.0, 91.6, "NVIDIA L40S data sheet"),
    "NVIDIA L4": Chip(121.0, 60.0, 30.3, "NVIDIA L4 Tensor Core GPU data sheet"),
    "NVIDIA GeForce RTX 4090": Chip(165.2, 82.6, 82.6, ADA),
    "NVIDIA GeForce RTX 3090": Chip(71.0, 35.6, 35.6, "NVIDIA Ampere GA102 GPU Architecture white paper"),
}


def name(device: str) -> str:
    """What torch calls a card; of a CPU, "cpu"."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


def peak(called: str, precision: str) -> float | None:
    """Operations a second at a precision; None where the chip is not in the table.

    Args:
        called: As `name` has it.
        precision: As in `train.precision`; fp16 is as quick as bf16.
    """
    fits = [known for known in PEAKS if called == known or called.startswith((f"{known} ", f"{known}-"))]
    if not fits:
        return None
    chip = PEAKS[max(fits, key=len)]
    return 1e12 * {"float32": chip.float32, "tf32": chip.tf32}.get(precision, chip.bf16)
