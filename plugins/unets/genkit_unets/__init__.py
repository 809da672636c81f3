"""Networks: EDM's three families, a small 2-D U-Net, and an MLP for toys; `genkit_unets.blocks` has the pieces."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_network():
    return {
        "ncsnpp": lazy(
            "genkit_unets.edm:Ncsnpp", "NCSN++ as EDM and iCT have it: Fourier embedding, residual encoder, FIR filter."
        ),
        "ddpmpp": lazy(
            "genkit_unets.edm:Ddpmpp", "DDPM++ as EDM has it: positional embedding, standard encoder, box filter."
        ),
        "adm": lazy(
            "genkit_unets.edm:Adm",
            "ADM as EDM has it: scale and shift by the embedding, attention of several heads at several levels.",
        ),
        "unet": lazy(
            "genkit_unets.unet:UNet", "Small 2-D U-Net: residual blocks, concatenated skips, attention if asked."
        ),
        "mlp": lazy("genkit_unets.mlp:Mlp", "Residual MLP on the flattened sample, for 1x1 toys."),
        "constant": lazy(
            "genkit_unets.constant:Constant", "F = theta: one learnt sample, the same answer to every input."
        ),
    }


@hookimpl
def genkit_converters():
    return {
        "edm": lazy(
            "genkit_unets.published:edm",
            "EDM's network pickles: SongUNet and DhariwalUNet with EDM's preconditioning.",
        ),
        "ect": lazy(
            "genkit_unets.published:ect", "ECT's network pickles: the same networks, fine-tuned as consistency models."
        ),
        "openai-cm": lazy(
            "genkit_unets.published:openai_cm",
            "OpenAI's consistency models for ImageNet 64 and LSUN 256: UNetModel.",
        ),
    }
