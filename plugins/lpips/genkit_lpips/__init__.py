"""LPIPS as a loss: what consistency training compared images with before iCT."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_loss():
    return {
        "lpips": lazy(
            "genkit_lpips.loss:Lpips",
            "Learned perceptual distance of a frozen network's features, by default VGG16's.",
        )
    }


@hookimpl
def genkit_features():
    return {
        "vgg16": lazy(
            "genkit_lpips.trunk:Vgg16",
            "VGG16, which learnt ImageNet, the trunk of LPIPS: pool (512).",
        )
    }


@hookimpl
def genkit_weights():
    return {"vgg16": lazy("genkit_lpips.trunk:VGG16", "Torchvision's VGG16, the trunk of the loss lpips.")}
