"""Sampling, searching levels and editing through the command line, on a run of seconds."""

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

import genkit
from genkit import cli
from genkit.data import hdf5

TINY = ["train.steps=8", "train.batch_size=8", "network.model_channels=8", "network.num_blocks=1", "metrics.pr=false"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs: of digits with labels, and of colour pictures."""
    root = tmp_path_factory.mktemp("runs")
    pictures = root / "pictures"
    pictures.mkdir()
    for i in range(20):
        Image.merge("RGB", [Image.effect_noise((8, 8), 50 + i) for _ in "RGB"]).save(pictures / f"{i}.png")
    few = [*TINY, "evaluate.samples=40"]
    for name, more in {
        "digits": ["dataset.labels=true"],
        "colours": ["dataset.use=image-folder", f"dataset.path={pictures}", "metrics.fd=false"],
    }.items():
        recipe = genkit.load_recipe("ict_digits", overrides=[*few, *more, f"name={name}"])
        genkit.run(recipe, out=root / name)
    return root


@pytest.fixture
def call(runs, monkeypatch, capsys):
    """`call("sample", …)`: (exit code, stdout, stderr) of a command, in this process."""
    monkeypatch.setenv("GENKIT_RUNS", str(runs))

    def calling(*argv):
        with pytest.raises(SystemExit) as done:
            cli.main([*map(str, argv)])
        out, err = capsys.readouterr()
        return done.value.code or 0, out, err

    return calling


def one_line(answer, code, *words):
    found, out, err = answer
    assert (found, out, err.count("\n")) == (code, "", 1), answer
    assert all(word in err for word in words), err


def test_samples_as_a_grid_a_folder_and_a_file_with_their_labels(call, tmp_path):
    assert call("sample", "digits", "--count", 5, "--steps", "2", "--out", tmp_path / "grid.png")[0] == 0
    assert call("sample", "digits", "--count", 5, "--steps", "0.8", "--out", tmp_path / "folder")[0] == 0
    assert call("sample", "digits", "--count", 300, "--steps", "3,0.8", "--out", tmp_path / "s.h5")[0] == 0
    assert len(np.array(Image.open(tmp_path / "grid.png"))) > 100
    assert pixels(tmp_path / "folder").shape == (5, 8, 8)
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["train/images"].shape == (300, 1, 8, 8) and hdf5.told(file)["steps"] == "3,0.8"
        labels = np.bincount(file["train/labels"], minlength=10)
    assert len(labels) == 10 and labels.min() > 5
    assert call("sample", "digits", "--label", 3, "--count", 4, "--out", tmp_path / "t.h5")[0] == 0
    with h5py.File(tmp_path / "t.h5") as file:
        assert set(file["train/labels"]) == {3}


@pytest.mark.parametrize("steps", ["nan", "inf", "0.5,0.8", "81.0", "0.001", "0.8,nan", "0", "-1", "two", ""])
def test_steps_that_make_no_descent_are_one_line(call, steps):
    one_line(call("sample", "digits", "--steps", steps), 2)


def test_a_file_of_no_known_kind_and_a_class_of_nobody_are_one_line(call):
    one_line(call("sample", "digits", "--out", "samples.gif"), 2, ".gif")
    one_line(call("sample", "digits", "--label", "10"), 4, "10")
    one_line(call("sample", "colours", "--label", "1"), 4, "no classes")


def test_search_steps_prints_each_probe_its_noise_and_the_line_for_the_recipe(call):
    code, out, err = call("search-steps", "digits", "--samples", 60, "--points", 9)
    assert code == 0 and err.count("levels ") >= 3
    assert "fd.fd" in out and "standard deviation" in out and "over 3 seeds" in out
    assert "best: levels = [" in out and out.count("the best") == 1


def test_a_search_of_what_is_not_there_is_one_line(call):
    one_line(call("search-steps", "digits", "--metric", "is"), 2, "fd")
    one_line(call("search-steps", "colours"), 4, "metrics")


def picture(path, mode="RGB", size=(8, 8), seed=0):
    channels = {"RGB": (3,), "L": (), "1": ()}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
    image = Image.fromarray(pixels) if mode != "1" else Image.fromarray(pixels).convert("1")
    image.save(path)
    return path


def pixels(folder):
    return torch.stack([torch.from_numpy(np.array(Image.open(p))) for p in sorted(folder.iterdir())]).float()


def test_inpainting_keeps_what_the_mask_leaves(call, tmp_path):
    given = picture(tmp_path / "a.png")
    mask = np.zeros((8, 8), dtype=np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = ["--task", "inpaint", "--image", given, "--steps", 3, "--count", 4, "--out", tmp_path / "out"]
    assert call("edit", "colours", *arguments, "--mask", tmp_path / "mask.png")[0] == 0
    found, before = pixels(tmp_path / "out"), torch.from_numpy(np.array(Image.open(given))).float()
    assert torch.equal(found[:, :, :4], before[:, :4].expand(4, -1, -1, -1))
    assert not torch.equal(found[0, :, 4:], found[1, :, 4:])


def test_colorizing_and_upscaling_keep_brightness_and_means(call, tmp_path):
    grey, small = picture(tmp_path / "grey.png", "L"), picture(tmp_path / "small.png", size=(4, 4))
    rest = ["--steps", 3, "--count", 2, "--out"]
    assert call("edit", "colours", "--task", "colorize", "--image", grey, *rest, tmp_path / "c.h5")[0] == 0
    arguments = ["--task", "upscale", "--patch", 2, "--image", small]
    assert call("edit", "colours", *arguments, *rest, tmp_path / "u.h5")[0] == 0
    with h5py.File(tmp_path / "c.h5") as file:
        luma = np.einsum("bchw,c->bhw", file["train/x0"], [0.2989, 0.5870, 0.1140])
    assert np.allclose(luma, np.array(Image.open(grey)) / 127.5 - 1, atol=1e-3)  # the weights add up to 0.9999
    with h5py.File(tmp_path / "u.h5") as file:
        means = file["train/x0"][:].reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    assert np.allclose(means, np.array(Image.open(small)).transpose(2, 0, 1) / 127.5 - 1, atol=1e-5)


def test_interpolation_goes_from_one_sample_to_the_other(call, tmp_path):
    def grid(*more):
        assert call("edit", "digits", "--task", "interpolate", "--label", 1, "--out", tmp_path / "i", *more)[0] == 0
        return pixels(tmp_path / "i")

    found = grid("--count", 5)
    denoiser = genkit.load("digits")
    ends = (genkit.sample(denoiser, 2, label=1) * 127.5 + 128).clip(0, 255).to(torch.uint8).squeeze(1)
    assert (found[[0, 4]] - ends).abs().max() <= 1
    a, b = (picture(tmp_path / f"{i}.png", "L", seed=i) for i in (0, 1))
    near = grid("--count", 5, "--image", a, "--image", b, "--level", 0.01)
    assert (near[0] - torch.from_numpy(np.array(Image.open(a)))).abs().mean() < 10


@pytest.mark.parametrize(
    ("code", "word", "arguments"),
    [
        (2, "no task", ["--task", "sharpen"]),
        (2, "0 pictures", ["--task", "inpaint"]),
        (2, "takes 0 or 2", ["--task", "interpolate", "--image", "a.png"]),
        (2, "--level", ["--task", "interpolate", "--level", "nan"]),
        (4, "no such file", ["--task", "inpaint", "--image", "nowhere.png"]),
        (4, "cannot be read", ["--task", "inpaint", "--image", "text.png"]),
        (4, "mode L", ["--task", "inpaint", "--image", "grey.png"]),
        (4, "9x8 pixels", ["--task", "inpaint", "--image", "wide.png"]),
        (4, "empty", ["--task", "inpaint", "--image", "a.png", "--mask", "black.png"]),
        (4, "covers all", ["--task", "inpaint", "--image", "a.png", "--mask", "white.png"]),
        (4, "mode RGB", ["--task", "inpaint", "--image", "a.png", "--mask", "a.png"]),
        (4, "--patch", ["--task", "upscale", "--patch", "3", "--image", "a.png"]),
    ],
)
def test_what_cannot_be_edited_is_one_line(call, tmp_path, code, word, arguments):
    picture("a.png"), picture("grey.png", "L"), picture("wide.png", size=(9, 8))
    Image.new("L", (8, 8), 0).save("black.png"), Image.new("L", (8, 8), 255).save("white.png")
    (tmp_path / "text.png").write_text("no picture")
    one_line(call("edit", "colours", *arguments), code, word)


def test_grey_models_have_no_colours_to_add(call):
    picture("grey.png", "L")
    one_line(call("edit", "digits", "--task", "colorize", "--image", "grey.png"), 4, "no colours")
