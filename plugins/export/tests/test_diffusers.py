"""Folders of diffusers: what it wrote is read, what we wrote it reads, and both draw the same samples."""

import json

import pytest
import torch

import genkit
from genkit.errors import DataError, RecipeError
from genkit.kernel.loading import load_recipe
from genkit.runs import planning
from genkit_export import diffusers_folder, exporting, model

diffusers = pytest.importorskip("diffusers")

DOWN, ATTN = "ResnetDownsampleBlock2D", "AttnDownBlock2D"
ADM = {"use": "'adm'", "model_channels": 128, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4],
       "positional_scale": 1000.0}  # fmt: skip
FEW = ["train.steps=2", "train.batch_size=2", "evaluate.samples=100", "metrics={}"]


def pipeline(**other):
    settings = {
        "sample_size": 8, "block_out_channels": [128, 256], "layers_per_block": 1, "attention_head_dim": 64,
        "down_block_types": [DOWN, ATTN], "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
        "downsample_type": "resnet", "upsample_type": "resnet", "attn_norm_num_groups": 32,
        "resnet_time_scale_shift": "scale_shift",
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = diffusers.UNet2DModel(**{**settings, **other})
    scheduler = diffusers.CMStochasticIterativeScheduler(clip_denoised=False)
    return diffusers.ConsistencyModelPipeline(unet=unet, scheduler=scheduler)


def planned(folder, *words, **other):
    network = ", ".join(f"{name}={value}" for name, value in {**ADM, **other}.items())
    return planning.plan(load_recipe("ict_digits", [*FEW, *words], ["network={" + network + "}"]), folder, "cpu")


def drawn(pipe, noise, label=None):
    """Their samples in one step."""
    pipe.set_progress_bar_config(disable=True)
    made = pipe(len(noise), num_inference_steps=1, latents=noise, output_type="pt", class_labels=label)
    return 2 * made.images - 1


def ours(denoiser, noise, label=None):
    cond = {} if label is None else {"label": torch.tensor(label)}
    with torch.no_grad():
        return denoiser.sampler(denoiser, lambda j: noise, cond, 1).clamp(-1, 1)


@pytest.mark.parametrize(
    ("other", "label"),
    [
        ({"num_class_embeds": 3}, [0, 2]),
        ({"resnet_time_scale_shift": "default", "attn_norm_num_groups": None}, None),
        ({"attention_head_dim": None, "layers_per_block": 2, "time_embedding_dim": 256}, None),
    ],
)
def test_what_diffusers_wrote_draws_its_samples(tmp_path, other, label):
    pipe, noise = pipeline(**other), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe.save_pretrained(tmp_path / "pipe")
    assert (ours(genkit.load(tmp_path / "pipe"), noise, label) - drawn(pipe, noise, label)).abs().max() < 1e-4


def test_a_run_becomes_a_pipeline_and_goes_on_from_it(tmp_path, call):
    run = genkit.run(planned(tmp_path).recipe, tmp_path / "run").folder
    folder = tmp_path / "pipe"
    assert "samples differ by 0 at most" in call("export", run, "--to", "diffusers", "--out", folder)[1]
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pipe = diffusers.ConsistencyModelPipeline.from_pretrained(folder)
    pipe.check_inputs = lambda *given: None  # which wants three channels of noise that is given
    assert (drawn(pipe, noise) - ours(genkit.load(run), noise)).abs().max() < 1e-4
    assert call("sample", folder, "--count", 4)[0].strip() == "pipe-steps1-seed0.png"
    begun = planned(tmp_path, f"init.from={folder}").program().student.network.state_dict()
    assert all(torch.equal(begun[name], t) for name, t in genkit.load(run).network.state_dict().items())


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("qk_norm=true", "network.qk_norm: True has no word"),
        ("positional_scale=1.0", "network.positional_scale: 1.0 has no word"),
        ("model_channels=96", "network.model_channels: norms have 24 and 32 groups"),
        ("channel_mult=[2,4]", "network.channel_mult_noise: 1 has no word"),
        ("channels_per_head=96", "network.channels_per_head: 96 has no word"),
    ],
)
def test_what_has_no_word_there_is_refused(tmp_path, setting, said):
    plan = planned(tmp_path, **dict([setting.split("=")]))
    made = model.Model(denoiser=plan.program().student, recipe=plan.recipe, folder=tmp_path, told={"name": "x"})
    with pytest.raises(RecipeError, match=said):
        exporting.export(made, "diffusers", tmp_path / "pipe")
    assert not (tmp_path / "pipe").exists()


def test_other_folders_are_told_apart(tmp_path):
    pipeline().save_pretrained(tmp_path / "pipe")
    index = tmp_path / "pipe/model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "DDPMPipeline"}))
    with pytest.raises(DataError, match="is a DDPMPipeline; a ConsistencyModelPipeline can be read"):
        genkit.load(tmp_path / "pipe")
    pipeline(downsample_type="conv").save_pretrained(tmp_path / "conv")
    with pytest.raises(DataError, match="downsample_type is 'conv'; of an `adm` it is 'resnet'"):
        diffusers_folder.read(tmp_path / "conv")
    (tmp_path / "pipe/unet/config.json").unlink()
    with pytest.raises(DataError, match="is no whole folder of diffusers"):
        genkit.load(tmp_path / "pipe")
