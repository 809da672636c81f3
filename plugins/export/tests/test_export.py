"""Exports: what is read back draws the samples of the run, or nothing is left there."""

import json
import sys

import pytest
import torch

import genkit
from genkit.errors import DataError, PluginError, RecipeError
from genkit.evaluation import results
from genkit.kernel.loading import load_recipe
from genkit.runs import store
from genkit_export import exporting, hub, model, onnx_graph, program

FEW = ["train.steps=20", "evaluate.samples=300"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained model of points, whose network is no longer where it started."""
    return genkit.run(load_recipe("ict_ring", FEW), tmp_path_factory.mktemp("run") / "ring").folder


@pytest.mark.parametrize(("to", "steps", "off"), [("safetensors", 2, 0), ("torch-export", 2, 1e-6), ("onnx", 1, 1e-5)])
def test_what_is_exported_draws_the_samples_of_the_run(run, call, to, steps, off):
    if to == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    out, err = call("export", run, "--to", to, "--steps", steps)
    assert "samples differ by" in err
    drawn = genkit.sample(genkit.load(out.strip()), 5, steps, seed=3)
    own = genkit.sample(genkit.load(run), 5, steps, seed=3)
    assert float((drawn - own).abs().max()) <= off
    path, _ = call("sample", out.strip(), "--steps", steps, "--count", 4)
    assert path.strip().endswith(f"-steps{steps}-seed0.png")


def test_a_folder_for_a_hub_has_a_card_and_is_read_like_the_run(run, tmp_path, call):
    folder = tmp_path / "points"
    call("export", run, "--to", "hub", "--license", "CC0-1.0", "--out", folder)
    assert {path.name for path in folder.iterdir()} == {"README.md", "model.safetensors", "recipe.toml", "samples.png"}
    head, _, text = (folder / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    assert yaml(head)["license"] == "CC0-1.0" and yaml(head)["library_name"] == "genkit"
    (found,) = store.evaluations(run)
    assert found["protocol"]["name"] in text and results.tidy(found["steps"]["1"]["figures"]["fd.fd"]) in text
    lock = json.loads((run / "lock.json").read_text())
    assert lock["id"] in text and lock["data"] in text
    assert torch.equal(genkit.sample(genkit.load(folder), 5), genkit.sample(genkit.load(run), 5))
    path, _ = call("sample", folder, "--count", 4)
    assert path.strip() == "points-steps1-seed0.png"
    of_run, of_folder = (json.loads(call("evaluate", what, "--json")[0]) for what in (run, folder))
    assert of_folder["steps"] == of_run["steps"]
    started = genkit.run(load_recipe("ict_ring", [*FEW, f"init.from={folder}", "train.steps=1"]), tmp_path / "b")
    call("export", started.folder, "--to", "hub", "--out", tmp_path / "next")
    assert f"started from: `{folder}`" in (tmp_path / "next/README.md").read_text()
    assert "is there already" in call("export", run, "--to", "hub", "--out", folder, code=4)[1]


def test_a_card_tells_no_figures_of_other_weights_and_no_licence_that_is_not_told(run):
    made = model.of_run(run, "raw")
    text = hub.card(made, 1)
    assert "None are on record for these weights." in text and "Not told by who exported it" in text
    assert 'license: "unknown"' in text and "edm-fid" not in text


def yaml(head):
    return {name: json.loads(value) for name, _, value in (line.partition(": ") for line in head.splitlines())}


def test_an_export_is_evaluated_as_its_run_is(run, tmp_path, call):
    path, _ = exporting.export(model.of_run(run), "torch-export", tmp_path / "a.pt2", 2)
    of_run, of_graph = (json.loads(call("evaluate", what, "--steps", 2, "--json")[0]) for what in (run, path))
    assert of_graph["steps"]["2"]["figures"] == pytest.approx(of_run["steps"]["2"]["figures"], rel=1e-4)
    assert of_graph["protocol"]["name"] == of_run["protocol"]["name"]


def test_an_export_that_reads_back_otherwise_is_not_left_there(run, tmp_path, monkeypatch):
    form = exporting.FORMS["safetensors"]

    def bent(path):
        found = form.read(path)
        next(found.network.parameters()).mul_(1.01)
        return found

    monkeypatch.setitem(exporting.FORMS, "safetensors", form._replace(read=bent))
    with pytest.raises(DataError, match="reads back with samples that differ by"):
        exporting.export(model.of_run(run), "safetensors", tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_program_of_a_model_with_classes_takes_labels_for_any_number_of_samples():
    network = {"use": "adm", "model_channels": 32, "channel_mult": [1], "num_blocks": 1, "attn_resolutions": [4]}
    objective = genkit.component("objective", "consistency", network=network)
    spec = genkit.Spec(channels=1, height=4, width=4, classes=3)
    denoiser = genkit.build(objective, genkit.Context(spec=spec, total_steps=9, training=False)).student.eval()
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    made = model.Model(denoiser=denoiser, recipe=None, folder=None, told={})
    found, told = program.graph.exported(made, 2)
    noise, label = torch.randn(5, 2, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1])
    own = denoiser.sampler(denoiser, lambda j: noise[:, j], {"label": label}, 2)
    assert told["draws"] == "2" and told["nfe"] == "2"
    drawn = found.module()(noise, label)
    assert torch.allclose(drawn, own, atol=1e-5) and not torch.allclose(
        drawn, found.module()(noise, 0 * label), atol=1e-3
    )


def test_levels_of_more_steps_become_numbers_in_the_graph():
    """Those of a grid are found by arithmetic on tensors, which a graph cannot have."""
    objective = genkit.component("objective", "meanflow", network="mlp")
    spec = genkit.Spec(channels=2, height=1, width=1, dtype="float32")
    denoiser = genkit.build(objective, genkit.Context(spec=spec, total_steps=9, training=False)).student.eval()
    noise = torch.randn(4, 1, 2, 1, 1)
    own = denoiser.sampler(denoiser, lambda j: noise[:, j], {}, 3)
    found, told = program.graph.exported(model.Model(denoiser=denoiser, recipe=None, folder=None, told={}), 3)
    assert told["nfe"] == "3" and torch.allclose(found.module()(noise), own.float(), atol=1e-5)


def test_a_graph_says_what_it_cannot(run, tmp_path):
    path, _ = exporting.export(model.of_run(run), "torch-export", tmp_path / "a.pt2")
    graph = genkit.load(path)
    with pytest.raises(RecipeError, match="is a graph of --steps 1, not of 2"):
        genkit.sample(graph, 2, steps=2)
    with pytest.raises(DataError, match="whose network cannot be asked alone"):
        graph(torch.zeros(1, 2, 1, 1), torch.ones(1))
    state = genkit.load(run).network.state_dict()
    started = genkit.run(load_recipe("ict_ring", [*FEW, f"init.from={path}", "train.steps=1"]), tmp_path / "b")
    assert {n: t.shape for n, t in graph.network.state_dict().items()} == {n: t.shape for n, t in state.items()}
    assert all(torch.equal(t, state[n]) for n, t in graph.network.state_dict().items()) and started.figures


def test_mistakes_are_one_line(run, tmp_path, call, monkeypatch):
    assert "did you mean 'onnx'?" in call("export", run, "--to", "onxn", code=2)[1]
    path, _ = exporting.export(model.of_run(run), "safetensors", tmp_path / "a.safetensors")
    for words in (["--weights", "raw"], ["--checkpoint", "best"]):
        assert "a model that was exported is as it is" in call("evaluate", path, *words, code=2)[1]
    assert "give it that ending" in call("export", run, "--to", "onnx", "--out", "a.bin", code=2)[1]
    (tmp_path / "stranger.pt2").write_bytes(b"no archive")
    assert "is no program of genkit export" in call("sample", tmp_path / "stranger.pt2", code=4)[1]
    (tmp_path / "net.pt").write_bytes(b"")
    assert "genkit weights convert makes one" in call("sample", tmp_path / "net.pt", code=4)[1]
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(PluginError, match=r"needs onnx and onnxscript, which is not installed.*plugins/export\[onnx\]"):
        onnx_graph.write(model.of_run(run), tmp_path / "a.onnx", 1)
