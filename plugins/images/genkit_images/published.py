"""Data sets that papers compare on: downloaded once, packed once into the cache, then read as HDF5."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from genkit.data import PublicFile, cache_folder, files, hdf5, locate
from genkit.errors import DataError
from genkit.kinds import Data, Setup, setting
from genkit_images.arrays import Array, located
from genkit_images.augment import Augmented
from genkit_images.batches import batch, idx
from genkit_images.hdf5 import Hdf5
from genkit_images.streaming import Large

CIFAR10 = PublicFile(
    name="cifar-10-python.tar.gz",
    sha256="6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    size=170_498_071,
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    about="CIFAR-10 (A. Krizhevsky 2009); its authors state no licence",
)
CIFAR10_PACKED = f"cifar10-{CIFAR10.sha256[:8]}.h5"
CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()

_MIT = "Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf 2017); MIT"
FASHION = {
    key: PublicFile(
        name=f"fashion-{name}",
        sha256=sha256,
        size=size,
        url=f"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/{name}",
        about=_MIT,
    )
    for key, name, size, sha256 in (
        (
            "train/images",
            "train-images-idx3-ubyte.gz",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        (
            "train/labels",
            "train-labels-idx1-ubyte.gz",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        (
            "held_out/images",
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        (
            "held_out/labels",
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    )
}
FASHION_CLASSES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")


def kept(name: str, setup: Setup, make: Callable[[], tuple[dict[str, Array], dict[str, Any]]]) -> Path:
    """A packed file in the cache, made of arrays and attributes where it is not there yet."""
    path = packed(name, setup.cache_dir)
    if not path.is_file():
        hdf5.write(path, *make())
    return path


def packed(name: str, cache: Path | None = None) -> Path:
    """Where a packed file is kept, whether it is there or not."""
    return (cache or cache_folder()) / "data" / name


@attrs.frozen(kw_only=True)
class Cifar10(Augmented):
    """CIFAR-10: 50,000 colour images of 32x32 in 10 classes; its 10,000 test images are held out.

    The Python archive that torchvision downloads, too, found by
    `genkit.data.locate`; what stands in it is read as data.
    """

    labels: bool = setting(False, "condition on the class, 0 ... 9")
    flip: bool = setting(True, "mirror half of the training images")
    path: Path | None = setting(None, "the archive, if it is not to be downloaded", identity=False)

    def absent(self) -> PublicFile | None:
        """The file that a run would download."""
        return None if self.path or packed(CIFAR10_PACKED).is_file() or files.present(CIFAR10) else CIFAR10

    def build(self, setup: Setup) -> Data:
        """The data.

        Raises:
            DataError: The archive cannot be had, or is another file.
        """
        given = located(self.path, setup) if self.path else ""
        path = kept(CIFAR10_PACKED, setup, lambda: _cifar10(locate(CIFAR10, given, setup.cache_dir)))
        return self.augmented(Hdf5(path=path, labels=self.labels, flip=self.flip).build(setup))


def _cifar10(archive: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    def part(*names: str) -> tuple[Array, Array]:
        read = [_member(archive, f"cifar-10-batches-py/{name}") for name in names]
        return np.concatenate([images for images, _ in read]), np.concatenate([labels for _, labels in read])

    train, held_out = part(*(f"data_batch_{i}" for i in range(1, 6))), part("test_batch")
    arrays = {"train/images": train[0], "train/labels": train[1]}
    arrays |= {"held_out/images": held_out[0], "held_out/labels": held_out[1]}
    return arrays, {"classes": CIFAR10_CLASSES, "source": CIFAR10.url, "source_sha256": CIFAR10.sha256}


def _member(archive: Path, name: str) -> tuple[Array, Array]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            stream = tar.extractfile(name)
            if stream is None:
                raise KeyError(f"{name} is no file")
            return batch(stream, f"{archive}:{name}")
    except (tarfile.TarError, OSError, EOFError, KeyError) as error:
        raise DataError(archive, f"cannot be unpacked ({error})", "remove it and fetch it again") from error


@attrs.frozen(kw_only=True)
class FashionMnist(Augmented):
    """Fashion-MNIST: 60,000 grey images of clothes, 28x28, in 10 classes; its 10,000 test images are held out."""

    labels: bool = setting(False, "condition on the class, 0 ... 9")
    flip: bool = setting(False, "mirror half of the training images")
    size: int = setting(
        28, "pixels; 28, or 32 with two black pixels on every side", check=attrs.validators.in_((28, 32))
    )

    @property
    def _packed(self) -> str:
        return f"fashion-mnist-{self.size}.h5"

    def absent(self) -> PublicFile | None:
        """The first of the files that a run would download; that of the training images is most of them."""
        missing = [] if packed(self._packed).is_file() else [f for f in FASHION.values() if not files.present(f)]
        return next(iter(missing), None)

    def build(self, setup: Setup) -> Data:
        """The data.

        Raises:
            DataError: A file cannot be had, or is another one.
        """
        path = kept(self._packed, setup, lambda: _fashion(self.size, setup))
        return self.augmented(Hdf5(path=path, labels=self.labels, flip=self.flip).build(setup))


def _fashion(size: int, setup: Setup) -> tuple[dict[str, Array], dict[str, Any]]:
    arrays: dict[str, Array] = {}
    for key, file in FASHION.items():
        found = idx(locate(file, "", setup.cache_dir), 3 if key.endswith("images") else 1)
        margin = (size - found.shape[-1]) // 2
        around = ((0, 0), (margin, margin), (margin, margin))
        arrays[key] = np.pad(found, around)[:, None] if found.ndim == 3 else found.astype(np.int64)
    return arrays, {"classes": FASHION_CLASSES, "source": FASHION["train/images"].url, "size": size}


@attrs.frozen(kw_only=True)
class ImageNet64(Large):
    """ImageNet at 64x64 in 1,000 classes, from a file that `genkit data pack` made.

    There is no download: the pictures need an account at image-net.org. The file is the given one, or
    `data/imagenet64.h5` in the cache; it is streamed where it is larger than `max_gib`.
    """

    path: Path | None = setting(None, "the packed file; data/imagenet64.h5 in the cache if not given", identity=False)
    labels: bool = setting(True, "condition on the class, 0 ... 999")
    flip: bool = setting(True, "mirror half of the training images")

    def absent(self) -> None:
        """Nothing, as there is no download.

        Raises:
            DataError: The file is not there.
        """
        if not self.path:
            _require_packed(packed("imagenet64.h5"))

    def build(self, setup: Setup) -> Data:
        """The data.

        Raises:
            DataError: There is no such file, or it has other images.
        """
        path = located(self.path, setup) if self.path else packed("imagenet64.h5", setup.cache_dir)
        _require_packed(path)
        data = Hdf5(path=path, labels=self.labels, flip=self.flip, max_gib=self.max_gib, workers=self.workers).build(
            setup
        )
        if data.spec.shape != (3, 64, 64):
            raise DataError(path, f"has images of shape {data.spec.shape}, not (3, 64, 64)", "use dataset.use = hdf5")
        return self.augmented(data)


def _require_packed(path: Path) -> None:
    if not path.is_file():
        remedy = f"genkit data pack FOLDER {path} --size 64 --crop edm"
        raise DataError(path, "is not there: ImageNet 64x64 is packed from your own copy", remedy)
