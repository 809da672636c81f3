"""Five outside plugins work with the core untouched, and each shows a sign of learning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import genkit
from genkit.data import batches
from genkit.keys import Key
from genkit.runs import planning, running
from genkit.testing import present, provide
from genkit.training import checkpoint, step

PROBES = Path(__file__).parents[1] / "probes"


@pytest.fixture
def probes(tmp_path):
    for folder in sorted(PROBES.glob("probe_*")):
        provide(tmp_path / "site", folder.name.removeprefix("probe_"), folder.name)
    with present(PROBES, tmp_path / "site"):
        yield tmp_path / "site"


def train(objective, steps, dataset="ring", **tables):
    settings = {
        "name": tables.pop("name", "probe"),
        "dataset": dataset,
        "objective": {"use": objective, **tables.pop("slots", {})},
        "optimizer": {"use": "adam", "lr": 2e-3},
        "ema": {"use": "constant", "decay": 0.98, "warmup": True},
        "train": {"steps": steps, "batch_size": 256, "threads": 1, "log_every_steps": 50, "save_every_steps": 10_000},
        **tables,
    }
    return running.run(genkit.recipe_of(**settings))


def off_the_ring(run, steps=1):
    """Mean distance of samples from a circle of radius 0.7; noise of the data alone gives 0.04."""
    x = genkit.sample(genkit.load(run.folder), 2000, steps).flatten(1)
    return (x.norm(dim=1) - 0.7).abs().mean().item()


def test_a_diffusion_model_distils_into_a_consistency_model(probes):
    teacher = train("toy-diffusion", 800, name="teacher")
    assert off_the_ring(teacher, 24) < 0.15
    settings = {
        "path": {"use": "toy-ode", "model": {"from": "recipe:teacher"}},
        "network": "mlp",
        "curriculum": {"use": "constant", "s1": 17},
    }
    student = train("consistency", 600, slots=settings, init={"from": str(teacher.folder)})
    assert off_the_ring(student) < 0.2
    assert student.id != train("consistency", 1, slots=settings).id


def test_mean_flow_learns_with_two_times_and_a_learned_weighting(probes):
    run = train("toy-meanflow", 800)
    assert off_the_ring(run) < 0.25
    assert tensors(run)["program/log_weight.weight"].abs().sum() > 0  # it starts at zero


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_forward_mode_through_attention_has_the_gradient_of_micro_batches(probes, precision):
    unet = {"use": "unet", "model_channels": 8, "num_blocks": 1, "attn_resolutions": [4]}

    def gradient(micro):
        settings = {"steps": 1, "batch_size": 8, "precision": precision, "micro_batch": micro}
        recipe = genkit.recipe_of(dataset="digits", objective={"use": "toy-meanflow", "network": unet}, train=settings)
        planned = planning.plan(recipe, device="cpu")
        state, awake = planned.state(), torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in state.program.parameters():  # a network starts with a last layer of zeros
                p.add_(torch.randn(p.shape, generator=awake), alpha=0.05)
        next(genkit.train(state, planned.data, recipe.train))
        return torch.cat([p.grad.flatten() for p in state.program.parameters()])

    whole, parts = gradient(None), gradient(4)
    assert (parts - whole).norm() < (1e-5 if precision == "float32" else 0.01) * whole.norm()


def tensors(run):
    path, _ = checkpoint.latest(run.folder / "checkpoints")
    return checkpoint.load(path)[0]


def test_frozen_weights_below_a_level_teach_and_are_not_saved_again(probes):
    settings = {"network": "mlp", "curriculum": {"use": "constant", "s1": 17}}
    first = train("consistency", 600, slots=dict(settings), name="first")
    teacher = {"use": "frozen-below", "level": 0.5, "model": {"from": str(first.folder)}}
    second = train("consistency", 600, slots={**settings, "teacher": teacher})
    assert off_the_ring(second) < 0.18
    assert tensors(second).keys() == tensors(first).keys()


def test_two_optimizers_alternate(probes):
    run = train("toy-gan", 1200, optimizer={"use": "adam", "lr": 1e-3, "beta1": 0.0, "beta2": 0.99})
    assert off_the_ring(run) < 0.2
    assert {n.split("/")[1] for n in tensors(run) if n.startswith("optimizer/")} == {"critic", "generator"}


def test_latents_with_labels_and_a_null_class(probes):
    unet = {"use": "unet", "model_channels": 16, "channel_mult": [1], "num_blocks": 1}
    run = train("consistency", 300, "toy-latents", slots={"network": unet, "label_drop": 0.2})
    denoiser = genkit.load(run.folder)
    means = [genkit.sample(denoiser, 200, label=c).mean().item() for c in range(3)]
    assert means == pytest.approx([-1, 0, 1], abs=0.35)
    null = denoiser(torch.randn(4, 4, 2, 2), torch.ones(4), {"label": torch.full((4,), 3)})
    assert torch.isfinite(null).all()


SMALL = {"network": "mlp", "label_drop": 0.3}
OBJECTIVES = {
    "toy-meanflow": {"use": "toy-meanflow"},
    "meanflow": {"use": "meanflow", **SMALL},
    "imf": {"use": "imf", **SMALL},
    "alpha-flow": {"use": "alpha-flow", **SMALL},
    "shortcut": {"use": "shortcut", **SMALL},
    "consistency": {"use": "consistency", **SMALL},
    "ect": {"use": "consistency", "pairs": "ect", "loss": {"use": "pseudo-huber", "c": 0}, **SMALL},
    "tcm": {
        **{"use": "consistency", "parameterization": "edm", "noise": "student-t", "weighting": "boundary"},
        "pairs": {"use": "truncated", "low": 1.0, "boundary": 0.25},
        "network": {"use": "truncated", "network": "mlp", "model": {"from": "first.safetensors"}},
    },
    "vct": {"use": "consistency", "coupling": {"use": "variational", "network": "mlp"}, **SMALL},
    "ctm": {"use": "ctm", "solver_steps": 3, **SMALL},
    "imm": {"use": "imm", **SMALL},
    "scm": {"use": "scm", **SMALL},
    "diffusion": {"use": "diffusion", **SMALL},
    "toy-gan": {"use": "toy-gan"},
}


def gradients(objective, rank=0, world=1, micro=None):
    """Gradients of a process's share of one batch of 64, phase after phase, as training has them."""
    recipe = genkit.recipe_of(
        dataset="toy-latents" if objective == "diffusion" else "ring",
        objective=OBJECTIVES[objective],
        train={"steps": 10, "batch_size": 64, "micro_batch": micro},
    )
    planned = planning.plan(recipe, device="cpu")
    state, found = planned.state(), {}
    batch = next(batches(planned.data, 0, 3, 64, rank, world))
    for phase, params in state.program.groups().items():
        state.program.zero_grad()
        step._backward(state, batch, Key(0, 3, rank, world=world).during(phase), recipe.train, step.UNSCALED)
        found |= {f"{phase}/{name}": p.grad.clone() for name, p in params if p.grad is not None}
    return found


def test_two_processes_have_the_gradient_of_one(probes, tmp_path):
    """So does one whose batches are cut; and what a critic is given while it rests does not count for it."""
    code = f"""
import sys, torch; sys.path[:0] = [{str(PROBES)!r}, {str(probes)!r}, {str(Path(__file__).parent)!r}]
import torch.distributed as dist; dist.init_process_group("gloo")
from test_probes import OBJECTIVES, gradients; from genkit.training import processes
found = {{name: (gradients(name, dist.get_rank(), 2), gradients(name, dist.get_rank(), 2, 8)) for name in OBJECTIVES}}
if processes.rank() == 0: torch.save(found, {str(tmp_path / "grads.pt")!r})
"""
    (tmp_path / "worker.py").write_text(code)
    ring = genkit.Context(spec=genkit.Spec(channels=2, height=1, width=1))
    save_file(genkit.build(genkit.component("network", "mlp"), ring).state_dict(), "first.safetensors")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    subprocess.run([*command, str(tmp_path / "worker.py")], check=True, env=environment, timeout=240)
    for objective, both in torch.load(tmp_path / "grads.pt", weights_only=True).items():
        alone, half = gradients(objective), gradients(objective, 0, 2)
        largest = max(gradient.abs().max().item() for gradient in alone.values())
        for together in both:
            assert together.keys() == alone.keys()
            for name, gradient in alone.items():
                assert (together[name] - gradient).abs().max() < 1e-5 * largest, (objective, name)
        assert any((half[name] - gradient).abs().max() > 1e-3 * largest for name, gradient in alone.items())
