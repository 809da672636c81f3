"""Every installed component obeys the laws of its kind; a plugin is tested the day it is installed."""

import pytest
import torch

import genkit
from genkit.testing import laws

# These need files, weights or data of their own: their plugins test them.
NEEDED = {"image-folder", "hdf5", "cifar10", "fashion-mnist", "imagenet64", "inception", "classifier", "lpips", "vgg16"}
NEEDED |= {"dinov2", "clip", "wandb", "trackio", "mlflow", "slurm", "ray"}
NEEDED |= {("network", "truncated")}
SMALL = {"model_channels": 16, "num_blocks": 1, "attn_resolutions": (4,), "channels_per_head": 8}
SETTINGS = {"ncsnpp": SMALL, "ddpmpp": SMALL, "adm": SMALL}  # their own are for graphics cards
SETTINGS["inception-score"] = {"features": "pixels", "feature": "pool"}  # as if they were logits
SETTINGS["cmmd"] = {"features": "pixels"}
SETTINGS["kid"] = {"subset_size": 20, "subsets": 3}


@pytest.mark.parametrize(("kind", "name"), [k for k in genkit.components() if not NEEDED & {k, k[1]}])
def test_the_component_obeys_its_laws(kind, name):
    laws.check(genkit.component(kind, name, **SETTINGS.get(name, {})))


def test_a_law_can_fail():
    class Shrinking:
        def __call__(self, k, total_steps):
            return 100 - k if k < 90 else 2

    with pytest.raises(AssertionError, match=r"N\(k\) falls"):
        laws.curriculum(Shrinking())


def test_a_tracker_that_counts_on_a_loss_is_found():
    class Losses:
        def open(self, run):
            return self

        def scalars(self, k, figures):
            self.last = figures["loss"]

        images = close = lambda *told: None

    with pytest.raises(KeyError, match="loss"):
        laws.tracker(Losses())


def test_an_optimizer_that_forgets_a_weight_is_found():
    class Matrices:
        def lr_scale(self, k, total_steps):
            return 1.0

        def optimizer(self, params):
            return torch.optim.SGD([p for _, p in params if p.dim() > 1], lr=0.1)

    with pytest.raises(AssertionError, match="each weight once"):
        laws.optimizer(Matrices())
