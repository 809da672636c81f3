"""Data sets: embedded digits, image folders, HDF5 files, and toys with closed forms."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_dataset():
    return {
        "digits": lazy("genkit_images.digits:Digits", "UCI handwritten digits: 1,797 grey 8x8 images, 180 held out."),
        "image-folder": lazy(
            "genkit_images.folder:ImageFolder", "Every picture below a folder, in a zip archive, or in tar shards."
        ),
        "hdf5": lazy("genkit_images.hdf5:Hdf5", "Images of an HDF5 file; streamed if they are too large."),
        "cifar10": lazy(
            "genkit_images.published:Cifar10",
            "CIFAR-10: 50,000 colour images of 32x32 in 10 classes; its 10,000 test images are held out.",
        ),
        "fashion-mnist": lazy(
            "genkit_images.published:FashionMnist",
            "Fashion-MNIST: 60,000 grey images of clothes, 28x28, in 10 classes; its 10,000 test images are held out.",
        ),
        "imagenet64": lazy(
            "genkit_images.published:ImageNet64",
            "ImageNet at 64x64 in 1,000 classes, from a file that `genkit data pack` made.",
        ),
        "delta": lazy("genkit_images.toys:Delta", "A point mass at xi, in one dimension."),
        "gaussian": lazy("genkit_images.toys:Gaussian", "Independent normals N(mean, std^2)."),
        "ring": lazy("genkit_images.toys:Ring", "A circle in the plane, blurred along its radius."),
    }


@hookimpl
def genkit_commands():
    return {"data": lazy("genkit_images.commands:app", "Look at data sets, check their files, and pack pictures.")}
