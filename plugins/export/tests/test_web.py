"""The page: a browser that has nothing else draws the samples of the run."""

import base64
import gzip
import json
import re
import shutil
import socket
import subprocess
import time
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
import torch

import genkit
from genkit.data import files
from genkit.errors import DataError, RecipeError
from genkit.kernel.loading import load_recipe
from genkit_export import exporting, model, web

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

SMALL = ["train.steps=2", "evaluate.samples=100", "metrics.pr=false", "metrics.copies=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return genkit.run(load_recipe("ict_digits", SMALL), tmp_path_factory.mktemp("run") / "digits").folder


@pytest.fixture
def without_a_runtime(monkeypatch):
    monkeypatch.setattr(web, "_runtime", lambda: {"runtime": b"", "wasm": b""})


def block(page, name):
    (found,) = re.findall(rf'id="{name}">([^<]+)<', page)
    return gzip.decompress(base64.b64decode(found))


def test_a_page_holds_a_graph_that_draws_the_samples_of_the_run(run, tmp_path, call, without_a_runtime):
    _, err = call("export", run, "--to", "web", "--steps", 2, "--out", tmp_path / "page.html")
    assert "samples differ by" in err
    page = (tmp_path / "page.html").read_text()
    drawn = genkit.sample(web.read(tmp_path / "page.html"), 4, 2, seed=1)
    assert (drawn - genkit.sample(genkit.load(run), 4, 2, seed=1)).abs().max() < 1e-5
    noise, images = (
        torch.frombuffer(bytearray(block(page, name)), dtype=torch.float32) for name in ("noise", "images")
    )
    noise, own = noise.reshape(3, 2, 1, 8, 8), genkit.load(run)
    label = torch.frombuffer(bytearray(block(page, "label")), dtype=torch.int64) if own.spec.classes else None
    with torch.no_grad():
        again = own.sampler(own, lambda j: noise[:, j], {} if label is None else {"label": label}, 2)
    assert torch.equal(again.flatten(), images)
    figure = json.loads(next((run / "evaluations").glob("*.json")).read_text())["protocol"]["name"]
    assert figure in page and "{{" not in page and "http" not in re.sub(r'id="\w+">[^<]+<', "", page)


def test_what_no_page_can_show_is_refused(run, tmp_path, monkeypatch, without_a_runtime):
    made = model.of_run(run)
    monkeypatch.setattr(web, "MOST", 1000)
    with pytest.raises(RecipeError, match="a page takes 0 MB; onnx has no limit"):
        exporting.export(made, "web", tmp_path / "a.html")
    (tmp_path / "b.html").write_text("<p>")
    with pytest.raises(DataError, match="has no graph"):
        web.read(tmp_path / "b.html")
    assert not (tmp_path / "a.html").exists()


def test_without_the_runtime_it_is_told_how_to_get_it(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("GENKIT_OFFLINE", "1")
        patch.setenv("GENKIT_CACHE", str(tmp_path))
        patch.delenv("GENKIT_WEIGHTS", raising=False)
        with pytest.raises(DataError, match=r"onnxruntime-web-[\d.]+.tgz: is not here, and GENKIT_OFFLINE forbids"):
            exporting.export(model.of_run(run), "web", tmp_path / "a.html")


# ---- in a browser ------------------------------------------------------------------------------------


class Browser:
    """Chromium, by the protocol of WebDriver."""

    def __init__(self, at):
        self.at = at
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        given = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": words}}}}
        self.session = self.ask("POST", "/session", given)["sessionId"]

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = Request(self.at + path, method=method, data=data, headers={"Content-Type": "application/json"})
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def go(self, url):
        self.ask("POST", f"/session/{self.session}/url", {"url": url})

    def js(self, script):
        return self.ask("POST", f"/session/{self.session}/execute/sync", {"script": script, "args": []})

    def until(self, script, seconds=60):
        deadline = time.monotonic() + seconds
        while not (found := self.js(script)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found


@pytest.fixture
def browser():
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        pytest.skip("chromium and chromedriver are not installed")
    if files.present(web.RUNTIME) is None:
        pytest.skip(f"{web.RUNTIME.name} is not here: genkit weights fetch onnxruntime-web")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL) as driver:
        try:
            deadline, found = time.monotonic() + 30, None
            while found is None:
                try:
                    found = Browser(f"http://127.0.0.1:{port}")
                except (URLError, ConnectionError):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            yield found
            found.ask("DELETE", f"/session/{found.session}")
        finally:
            driver.terminate()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_browser_draws_the_samples_of_the_run_from_a_file(run, tmp_path, browser, steps):
    path, _ = exporting.export(model.of_run(run), "web", tmp_path / "page.html", steps)
    browser.go(path.as_uri())
    assert browser.until("return !document.getElementById('draw').disabled"), browser.js(
        "return document.body.innerText"
    )
    said = browser.js("return document.getElementById('test').textContent")
    assert float(re.search(r"differ by ([\d.e-]+) at most", said)[1]) < 1e-4
    pixels = "return document.getElementById('picture').toDataURL()"
    first = browser.js(pixels)
    browser.js("document.getElementById('draw').click()")
    assert browser.until("return !document.getElementById('draw').disabled") and browser.js(pixels) != first
    browser.js("const s = document.getElementById('seed'); s.value = 0; s.dispatchEvent(new Event('change'))")
    assert browser.until(f"return !document.getElementById('draw').disabled && ({pixels[7:]}) === '{first}'")
