"""Executes `notebook.ipynb` and writes it with what came out: `python docs/notebook.py`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")
CELLS = [
    """# A notebook

The same things as on the command line, in cells: a run, a loss of one's own, a study, samples, and a loop written by
hand. This notebook was executed as it stands, by `python docs/notebook.py`.""",
    """import attrs
import torch

import genkit

few = ["train.steps=300", "evaluate.samples=1000"]
result = genkit.run(genkit.load_recipe("ict_ring", few))
result""",
    """While it ran there was a bar below the cell, with the time left and the last figures; `progress=False` leaves it
out, and `watch=` is told every event instead (`genkit.kinds.Event`). Samples are tensors, and `genkit.show` makes a
picture of them:""",
    """denoiser = genkit.load(result.folder)
x0 = genkit.sample(denoiser, 4096, steps=2, seed=0)
genkit.show(x0)""",
    """## A loss of one's own

A class in a cell is a component once it has a name:""",
    '''from genkit.kinds import setting


@attrs.frozen(kw_only=True)
class Cauchy:
    """Cauchy metric: the mean of log(1 + (x - y)^2 / c^2)."""

    c: float = setting(0.5, "scale, in data units", check=attrs.validators.gt(0))

    def build(self, context):
        def loss(x, y, at=None):
            return torch.log1p(((x - y) / self.c).square()).flatten(1).mean(1)

        return loss


genkit.register("loss", "cauchy", Cauchy)''',
    """Is it better? Trials are processes of their own; they get the class from a copy of its source.""",
    """study = genkit.ablate("ict_ring", ["loss=cauchy"], few, seeds=[0, 1, 2])
study""",
    """## A loop written by hand

A recipe made in Python, its parts built one by one, and a loop that does what you like:""",
    """recipe = genkit.recipe_of(
    name="by_hand",
    dataset="ring",
    objective={"use": "consistency", "network": "mlp"},
    optimizer={"use": "adam", "lr": 2e-3},
    ema={"use": "constant", "decay": 0.98},
    train={"steps": 300, "batch_size": 256},
    metrics={"fd": {"use": "fd", "features": "pixels"}},
    evaluate={"samples": 1000},
)
data = genkit.build(recipe.dataset, genkit.Setup(seed=0))
program = genkit.build(recipe.objective, genkit.Context(spec=data.spec, total_steps=300))
state = genkit.State.of(program, recipe.optimizer, recipe.ema)
losses = [float(figures["loss"]) for figures in genkit.train(state, data, steps=200, batch_size=256)]
print(f"loss {losses[0]:.3f} at first, {losses[-1]:.3f} after {len(losses)} steps")
genkit.evaluate(state, recipe)["steps"]["1"]["figures"]["fd.fd"]""",
    """`genkit.save` makes a run folder of it, as if the recipe had come so far. It can be sampled and evaluated like
any other, and the last hundred steps can be left to `genkit.run`:""",
    """folder = genkit.save(state, recipe)
genkit.run(recipe)""",
]


def made() -> nbformat.NotebookNode:
    """The notebook, not executed; cells begin with a hash or a letter of prose where they are text."""
    cells = [new_code_cell(c) if _is_code(c) else new_markdown_cell(c) for c in CELLS]
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _is_code(text: str) -> bool:
    try:
        compile(text, "cell", "exec")
    except SyntaxError:
        return False
    return not text.startswith("#")


def executed() -> nbformat.NotebookNode:
    """The notebook with its outputs, in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENKIT_CACHE"] = str(Path(folder) / "cache")
        done = NotebookClient(made(), timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in done.cells:
        cell.get("metadata", {}).pop("execution", None)
        cell["outputs"] = [o for o in cell.get("outputs", []) if _is_kept(o)] if "outputs" in cell else None
        if cell["outputs"] is None:
            del cell["outputs"]
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)
    return done


def _is_kept(output: nbformat.NotebookNode) -> bool:
    """Not the places of bars that are gone."""
    return output.output_type != "display_data" or bool(output.data.get("text/html"))


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)
