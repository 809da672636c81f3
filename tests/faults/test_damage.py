"""Files of a run folder and of a data set, cut short or with one bit flipped: refused in a line, or without effect."""

import collections
import json
import re
import shutil
from pathlib import Path

import h5py
import pytest
from driver import RING, Done, Forked, dice, documented, final, flip, genkit, refused, same
from marks import point

from genkit.testing import provide

RUN = [*RING, "evaluate.every_steps=40", "--out", "run"]
SAMPLE = ["sample", "run", "--count", "4", "--out", "some"]
EFFECTS = {"resumed": RUN, "reported": [*RUN, "--json"], "sampled": SAMPLE, "shown": ["runs", "show", "run"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, _server):
    """Run folders to be damaged, and what comes of them undamaged: one that was stopped, one that is done."""
    base = tmp_path_factory.mktemp("runs")
    site, there = provide(base / "site", "staged", "probe_staged"), [*RUN[:-1], base / "stopped"]
    genkit(*there, path=[site], FAULT="step:45 SIGTERM", GENKIT_CACHE=str(base / "cache"), code=75)
    genkit(*RUN[:-1], base / "done", GENKIT_CACHE=str(base / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        shutil.copytree("stopped", "run")
        whole = {"resumed": effect("resumed")}
        shutil.rmtree("run")
        (base / "done").rename("run")
        whole |= {name: effect(name) for name in ("reported", "sampled", "shown")}
        (base / "run").rename("done")
    return base, whole


def effect(name):
    """What comes of a command, or how it was refused; a notice counts as refused, since nothing is silent."""
    done = Forked(EFFECTS[name]).wait()
    documented(done)
    if done.code:
        return refused(done, {2, 4}, most=20) or "refused"
    if name == "resumed":
        return final("run")
    if name == "sampled":
        found = [path.read_bytes() for path in sorted(Path("some").iterdir())]
        return "refused" if "passed over" in done.err else found
    return json.loads(done.out)["figures"] if name == "reported" else ""


def damaged(runs, name, file, damage):
    """Whether the effect of a command on a run of which one file is damaged is refused, or is what it was."""
    for folder in ("run", "some"):
        shutil.rmtree(folder, ignore_errors=True)
    base, whole = runs
    shutil.copytree(base / ("stopped" if name == "resumed" else "done"), "run")
    (path,) = Path("run").glob(file)
    what = damage(path)
    found = effect(name)
    if found == "refused":
        return found
    if name == "resumed":
        same(found, whole[name])
    assert found == whole[name], f"{file}, {what}: silently something else"
    return "without effect"


def files(runs, folder):
    return sorted(str(p.relative_to(runs[0] / folder)) for p in (runs[0] / folder).rglob("*") if p.is_file())


def each(runs, name, damages):
    """Damage files in turn; every file whose damage has an effect is told at once."""
    wrong, came = collections.defaultdict(list), collections.Counter()
    for file, damage in damages:
        try:
            came[damaged(runs, name, file, damage)] += 1
        except AssertionError as error:
            wrong[file].append(str(error).splitlines()[0][:200])
    print(name, dict(came), {file: len(those) for file, those in wrong.items()})
    assert not wrong, dict(wrong)


def flips(runs, folder, number, chance, only):
    there = [f for f in files(runs, folder) if only(f)]
    for i in range(number):
        yield there[i % len(there)], lambda path: f"bit {flip(path, chance)}"


STEP = "checkpoints/step-0000060/"
OTHER = point("A", "`sample` takes the checkpoint before a damaged one, and says nothing")
SPEC = point("B", "a key of `spec` in lock.json that is not known is a traceback")
FIGURES = point("C", "evaluations/*.json has no hash: a flipped digit of a figure is reported as the figure")


def misspelt(path):
    path.write_text(path.read_text().replace("dtype", "dtxpe"))


def number(path):
    """Change the first digit of a figure."""
    place = path.read_bytes().index(b'"figures"')
    place += re.search(rb"[1-8]\.?\d", path.read_bytes()[place + 20 :]).start() + 20
    return f"bit {flip(path, bit=8 * place)}"


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        ("resumed", "checkpoints/step-0000045/state.safetensors", lambda path: flip(path, bit=99_991)),
        pytest.param("sampled", STEP + "state.safetensors", lambda path: flip(path, bit=99_991), marks=OTHER),
        pytest.param("sampled", STEP + "manifest.json", Path.unlink, marks=OTHER),
        pytest.param("sampled", "lock.json", misspelt, marks=SPEC),
        pytest.param("reported", "evaluations/*.json", number, marks=FIGURES),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_damage_is_refused_or_without_effect(runs, name, file, damage):
    damaged(runs, name, file, damage)


PARTS = {part: [] for part in ("state", "manifest", "lock.json", "events.jsonl", "recipe.toml", "evaluations")}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("name", ["resumed", "sampled", "reported"])
def test_a_flipped_bit_is_refused_or_without_effect(runs, name, part, request, thorough):
    folder = "stopped" if name == "resumed" else "done"
    chance = dice(request, name + part)
    each(runs, name, flips(runs, folder, 100 if thorough else 10, chance, lambda f: part in f))


def cut(length):
    def damage(path):
        raw = path.read_bytes()
        path.write_bytes(raw[: int(len(raw) * length) if length < 1 else -1])

    return damage


@pytest.mark.parametrize("name", ["resumed", pytest.param("sampled", marks=OTHER), "reported", "shown"])
def test_a_file_that_is_cut_short_is_refused_or_without_effect(runs, name, thorough):
    there = files(runs, "stopped" if name == "resumed" else "done")
    lengths = (0, 0.5, 1) if thorough else (0, 0.5) if name == "resumed" else (0.5,)
    each(runs, name, [(file, cut(length)) for file in there for length in lengths])


@pytest.fixture(scope="module")
def packed(tmp_path_factory, _server):
    """A data file that genkit wrote, and what is said of it."""
    folder = tmp_path_factory.mktemp("packed")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        genkit(*RING[:2], "dataset=digits", "network=unet", "network.model_channels=4", "network.num_blocks=1",
               "train.steps=1", "--out", "run", "metrics.fd=false")  # fmt: skip
        genkit("sample", "run", "--count", "40", "--out", "pictures/class")
        genkit("data", "pack", "pictures", "own.h5", "--size", "8")
        return folder / "own.h5", genkit("data", "info", "hdf5", "path=own.h5", "--json").out


VERIFY, INFO = ["data", "verify", "own.h5"], ["data", "info", "hdf5", "path=own.h5", "--json"]


def test_a_data_file_that_is_cut_short_is_refused(packed):
    raw = packed[0].read_bytes()
    for length in (0, 1, 100, len(raw) // 2, len(raw) - 1):
        Path("own.h5").write_bytes(raw[:length])
        for command in (VERIFY, INFO):
            refused(Forked(command).wait(), {4})


def silently(packed, bits):
    """Of these flipped bits of the data file, those after which something else is read without a word."""
    path, said = packed
    wrong = []
    for bit in bits:
        Path("own.h5").write_bytes(path.read_bytes())
        flip("own.h5", bit=bit)
        done = Forked(INFO).wait()
        documented(done, {0, 4})
        here = done.out.replace(str(Path.cwd()), str(path.parent))
        wrong += [bit] if not done.code and here != said else []
        assert not done.code or refused(done, {4}) is None
    return wrong


def chunks(path):
    """The first byte of the index of chunks, of the first chunk, and of what comes after it."""
    with h5py.File(path) as file:
        images = file["train/images"].id
        first = images.get_chunk_info(0)
        return path.read_bytes().index(b"EAHD"), first.byte_offset, first.byte_offset + first.size


def test_a_flipped_bit_of_stored_images_is_refused(packed, request, thorough):
    chance, (_, begin, end) = dice(request, "images"), chunks(packed[0])
    for _ in range(100 if thorough else 10):
        Path("own.h5").write_bytes(packed[0].read_bytes())
        flip("own.h5", bit=8 * chance.randrange(begin, end) + 3)
        refused(Forked(INFO).wait(), {4})


@point("D", "`data verify` reads the first row outside of its guard")
def test_a_flipped_bit_of_stored_images_is_found_by_verify(packed):
    Path("own.h5").write_bytes(packed[0].read_bytes())
    flip("own.h5", bit=8 * (chunks(packed[0])[2] - 40))
    refused(Forked(VERIFY).wait(), {4})


@point("E", "HDF5 has no checksum over its index of chunks: other images are read without a word")
def test_a_flipped_bit_of_the_index_of_images_is_refused(packed, request):
    start, chance = chunks(packed[0])[0], dice(request, "index")
    assert not silently(packed, [8 * start + chance.randrange(8 * 2000) for _ in range(20)])


def test_a_flipped_bit_anywhere_else_in_a_data_file_is_refused_or_without_effect(packed, request, thorough):
    start, chance = chunks(packed[0])[0], dice(request, "data")
    bits = [chance.randrange(8 * packed[0].stat().st_size) for _ in range(500 if thorough else 20)]
    assert not silently(packed, [bit for bit in bits if not start <= bit // 8 < start + 2500])


def test_control_a_reader_that_accepts_everything_is_told_apart(runs, monkeypatch):
    """As one does that looks at no hash: it samples damaged weights."""
    monkeypatch.setitem(runs[1], "sampled", [b"the samples of other weights"])
    with pytest.raises(AssertionError, match="silently something else"):
        damaged(runs, "sampled", "report.html", lambda path: path.write_text("without effect"))


def test_control_a_refusal_with_a_traceback_or_without_words_is_told_apart():
    refused(Done(4, err="genkit: x: is damaged; restore it"), {4})
    for bad in (Done(4), Done(0), Done(-11), Done(4, err="genkit: x: is bad\nTraceback (most recent call last)")):
        with pytest.raises(AssertionError):
            refused(bad, {4})
