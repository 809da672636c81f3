"""Claims about reference statistics: what is written comes back, what is doubtful is refused."""

import os
import random

import attrs
import h5py
import numpy as np
import pytest
import torch

from genkit.errors import DataError
from genkit.evaluation import references
from genkit.evaluation.references import Statistics
from genkit_metrics import published
from genkit_metrics.external import features_of


def statistics(**changes):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    arrays = {"pool/n": torch.tensor([40]), "pool/mean": rows.mean(0), "pool/covariance": torch.cov(rows.T)}
    told = {"arrays": arrays, "features": "inception", "hash": "1a2b3c4d", "data": "digits", "shape": (3, 32, 32)}
    return Statistics(**{**told, **changes})


def test_hdf5_gives_everything_back(tmp_path):
    said, path = statistics(pipeline="as stored"), tmp_path / "s.h5"
    published.write(path, said)
    found = references.read(path)
    assert found.arrays.keys() == said.arrays.keys() and found.samples == 40
    assert all(torch.equal(found.arrays[name], array) for name, array in said.arrays.items())
    for name in ("features", "hash", "data", "shape", "pipeline"):
        assert getattr(found, name) == getattr(said, name)
    assert published.is_statistics(path)
    with h5py.File(path) as file:
        assert all(file[name].fletcher32 for name in said.arrays)


def test_the_published_layout_is_read_and_written(tmp_path):
    """EDM: mu, sigma; ADM: mu_s, sigma_s and arr_0, NHWC, too."""
    mu, sigma, images = np.arange(4.0), np.eye(4), np.arange(2 * 6 * 6 * 3, dtype=np.uint8).reshape(2, 6, 6, 3)
    np.savez(tmp_path / "adm.npz", mu=mu, sigma=sigma, mu_s=mu[:3], sigma_s=sigma[:3, :3], arr_0=images)
    found = references.read(tmp_path / "adm.npz")
    assert found.features == "inception" and found.samples == 0 and found.shape == (3, 6, 6)
    assert torch.equal(found.arrays["spatial/covariance"], torch.eye(3, dtype=torch.float64))
    assert found.arrays["images"][1, 2, 3, 4] == images[1, 3, 4, 2]
    for middle in ("again.h5", "again.npz"):
        published.write(tmp_path / middle, found)
        found = references.read(tmp_path / middle)
    with np.load(tmp_path / "again.npz", allow_pickle=False) as file:
        assert set(file.files) == {"mu", "sigma", "mu_s", "sigma_s", "arr_0"}
        assert all(np.array_equal(file[n], v) for n, v in (("mu", mu), ("sigma", sigma), ("arr_0", images)))


def hurt(raw, chance):
    """Cut, or with bytes changed; not those of the heap of texts, where the HDF5 library may then search for ever."""
    changed = bytearray(raw)
    heap = raw.find(b"GCOL") if b"GCOL" in raw else len(raw)
    if chance.random() < 0.25:
        return raw[: chance.randrange(len(raw))]
    for _ in range(chance.choice((1, 3, 30))):
        place = chance.randrange(len(raw))
        if not heap <= place < heap + 4096:
            changed[place] = chance.randrange(256)
    return bytes(changed)


@pytest.mark.parametrize("name", ["s.h5", "s.npz", "t.h5"])
def test_damage_anywhere_is_one_line(tmp_path, name):
    chance, told, path = random.Random(name), 0, tmp_path / name
    if name.startswith("s"):
        published.write(path, statistics())
    else:  # another's, with the right format and nothing else
        with h5py.File(path, "w") as file:
            file.attrs["format"] = references.FORMAT
            file["pool/mean"] = ["a", "b"]
    whole = path.read_bytes()
    for i in range(80):
        path.write_bytes(hurt(whole, chance) if i else whole)
        for reader in (references.read, published.is_statistics, features_of):
            try:
                reader(path)
            except DataError as error:
                told += str(path) in str(error) and "\n" not in str(error)  # anything else fails the test
    assert told > 40


def test_an_npz_that_unpacks_to_more_than_the_memory_is_refused_before(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", arr_0=np.zeros((1000, 8, 8, 3), np.uint8))
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 100, "SC_PHYS_PAGES": 1000}[name])
    with pytest.raises(DataError, match=r"bomb\.npz: needs 0\.0 GiB of memory"):
        published.images(tmp_path / "bomb.npz")


class Trap:
    def __reduce__(self):
        return os.mkdir, ("sprung",)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "trap.npz", mu=np.array([Trap()], dtype=object), sigma=np.eye(1))
    with pytest.raises(DataError, match=r"trap.npz: cannot be read as .npz \(Object arrays"):
        references.read(tmp_path / "trap.npz")
    assert not os.path.exists("sprung")


@pytest.mark.parametrize("name", ["s.h5", "s.npz"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_file_is_a_line(tmp_path, name, share):
    path = tmp_path / name
    published.write(path, statistics())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=name):
        references.read(path)


def test_a_flipped_bit_is_found(tmp_path):
    path = tmp_path / "s.h5"
    published.write(path, statistics())
    whole = bytearray(path.read_bytes())
    at = whole.index(statistics().arrays["pool/covariance"].numpy().tobytes())
    whole[at + 9] ^= 1
    path.write_bytes(whole)
    with pytest.raises(DataError, match="damaged"):
        references.read(path)


def test_an_array_that_is_gone_is_missed(tmp_path):
    path = tmp_path / "s.h5"
    published.write(path, statistics())
    with h5py.File(path, "a") as file:
        del file["pool/n"]
    with pytest.raises(DataError, match="lacks some of its arrays"):
        references.read(path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("pool/mean", torch.full((5,), torch.nan), "pool/mean is not finite"),
        ("pool/mean", torch.zeros(4), "do not fit"),
        ("pool/covariance", torch.eye(5).cumsum(0), "pool/covariance is not symmetric"),
    ],
)
def test_arrays_that_are_no_statistics_are_refused(tmp_path, name, value, told):
    arrays = {**statistics().arrays, name: value.double()}
    published.write(tmp_path / "s.h5", statistics(arrays=arrays))
    with pytest.raises(DataError, match=told):
        references.read(tmp_path / "s.h5")


def test_other_files_are_no_statistics(tmp_path):
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["images"] = np.zeros((2, 8, 8), np.uint8)
    assert not published.is_statistics(tmp_path / "images.h5")
    np.savez(tmp_path / "samples.npz", arr_0=np.zeros((2, 8, 8, 3), np.uint8))
    assert not published.is_statistics(tmp_path / "samples.npz")
    for name in ("images.h5", "samples.npz"):
        with pytest.raises(DataError, match="holds no"):
            references.read(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        references.read(tmp_path / "nowhere.npz")


@pytest.mark.parametrize(
    ("against", "told"),
    [
        ({"features": "pixels"}, "has statistics of features 'inception', not of 'pixels'"),
        (
            {"features": "inception", "hash": "00000000"},
            "was made with features inception 1a2b3c4d, these are 00000000",
        ),
        ({"shape": (3, 64, 64)}, "has statistics of 3x32x32 images, these are 3x64x64"),
        ({"data": "faces"}, "has statistics of data digits, these are faces"),
    ],
)
def test_a_comparison_that_means_nothing_is_refused(against, told):
    with pytest.raises(DataError, match=told):
        statistics().require(**against)


def test_what_is_not_told_is_not_refused():
    statistics().require(features="inception", hash="1a2b3c4d", shape=(3, 32, 32), data="digits")
    unknown = attrs.evolve(statistics(), hash="", data="", shape=())
    unknown.require(features="inception", hash="00000000", shape=(3, 64, 64), data="faces")


def test_only_inceptions_statistics_go_into_the_published_layout(tmp_path):
    with pytest.raises(DataError, match="'pixels'; name a .h5"):
        published.write(tmp_path / "s.npz", statistics(features="pixels"))
    with pytest.raises(DataError, match=r"neither .h5 nor .npz"):
        published.write(tmp_path / "s.pkl", statistics())
    assert not list(tmp_path.iterdir())
