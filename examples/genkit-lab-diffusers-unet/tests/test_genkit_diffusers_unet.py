"""The network keeps the laws, answers to labels and further times, and trains."""

import pytest
import torch

import genkit
from genkit.errors import RecipeError
from genkit.kinds import Spec
from genkit.testing import laws


@pytest.mark.genkit("genkit-lab-diffusers-unet", settings={"diffusers-unet": {"channels": [8, 16]}})
def test_it_keeps_the_law(genkit_law):
    genkit_law()


def built(**context):
    component = genkit.component("network", "diffusers-unet", channels=[8, 16])
    return genkit.build(component, laws.context(Spec(channels=1, height=8, width=8, classes=3), **context)).eval()


def test_it_heeds_labels_and_without_one_takes_the_class_none():
    network, x, c = built(), laws.normal(2, 1, 8, 8), torch.tensor([0.1, 0.5])
    answers = [network(x, c, {"label": torch.full((2,), label)}) for label in range(4)]
    assert not torch.equal(answers[0], answers[1])
    assert torch.equal(network(x, c, {}), answers[3])


def test_it_heeds_each_of_two_times():
    network, x = built(times=2), laws.normal(1, 1, 8, 8)
    one, first, second = (network(x, torch.tensor([c]), {}) for c in ([0.1, 0.1], [0.5, 0.1], [0.1, 0.5]))
    assert not torch.equal(one, first) and not torch.equal(one, second)


def test_channels_that_its_norms_cannot_group_are_told():
    with pytest.raises(RecipeError, match="12 is no multiple of 8"):
        genkit.build(genkit.component("network", "diffusers-unet", channels=[12]), laws.context())


def test_its_recipe_trains(tiny_run):
    assert tiny_run("diffusers_unet_digits", "metrics.pr=false").figures
