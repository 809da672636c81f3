"""TensorBoard as a tracker."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_tracker():
    return {
        "tensorboard": lazy(
            "genkit_tensorboard.tracker:TensorBoard", "Curves and pictures for TensorBoard, in the run folder."
        )
    }
