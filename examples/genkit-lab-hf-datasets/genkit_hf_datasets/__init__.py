"""Data sets of Hugging Face for genkit."""

from genkit.hookspecs import hookimpl, lazy

GENKIT_API = 1


@hookimpl
def genkit_dataset():
    summary = "Images of a data set of Hugging Face, by its name on the hub or in a folder."
    return {"hf-datasets": lazy("genkit_hf_datasets.dataset:HfDataset", summary)}


@hookimpl
def genkit_recipes():
    return "genkit_hf_datasets.recipes"
