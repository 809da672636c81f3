"""Optimizers with warm-up and decay of their rate, and profiles of the running average."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_optimizer():
    return {
        "radam": lazy("genkit_optim.optimizers:RAdam", "Rectified Adam, exact, on torch's fused Adam kernel."),
        "adam": lazy("genkit_optim.optimizers:Adam", "Adam; weight decay is added to the gradient."),
        "adamw": lazy("genkit_optim.optimizers:AdamW", "Adam with decoupled weight decay."),
    }


@hookimpl
def genkit_ema():
    return {
        "constant": lazy("genkit_optim.ema:Constant", "Constant decay, with a warm-up if asked."),
        "halflife": lazy(
            "genkit_optim.ema:Halflife", "Decay by a half-life in thousands of images: beta = 0.5^(B / halflife)."
        ),
        "power": lazy(
            "genkit_optim.ema:Power", "Average by a power of time, whose width is a share of the training so far."
        ),
    }


@hookimpl
def genkit_commands():
    about = "Make the power-function average of another width from a run's checkpoints."
    return {"weights average": lazy("genkit_optim.commands:average", about)}


@hookimpl
def genkit_notes(planned):
    from genkit_optim import notes

    return list(notes.of_plan(planned))
