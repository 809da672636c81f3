"""What features see: distances of pictures that were damaged, in multiples of that of pictures that were not.

    OMP_NUM_THREADS=1 python benchmarks/features.py DATASET [--test DATASET] [--count 4000]

DATASET is a name, a recipe or a file with labels, such as cifar10. The floor is the Fréchet distance of `count`
training pictures to as many others; each line damages those others in one way. Then, what the loss lpips finds with
each trunk: the mean distance of a picture to itself blurred, and to itself with noise of the same energy, and what both
passes and the gradient cost for a picture. Everything is drawn from fixed seeds.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable

import attrs
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import genkit
from genkit.data import cache_folder, named
from genkit.kernel import registry
from genkit.keys import Key
from genkit.kinds import Context, Data
from genkit_metrics.frechet import frechet_distance
from genkit_metrics.moments import Moments

FEATURES = ("pixels", "classifier", "efficientnet-lite0")
TRUNKS = ("classifier", "efficientnet-lite0")


def blurred(x: Tensor, deviation: float) -> Tensor:
    """By a Gaussian of this many pixels, borders repeated."""
    reach = max(1, round(4 * deviation))
    line = torch.exp(-torch.arange(-reach, reach + 1.0).square() / (2 * deviation**2))
    kernel = (line[:, None] * line / line.sum() ** 2).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x.float(), (reach,) * 4, mode="replicate"), kernel, groups=x.shape[1])


def noisy(x: Tensor, deviation: float | Tensor) -> Tensor:
    return x.float() + deviation * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def compressed(x: Tensor, quality: int) -> Tensor:
    """By JPEG and back."""
    found = []
    for picture in x.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(picture.squeeze()).save(file, "jpeg", quality=quality)
        found.append(np.atleast_3d(np.asarray(Image.open(file))))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def mixed(x: Tensor) -> Tensor:
    """Each quarter is of another picture."""
    found, (h, w) = x.clone(), (x.shape[2] // 2, x.shape[3] // 2)
    for i, (rows, columns) in enumerate(
        [(slice(h), slice(w, None)), (slice(h, None), slice(w)), (slice(h, None), slice(w, None))], 1
    ):
        found[:, :, rows, columns] = x.roll(17 * i, 0)[:, :, rows, columns]
    return found


def levels(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


DAMAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "blur of half a pixel": lambda x: blurred(x, 0.5),
    "blur of one pixel": lambda x: blurred(x, 1.0),
    "noise of 5 levels": lambda x: noisy(x, 5.0),
    "noise of 15 levels": lambda x: noisy(x, 15.0),
    "JPEG at quality 30": lambda x: compressed(x, 30),
    "quarters of pictures mixed": mixed,
    "10 % brighter": lambda x: 1.1 * x.float(),
}  # fmt: skip


def pictures(data: Data, start: int, count: int) -> tuple[Tensor, Tensor]:
    batch = data.batch(torch.arange(start, start + count), Key(0))
    return batch.x.cpu(), batch.cond["label"].cpu()


def law(extract: Callable[[Tensor], dict[str, Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
    moments = Moments()
    for part in x.split(256):
        moments.update(extract(part)["pool"])
    return moments.mean, moments.covariance()


def sets(data: Data, test: Data | None, count: int) -> dict[str, Tensor]:
    """The pictures that the floor's reference is compared with, by what was done to them."""
    others, labels = pictures(data, count, count)
    found = {"others (the floor)": others}
    if test is not None:
        found["test set"] = pictures(test, 0, min(count, len(test)))[0]
    found |= {name: levels(damage(others)) for name, damage in DAMAGES.items()}
    x, labels = pictures(data, count, min(2 * count, len(data) - count))
    few = x[labels < 7][:count]
    return {**found, f"seven of {data.spec.classes} classes": few}


def seen(context: Context, data: Data, test: Data | None, count: int) -> None:
    """The table of distances."""
    shown, reference = sets(data, test, count), pictures(data, 0, count)[0]
    print("", *FEATURES, sep=" | ")
    rows: dict[str, list[str]] = {name: [] for name in shown}
    for name in FEATURES:
        extract = registry.build(genkit.component("features", name), context)
        against = law(extract, reference)
        distances = {what: frechet_distance(*against, *law(extract, x)) for what, x in shown.items()}
        floor = distances["others (the floor)"]
        for what, distance in distances.items():
            rows[what].append(f"{floor:.3g}" if distance == floor else f"{distance / floor:.1f}")
    for what, row in rows.items():
        print(what, *row, sep=" | ")


def compared(context: Context, data: Data, count: int) -> None:
    """What the trunks make of blur, and of noise of the same energy; milliseconds for a picture."""
    x = pictures(data, 0, count)[0]
    blur = blurred(x, 1.0)
    energy = (blur - x).square().mean((1, 2, 3), keepdim=True).sqrt()
    clean, *others = (each.float() / 127.5 - 1 for each in (x, blur, noisy(x, energy)))
    print("trunk", "blur", "noise", "ms a picture", sep=" | ")
    for trunk in TRUNKS:
        d = registry.build(genkit.component("loss", "lpips", trunk=trunk), context)
        with torch.no_grad():
            pairs = [zip(clean.split(64), y.split(64), strict=True) for y in others]
            means = [f"{torch.cat([d(*pair) for pair in each]).mean():.3f}" for each in pairs]
        moved = others[0][:64].clone().requires_grad_()
        times = []
        for _ in range(4):
            begun = time.process_time()
            d(clean[:64], moved).sum().backward()
            times.append((time.process_time() - begun) / len(moved) * 1e3)
        print(trunk, *means, f"{min(times):.1f}", sep=" | ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--test")
    parser.add_argument("--count", type=int, default=4000)
    arguments = parser.parse_args()

    def labelled(name: str) -> tuple[object, Data]:
        component, setup = named.component_of(name, "cpu")
        component = attrs.evolve(component, labels=True)
        return component, registry.build(component, setup)

    component, data = labelled(arguments.dataset)
    test = labelled(arguments.test)[1] if arguments.test else data.held_out
    context = Context(spec=data.spec, dataset=component, cache_dir=cache_folder(), total_steps=1)
    seen(context, data, test, arguments.count)
    compared(context, data, min(arguments.count, 512))


if __name__ == "__main__":
    main()
