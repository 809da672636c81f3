"""Features of a classifier of the data at hand: for data that no public network knows, such as digits."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import attrs
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genkit.data import batches
from genkit.errors import DataError
from genkit.kernel import registry
from genkit.keys import Key
from genkit.kinds import Context, Data, Setup, Spec, setting
from genkit.training import processes
from genkit_metrics.features import require_images

# The recipe; all of it is in the name's hash.
WIDTHS = (32, 64, 128)  # channels of the stages; the last is the number of features
STEPS, BATCH, RATE = 400, 64, 2e-3
OTHERS = "choose others: pixels, or efficientnet-lite0"


@attrs.frozen(kw_only=True)
class Classifier:
    """A small network that learnt the classes of the data at hand by a fixed recipe: pool (128) and logits.

    It is trained once, in seconds for small images, on the CPU, and kept in the cache. Data that are learnt
    without their labels lend them for this. Figures say which classifier it was, such as `fd-digits-1a2b3c4d`:
    they compare with others of that name alone, and with no published FID. The hash is that of the data with
    their labels, of the seed, the recipe and its revision.

    Three stages of two 3x3 convolutions with group normalisation and SiLU, halved in between, and their mean over
    places; 400 steps of 64 images, Adam at 2e-3 with cosine decay, mirrored where the data allow.

    `stages` are what the loss lpips compares.

    Features:
        pool: What the last layer sees.
        logits: Of the data's classes.
    """

    revision = 1
    seed: int = setting(0, "of its training")

    def require(self, context: Context) -> None:
        """Train it, or find it trained.

        Raises:
            DataError: The data have no labels.
        """
        self.build(context)

    def build(self, context: Context) -> Extractor:
        setup = Setup(cache_dir=context.cache_dir, folder=context.folder)
        return _extractor(self, context.dataset, setup, context.device)

    def label(self, context: Context) -> str:
        """Name of the data set, and hash: "digits-1a2b3c4d"."""
        return self.build(context).label


class Network(nn.Sequential):
    """(B, C, H, W) in [-1, 1] to features (B, 128)."""

    def __init__(self, channels: int) -> None:
        layers: list[nn.Module] = []
        for i, width in enumerate(WIDTHS):
            for inputs, stride in ((channels, 1 if i == 0 else 2), (width, 1)):
                layers += [nn.Conv2d(inputs, width, 3, stride, 1), nn.GroupNorm(8, width), nn.SiLU()]
            channels = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def stages(self, x: Tensor) -> list[Tensor]:
        """What each stage gives, before the mean over places."""
        found = []
        for i, layer in enumerate(list(self)[:-2], 1):
            x = layer(x)
            if i % 6 == 0:  # two convolutions, each with its normalisation and activation
                found.append(x)
        return found


class Extractor:
    """uint8 images to features; `identity` is the hash of its weights, `label` tells how they came."""

    def __init__(self, network: nn.ModuleDict, spec: Spec, label: str, device: str) -> None:
        self.network = network.to(device).eval().requires_grad_(False)
        self.spec, self.label, self.device = spec, label, device
        weights = b"".join(p.cpu().numpy().tobytes() for p in network.parameters())
        self.identity = hashlib.sha256(weights).hexdigest()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Raises DataError for images that are not uint8, or not of the size that it knows."""
        require_images(images, "classifier", self.spec)
        with torch.autocast(torch.device(self.device).type, enabled=False):
            pool = self.network["body"](images.to(self.device).float() / 127.5 - 1)
            return {"pool": pool, "logits": self.network["head"](pool)}

    def stages(self, x: Tensor) -> list[Tensor]:
        """What the three stages give of (B, C, H, W) in [-1, 1], with a gradient: (B, C_l, H_l, W_l) each."""
        found: list[Tensor] = self.network["body"].stages(x.float())
        return found


@functools.lru_cache(maxsize=4)
def _extractor(component: Classifier, dataset: Any, setup: Setup, device: str) -> Extractor:
    labelled = _labelled(dataset, setup)
    spec, name = labelled.spec, registry.info_of(dataset).name
    recipe = [component.seed, Classifier.revision, WIDTHS, STEPS, BATCH, RATE]
    what = json.dumps([labelled.identity, spec.classes, spec.flip, recipe])
    label = f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:8]}"
    path = setup.cache_dir / "classifiers" / f"{label}.safetensors" if setup.cache_dir else None
    network = _initial(spec, component.seed)
    if path is None or not _read(path, network):
        if processes.rank() == 0:
            print(f"genkit: training the classifier {label} on {name}, once", file=sys.stderr, flush=True)
        _train(network, labelled, component.seed)
        if path is not None:
            _write(path, network)
    return Extractor(network, spec, label, device)


def _labelled(dataset: Any, setup: Setup) -> Data:
    """The data with their labels.

    Raises:
        DataError: There are none, or the data are no images.
    """
    if dataset is None:
        raise DataError("classifier", "there is no data set here to learn from", OTHERS)
    if "labels" in attrs.fields_dict(type(dataset)):
        dataset = attrs.evolve(dataset, labels=True)
    found: Data = registry.build(dataset, setup)
    if not found.spec.classes or found.spec.dtype != "uint8":
        what = "no labels" if found.spec.dtype == "uint8" else "no images"
        name = registry.info_of(dataset).name
        raise DataError("classifier", f"{name} has {what} to learn from", OTHERS)
    return found


def _initial(spec: Spec, seed: int) -> nn.ModuleDict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(Key(seed).integer("classifier"))
        return nn.ModuleDict({"body": Network(spec.channels), "head": nn.Linear(WIDTHS[-1], spec.classes)})


@torch.enable_grad()
def _train(network: nn.ModuleDict, labelled: Data, seed: int) -> None:
    """On one thread: the same bits whatever the number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _steps(network, labelled, seed)
    finally:
        torch.set_num_threads(threads)


def _steps(network: nn.ModuleDict, labelled: Data, seed: int) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _, batch in zip(range(STEPS), batches(labelled, seed, 0, BATCH), strict=False):
        loss = F.cross_entropy(network["head"](network["body"](batch.x)), batch.cond["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _read(path: Path, network: nn.ModuleDict) -> bool:
    """Whether there was one; a damaged file is made anew."""
    try:
        network.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError):
        return False
    return True


def _write(path: Path, network: nn.ModuleDict) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), partial)
        partial.replace(path)
