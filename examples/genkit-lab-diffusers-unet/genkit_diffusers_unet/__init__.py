"""The U-Net of diffusers as a network of genkit."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_network():
    return {"diffusers-unet": lazy("genkit_diffusers_unet.network:Network", "UNet2DModel of Hugging Face diffusers.")}


@hookimpl
def genkit_recipes():
    return "genkit_diffusers_unet.recipes"
