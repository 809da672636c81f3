"""Models leave the house: `genkit export` writes one in a form that others read, reads it back and compares.

Read `model` (what is exported), `graph` (a sampler as one graph), then a form: `tensors`, `program`, `onnx_graph`.
`opening` reads them again, for `genkit sample` and `init.from`.
"""

from pathlib import Path
from typing import Any

from genkit.hookspecs import Offer, hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_commands() -> Offer:
    return {"export": lazy("genkit_export.commands:export", "Write a trained model in a form that others read.")}


@hookimpl
def genkit_weights() -> Offer:
    return {"onnxruntime-web": lazy("genkit_export.web:RUNTIME", "What runs a model in a browser.")}


@hookimpl
def genkit_model(path: Path) -> Any:
    from genkit_export import opening

    return opening.opened(path)
