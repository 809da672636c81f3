"""A folder as model hubs want it: weights, recipe, a picture, and a card that says what it is and where it is from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from genkit.evaluation import pictures, results, sampling
from genkit.kernel import registry
from genkit_export import model, tensors
from genkit_export.graph import Steps
from genkit_export.model import Model

WEIGHTS = "model.safetensors"
COUNT = 64  # samples of the picture
LIMITS = """It draws what is like its training data, with what these lack and what they are biased to. Figures compare
only with others of the same protocol, features and reference."""


def write(made: Model, target: Path, steps: Steps) -> None:
    """The folder, with a picture of samples in these steps."""
    target.mkdir()
    tensors.write(made, target / WEIGHTS)
    (target / "recipe.toml").write_text(made.told["recipe"], "utf-8")
    label = sampling.EVENLY if made.denoiser.spec.classes else None
    drawn = sampling.sample(made.denoiser, COUNT, steps, seed=0, label=label)
    pictures.save(target / "samples.png", drawn, {})
    (target / "README.md").write_text(card(made, steps), "utf-8")


def card(made: Model, steps: Steps) -> str:
    """The model card, in Markdown with a head in YAML; it tells figures that are on record, and no others."""
    told, recipe = made.told, made.recipe
    number = steps if isinstance(steps, int) else ",".join(map(str, steps))
    method, network = (registry.named(registry.info_of(part)) for part in (recipe.objective, recipe.objective.network))
    parts = {
        "": f"![{COUNT} samples in {results.step_words(number)}](samples.png)",
        "What it is": f"A few-step generative model of samples {made.denoiser.spec.shape}: {method}, {network}, after "
        f"{int(told['k']):,} steps of {recipe.train.batch_size} samples each, the weights `{told['weights']}`.",
        "Use": f"```console\ngenkit sample FOLDER --steps {number}\n```\n\n```python\nimport genkit\n\n"
        f'x0 = genkit.sample(genkit.load("FOLDER"), 16, steps={steps})  # in [-1, 1]\n```\n\n'
        "A run starts from it by `init.from=FOLDER`.",
        "Training": "\n".join(_training(made)),
        "Figures": "\n\n".join(_figures(made)) or "None are on record for these weights.",
        "Limits": LIMITS,
        "Licence": told.get("license") or "Not told by who exported it: ask before you use it.",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" if title else text for title, text in parts.items())
    return f"---\n{_head(made)}---\n\n# {told['name']}\n\n{body}\n"


def _head(made: Model) -> str:
    tags = ["genkit", "few-step-generation", made.told["name"]]
    told = {"library_name": "genkit", "license": made.told.get("license") or "unknown", "tags": tags}
    if made.denoiser.spec.height > 1:
        told["pipeline_tag"] = "unconditional-image-generation"
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in told.items())  # JSON is YAML


def _training(made: Model) -> Iterator[str]:
    told, recipe = made.told, made.recipe
    by = json.loads(told["made_with"])
    yield f"- recipe: `recipe.toml`, resolved; run `{told['id']}`, step {int(told['k']):,}"
    yield f"- data: {registry.named(registry.info_of(recipe.dataset))}, identity `{told['data']}`"
    if recipe.init.origin:
        yield f"- started from: `{recipe.init.origin}`"
    yield f"- made with: genkit {told['genkit']}, torch {by.get('torch', '?')}, Python {by.get('python', '?')}"
    yield f"- the plugins of that time: in the header of `{WEIGHTS}`, which `genkit weights info` shows"


def _figures(made: Model) -> Iterator[str]:
    """Each evaluation of these weights at this step, as its protocol says."""
    for found in model.evaluations(made):
        head, *rows = results.figures_table(found)
        lines = [head, ["---"] * len(head), *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        yield f"{results.protocol_line(found)}:\n\n{table}"
