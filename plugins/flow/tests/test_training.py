"""What holds for each objective of flow maps as it is trained."""

import shutil

import pytest
import torch

import genkit
from genkit.denoiser import Program
from genkit.keys import Key
from genkit.kinds import Batch
from genkit.levels import expand
from genkit.training import checkpoint

NAMES = ["meanflow", "imf", "alpha-flow", "shortcut"]
CONTEXT = genkit.Context(spec=genkit.Spec(channels=1, height=1, width=1), total_steps=1000)
IMAGES = genkit.Context(spec=genkit.Spec(channels=1, height=8, width=8, classes=3), total_steps=10)


def program(name, context=CONTEXT, **slots) -> Program:
    return genkit.build(genkit.component("objective", name, **{"network": "mlp", **slots}), context)


class Towards(torch.nn.Module):
    """u = (z - theta) / t: the average velocity, over any part of the way, of data that is one point theta."""

    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(0.0))

    def forward(self, z, c_noise, cond):
        return (z - self.theta) / expand(c_noise[:, 0], z)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_can_be_exact_becomes_exact_and_jumps_onto_the_data(name):
    slots = {"head": False} if name == "imf" else {}
    made = program(name, loss={"use": "adaptive", "p": 1.0, "eps": 1e-4}, **slots)
    made.student.network = made.student._call = network = Towards()
    if name == "shortcut":
        made.slow.network = slow = Towards().requires_grad_(False)
    adam = torch.optim.Adam([network.theta], lr=0.02)
    for k in range(300):
        adam.param_groups[0]["lr"] = 0.02 * (1 - k / 300)
        adam.zero_grad()
        made(Batch(torch.full((32, 1, 1, 1), 0.6), {}), k, Key(0, k)).values.mean().backward()
        adam.step()
        if name == "shortcut":
            slow.load_state_dict(network.state_dict())
    x = made.student.sampler(made.student, lambda j: torch.randn(9, 1, 1, 1), {}, 2)
    assert torch.allclose(x, torch.full_like(x, 0.6), atol=5e-3)


UNET = {"use": "unet", "model_channels": 8, "num_blocks": 1, "attn_resolutions": [4]}
LABELLED = {name: {"network": UNET, "label_drop": 0.3} for name in NAMES}
for name in NAMES[:3]:
    LABELLED[name] |= {"omega": 0.5, "kappa": 0.4}


def gradient(made, parts, precision=torch.float64):
    """Of a batch of 8 in parts, as a step makes it."""
    draw = torch.Generator().manual_seed(1)
    batch = Batch(torch.randn(8, 1, 8, 8, generator=draw).to(precision), {"label": torch.arange(8) % 3})
    made.zero_grad()
    for micro, (start, stop) in enumerate(parts):
        key = Key(0, 3).part(micro, start, stop, 8)
        (made(batch.rows(start, stop), 3, key).values.sum() / 8).backward()
    return torch.cat([p.grad.flatten() for p in made.student.parameters() if p.grad is not None])


def awake(made):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in made.parameters():  # the last layers of a network start at zero
            p.add_(torch.randn_like(p), alpha=0.05)
    return made.train()


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_does_not_depend_on_micro_batches(name):
    made = awake(program(name, IMAGES, **LABELLED[name])).double()
    whole = gradient(made, [(0, 8)])
    for parts in ([(0, 4), (4, 8)], [(0, 1), (1, 4), (4, 5), (5, 8)]):
        assert (gradient(made, parts) - whole).norm() < 1e-6 * whole.norm()


@pytest.mark.parametrize("name", NAMES)
def test_under_bf16_and_beside_a_compiled_network_the_loss_stays_the_same_function(name):
    made = awake(program(name, IMAGES, **LABELLED[name]))
    exact = gradient(made, [(0, 8)], torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = gradient(made, [(0, 8)], torch.float32)
    assert coarse.dtype == torch.float32 and (coarse - exact).norm() < 0.1 * exact.norm()
    made.student.compile(backend="eager")
    assert (gradient(made, [(0, 8)], torch.float32) - exact).norm() < 1e-4 * exact.norm()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_goes_on_from_its_middle_ends_with_the_same_bits(tmp_path, name):
    small = ["network.model_channels=4", "network.num_blocks=1", "network.dropout=0.2", "train.batch_size=8"]
    few = ["train.steps=8", "train.save_every_steps=4", "evaluate.samples=20", "train.sample_every_steps=0"]
    recipe = genkit.load_recipe(
        f"{name.replace('-', '')}_digits", [*small, *few, "metrics.pr=false", "metrics.fd=false"]
    )
    folder = genkit.run(recipe, tmp_path / "run").folder
    whole, _ = checkpoint.load(folder / "checkpoints" / "step-0000008")
    shutil.rmtree(folder / "checkpoints" / "step-0000008")
    genkit.run(recipe, folder)
    again, _ = checkpoint.load(folder / "checkpoints" / "step-0000008")
    assert whole.keys() == again.keys() and all(torch.equal(again[key], whole[key]) for key in whole)


@pytest.mark.parametrize("name", NAMES)
def test_a_swap_of_the_objective_alone_makes_a_recipe_that_trains(name):
    swapped = genkit.load_recipe("ict_digits", ["train.steps=2", "evaluate.samples=20"], swaps=[f"objective={name}"])
    assert swapped.objective.predicts == swapped.objective.sampler.needs == "flow-map"
