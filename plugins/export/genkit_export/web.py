"""One page that draws samples in a browser, offline: the graph, what runs it, and a test that it draws the run's."""

from __future__ import annotations

import base64
import gzip
import html
import json
import re
import tarfile
import tempfile
from pathlib import Path

import torch

from genkit.data import PublicFile, files
from genkit.denoiser import Denoiser
from genkit.errors import DataError, RecipeError
from genkit.evaluation import results
from genkit_export import model, onnx_graph
from genkit_export.graph import NAMES, Sampler, Steps
from genkit_export.model import Model

RUNTIME = PublicFile(
    name="onnxruntime-web-1.30.0.tgz",
    sha256="d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    size=33_106_585,
    url="https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-1.30.0.tgz",
    about="onnxruntime for browsers, as npm has it; MIT.",
)
PARTS = {"runtime": "ort.wasm.bundle.min.mjs", "wasm": "ort-wasm-simd-threaded.wasm"}
MOST = 40_000_000  # bytes of weights in a page
COUNT = 3  # samples of the test


def write(made: Model, target: Path, steps: Steps) -> None:
    """The page.

    Raises:
        RecipeError: The model is too large, or its samples are no pictures and no points.
        DataError: onnxruntime for browsers cannot be had, or the sampler has no graph.
        PluginError: Packages of ONNX are not installed.
    """
    spec, size = made.denoiser.spec, sum(4 * tensor.numel() for tensor in made.state.values())
    if size > MOST:
        what = f"has {size / 1e6:.0f} MB of weights"
        raise RecipeError("--to web", what, f"a page takes {MOST / 1e6:.0f} MB; onnx has no limit")
    if spec.channels not in ((2,) if spec.height * spec.width == 1 else (1, 3)):
        raise RecipeError("--to web", f"samples of {spec.shape} are neither pictures nor points", "try --to onnx")
    with tempfile.TemporaryDirectory() as folder:
        onnx_graph.write(made, graph := Path(folder) / "graph.onnx", steps)
        parts = {"graph": graph.read_bytes(), **_runtime()}
    test, about = _test(made, steps), _about(made, steps)
    page = (Path(__file__).parent / "web.html").read_text("utf-8")
    blocks = {name: _packed(content) for name, content in {**parts, **test}.items()}
    data = "\n".join(f'<script type="text/plain" id="{name}">{text}</script>' for name, text in blocks.items())
    told = {"shape": spec.shape, "classes": spec.classes, "draws": Sampler(made.denoiser, steps).draws, "test": COUNT}
    filled = {"TITLE": html.escape(made.told["name"]), "ABOUT": about, "TOLD": json.dumps(told), "DATA": data}
    target.write_text(re.sub(r"\{\{(\w+)\}\}", lambda found: filled[found[1]], page), "utf-8")


def read(path: Path) -> Denoiser:
    """The graph in a page as a denoiser that can be sampled.

    Raises:
        DataError: The page has none.
    """
    found = re.search(r'id="graph">([^<]+)<', path.read_text("utf-8"))
    if not found:
        raise DataError(path, "has no graph", "export it again")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "graph.onnx"
        graph.write_bytes(gzip.decompress(base64.b64decode(found[1])))
        return onnx_graph.read(graph)


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _runtime() -> dict[str, bytes]:
    with tarfile.open(files.locate(RUNTIME)) as archive:
        found = {name: archive.extractfile(f"package/dist/{file}") for name, file in PARTS.items()}
        return {name: file.read() for name, file in found.items() if file}


def _test(made: Model, steps: Steps) -> dict[str, bytes]:
    """Inputs and the samples that the run draws of them, in the order of memory."""
    sampler = Sampler(made.denoiser, steps).eval()
    inputs = sampler.inputs(COUNT)
    with torch.no_grad():
        images = sampler(*inputs)
    named = {**dict(zip(NAMES, inputs, strict=False)), "images": images}
    return {name: tensor.contiguous().numpy().tobytes() for name, tensor in named.items()}


def _about(made: Model, steps: Steps) -> str:
    """What the page says of the model, in HTML: figures are those on record, with their protocol."""
    told = made.told
    number = results.step_words(steps) if isinstance(steps, int) else f"levels {', '.join(map(str, steps))}"
    lines = [f"<p>{number} · run {told['id']} at step {int(told['k']):,} · weights {html.escape(told['weights'])}</p>"]
    for found in model.evaluations(made)[:1]:
        head, *rows = results.figures_table(found)
        cells = ["".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row) for tag, row in
                 [("th", head), *(("td", row) for row in rows)]]  # fmt: skip
        lines.append(f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>")
        lines.append(f"<p>{html.escape(results.protocol_line(found))}</p>")
    return "\n".join(lines)
