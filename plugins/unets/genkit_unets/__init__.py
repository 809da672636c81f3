"""Networks: a small 2-D U-Net, and an MLP for toys. `genkit_unets.blocks` has the pieces."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_network():
    return {
        "unet": lazy(
            "genkit_unets.unet:UNet", "Small 2-D U-Net: residual blocks, concatenated skips, attention if asked."
        ),
        "mlp": lazy("genkit_unets.mlp:Mlp", "Residual MLP on the flattened sample, for 1x1 toys."),
    }
