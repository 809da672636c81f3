"""Claims about settings of the device: they hold while a run lasts, change what they say, and lose no bit of a run."""

import json
import os

import attrs
import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

import genkit
from genkit.cli.run import describe
from genkit.denoiser import jvp
from genkit.errors import CheckpointError, Diverged, RecipeError
from genkit.kernel import registry
from genkit.kernel.recipe import Train
from genkit.keys import Key
from genkit.kinds import Context, Spec
from genkit.runs import planning, running
from genkit.training import checkpoint, processes
from genkit.training.state import State
from genkit.training.step import fitted, read_back, train

SMALL = ["network.model_channels=4", "network.num_blocks=1", "train.batch_size=8", "train.steps=6"]
PRECISIONS = ["float32", "tf32", "bf16", "fp16"]
HALF = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def planned(*words, out="out"):
    return planning.plan(genkit.load_recipe("ict_digits", [*SMALL, *words]), out, "cpu")


def begun(*words):
    plan = planned(*words)
    return plan, plan.state()


def after(state, plan, steps):
    """The figures of so many further steps."""
    taken, last = [], state.k + steps
    for figures in train(state, plan.data, plan.recipe.train):
        taken.append(figures)
        if state.k == last:
            break
    return taken


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


# ---- kernels -------------------------------------------------------------------------------------


def kernels():
    cudnn = torch.backends.cudnn
    products = torch.get_float32_matmul_precision()
    return torch.get_num_threads(), torch.get_deterministic_debug_mode(), products, cudnn.allow_tf32, cudnn.benchmark


@pytest.mark.parametrize(
    ("precision", "deterministic", "wanted"),
    [
        ("float32", True, (3, 2, "highest", False, False)),
        ("tf32", True, (3, 2, "high", True, False)),
        ("bf16", False, (3, 0, "highest", False, True)),
    ],
)
def test_kernels_are_as_the_recipe_says_while_a_run_lasts_and_afterwards_as_before(precision, deterministic, wanted):
    before = kernels()
    settings = Train(steps=1, precision=precision, deterministic=deterministic, threads=3)
    with pytest.raises(KeyError), processes.settled(settings, None, False):
        assert kernels() == wanted and os.environ["CUBLAS_WORKSPACE_CONFIG"]
        raise KeyError
    assert kernels() == before


def test_an_operation_without_a_deterministic_kernel_ends_a_run_unless_it_may_be_any():
    x, at = torch.zeros(4), torch.tensor([1, 1])
    with processes.settled(Train(steps=1), None, True), pytest.raises(RuntimeError, match="deterministic"):
        x.put_(at, torch.ones(2))
    with processes.settled(Train(steps=1, deterministic=False), None, True):
        x.put_(at, torch.ones(2))


def test_kernels_are_on_record_told_before_and_a_change_is_told(tmp_path):
    words = ["ict_digits", *SMALL, "metrics.fd=false", "metrics.pr=false", "metrics.copies=false"]
    running.run(genkit.load_recipe(words[0], [*words[1:], "train.save_every_steps=2"]), tmp_path / "run")
    assert json.loads((tmp_path / "run/lock.json").read_text())["kernels"] == "float32, deterministic"
    other = planned("train.precision=fp16", "train.deterministic=false", "train.compile=true")
    assert describe(other)["device"] == "cpu, fp16, fastest, compiled"  # which `--dry-run` tells
    for path in (tmp_path / "run/checkpoints").glob("step-000000[56]"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    other = running.run(genkit.load_recipe(words[0], [*words[1:], "train.deterministic=false"]), tmp_path / "run")
    told = "begun with kernels float32, deterministic, going on with float32, fastest: equal, but not bit for bit"
    assert told in other.notices


# ---- precision -----------------------------------------------------------------------------------


def offered(kind):
    return [info.name for infos in registry._all().values() for info in infos if info.kind == kind]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["unet", "ncsnpp", "ddpmpp", "adm", "mlp"])
def test_what_is_small_stays_float32_in_every_network_under_every_precision(name, precision):
    """Embeddings of times, scalings, losses, the average; the network itself computes in the precision."""
    widths = {} if name == "mlp" else {"model_channels": 8, "num_blocks": 1, "channel_mult": (1,)}
    plan = planned(f"train.precision={precision}")
    context = attrs.evolve(plan.context)
    program = genkit.build(genkit.component("objective", "consistency", network={"use": name, **widths}), context)
    embedded, inner = set(), set()
    for module in program.student.network.modules():
        kind = type(module).__name__
        into = embedded if kind in ("Fourier", "Positional", "Conditioning") else inner
        if into is embedded or kind in ("Conv2d", "Linear"):
            module.register_forward_hook(lambda module, given, out, into=into: into.add(out.dtype))
    scalings, student, given = program.student.parameterization, program.student.forward, []

    def noted(made):
        given.extend(t.dtype for t in (made if isinstance(made, tuple) else (made,)))
        return made

    program.student.parameterization = lambda *a: noted(scalings(*a))
    program.student.forward = lambda *a, **k: noted(student(*a, **k))
    state = State.of(program, plan.recipe.optimizer, plan.recipe.ema)
    figures = after(state, plan, 1)[0]
    assert set(given) <= {torch.float32, torch.float64} and len(given) > 4
    assert embedded == {torch.float32} or name == "mlp"
    assert HALF[precision] in inner
    assert {t.dtype for t in state.average.weights.values()} == {figures["loss"].dtype} == {torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", sorted({*offered("loss")} - {"lpips"}))
def test_every_loss_is_that_of_float32_under_every_precision(name, precision):
    context = Context(spec=Spec(channels=1, height=8, width=8))
    d = genkit.build(genkit.component("loss", name), context)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = x + 1e-4 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    exact = d(x, y)
    with torch.autocast("cpu", HALF[precision]):
        assert d(x, y).dtype == torch.float32 and torch.equal(d(x, y), exact)


# ---- fp16 ----------------------------------------------------------------------------------------


def test_under_fp16_a_run_goes_on_bit_for_bit_with_its_scale(tmp_path):
    plan, whole = begun("train.precision=fp16", "optimizer.clip=1.0")
    half, again, without = plan.state(), plan.state(), plan.state()
    for state in (whole, half):
        state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**30, "growth_interval": 2})
    after(whole, plan, 6)
    after(half, plan, 3)
    checkpoint.save(tmp_path, 3, {n: t.clone() for n, t in half.tensors().items()}, half.numbers())
    tensors, numbers = checkpoint.load(tmp_path / "step-0000003")
    again.restore(tensors, numbers)
    without.restore(tensors, {n: v for n, v in numbers.items() if n != "scaler"})
    assert after(again, plan, 3) and same(again.tensors(), whole.tensors())
    assert again.scaler.state_dict() == whole.scaler.state_dict()
    assert after(without, plan, 3) and not same(without.tensors(), whole.tensors())  # the scale is part of the state


@pytest.mark.parametrize("wrong", [float("nan"), "much", -1.0, None])
def test_a_scale_that_is_none_is_no_checkpoint(wrong):
    _, state = begun()
    numbers = state.numbers()
    with pytest.raises(CheckpointError, match="does not fit this training"):
        state.restore(state.tensors(), {**numbers, "scaler": {**numbers["scaler"], "scale": wrong}})


@pytest.mark.parametrize("optimizer", ["radam", "adam", "adamw"])
def test_a_step_whose_gradients_overflow_is_left_out_and_is_no_divergence(optimizer):
    plan, state = begun("train.precision=fp16", f"optimizer.use={optimizer}", "optimizer.clip=1.0")
    after(state, plan, 2)  # with moments that would move weights
    before = {n: t.clone() for n, t in state.tensors().items() if n.startswith("program/") or "/exp_" in n}
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 2.0**100})
    figures = after(state, plan, 1)[0]
    assert same({n: state.tensors()[n] for n in before}, before) and state.scaler.get_scale() == 2.0**99
    assert read_back(state, figures)["loss"] > 0
    state.scaler.load_state_dict({**state.scaler.state_dict(), "scale": 1.0})
    after(state, plan, 1)
    assert not same({n: state.tensors()[n] for n in before}, before)


def test_gradients_that_are_never_finite_are_a_divergence_in_the_end():
    plan, state = begun("train.precision=fp16", "train.steps=99")
    next(state.program.parameters()).register_hook(lambda grad: grad * float("nan"))
    figures = after(state, plan, 3)[-1]
    assert read_back(state, figures)
    figures = after(state, plan, 45)[-1]
    with pytest.raises(Diverged, match="step 4[0-2]: .*no gradient is"):
        read_back(state, figures)


class Waits(TorchDispatchMode):
    """Counts numbers that are read back, for which a host waits on a card."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@attrs.frozen
class Plain:
    """torch's own RAdam, which knows no scaler."""

    def optimizer(self, params):
        return torch.optim.RAdam([p for _, p in params])

    def lr_scale(self, k, total_steps):
        return 1.0


@pytest.mark.parametrize("optimizer", ["radam", "adam", "adamw", "torch's own"])
@pytest.mark.parametrize("precision", ["float32", "fp16"])
def test_no_step_reads_a_number_back(precision, optimizer):
    plan = planned(f"train.precision={precision}", "optimizer.clip=1.0", "train.micro_batch=3")
    rule = Plain() if optimizer == "torch's own" else genkit.component("optimizer", optimizer, clip=1.0)
    state = State.of(plan.program(), rule, plan.recipe.ema)
    after(state, plan, 1)
    with Waits() as waits:
        after(state, plan, 2)
    assert bool(waits.count) is (optimizer == "torch's own")  # of which each step does


# ---- memory --------------------------------------------------------------------------------------


def gradients(plan, program):
    """Gradients of step 3, and how many bytes were kept for them."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    batch = next(genkit.data.batches(plan.data, 0, 3, 8))
    with saved_tensors_hooks(pack, lambda x: x):
        loss = program(batch, 3, Key(0, 3)).values.sum()
    loss.backward()
    return [p.grad for p in program.parameters()], sum(kept.values())


@pytest.mark.parametrize("precision", ["float32", "bf16", "fp16"])
@pytest.mark.parametrize("network", ["unet", "ncsnpp"])
def test_blocks_that_are_computed_anew_give_the_same_gradients_from_less_memory(network, precision):
    found = []
    for recompute in (False, True):
        more = {"model_channels": 8, "num_blocks": 2, "channel_mult": (1, 2), "dropout": 0.4, "recompute": recompute}
        plan = planned()
        objective = genkit.component("objective", "consistency", network={"use": network, **more})
        program = genkit.build(objective, plan.context).train()
        for p in program.parameters():
            torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(p.numel()))
        with torch.autocast("cpu", HALF[precision], enabled=precision != "float32"):
            found.append(gradients(plan, program))
    (plain, much), (anew, little) = found
    assert all(torch.equal(a, b) for a, b in zip(plain, anew, strict=True)) and little < 0.5 * much


def test_nothing_is_computed_anew_in_forward_mode():
    d = planned("network.recompute=true", "network.dropout=0.3").program().student
    plain = planned("network.dropout=0.3").program().student
    x, t = torch.randn(2, 1, 8, 8), torch.ones(2)
    grads = []
    for model in (d, plain):
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(p.numel()))
        with Key(0).reseeded("cpu"):
            value, slope = jvp(lambda x, t, model=model: model(x, t), (x, t), (torch.zeros_like(x), t))
        (value.sum() + slope.sum()).backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


class Card:
    """A card on which so many samples fit."""

    def __init__(self, monkeypatch, most):
        self.tried, forward = [], type(planned().program()).forward

        def limited(program, batch, k, key):
            self.tried.append(len(batch.x))
            if len(batch.x) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return forward(program, batch, k, key)

        monkeypatch.setattr(type(planned().program()), "forward", limited)


def test_the_largest_micro_batch_that_fits_is_found_and_nothing_else_has_changed(monkeypatch):
    card = Card(monkeypatch, 3)
    plan = planned("train.micro_batch=auto")
    state = State.of(plan.program(), plan.recipe.optimizer, plan.recipe.ema)
    before, drawn = {n: t.clone() for n, t in state.tensors().items()}, torch.default_generator.get_state()
    assert fitted(state, plan.data, plan.recipe.train).micro_batch == 2 and card.tried == [8, 4, 2]
    assert same(state.tensors(), before) and state.k == 0 and state.bad == float("inf")
    assert all(p.grad is None for p in state.program.parameters())
    assert torch.equal(torch.default_generator.get_state(), drawn)
    assert fitted(state, plan.data, plan.recipe.train, recorded=5).micro_batch == 2  # is not looked for again
    fixed = planned("train.micro_batch=2")
    other = State.of(fixed.program(), fixed.recipe.optimizer, fixed.recipe.ema)
    after(state, plan, 2), after(other, fixed, 2)
    assert same(state.tensors(), other.tensors())


def test_where_not_one_sample_fits_lack_of_memory_is_told(monkeypatch):
    Card(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        planned("train.micro_batch=auto").state()


def test_a_micro_batch_that_was_found_is_on_record_and_a_resumed_run_keeps_it(monkeypatch, tmp_path):
    plain = [*SMALL, "train.micro_batch=auto", "metrics.fd=false", "metrics.pr=false", "metrics.copies=false"]
    recipe = genkit.load_recipe("ict_digits", [*plain, "train.keep_every_steps=3"])
    with monkeypatch.context() as patch:
        Card(patch, 5)
        running.run(recipe, tmp_path / "run")
    lock = json.loads((tmp_path / "run/lock.json").read_text())
    assert lock["micro_batch"] == 4 and lock["id"] == planned().id
    assert planning.plan(recipe, tmp_path / "run", "cpu").state().micro_batch == 4
    assert planning.plan(recipe, tmp_path / "other", "cpu").state().micro_batch == 8  # there is room for all now


@pytest.mark.parametrize("words", [["coupling=optimal-transport"], ["objective=imm"]])
def test_what_needs_whole_groups_refuses_a_micro_batch_that_is_found_out(words):
    with pytest.raises(RecipeError, match="auto"):
        genkit.load_recipe("ict_digits", [*SMALL, "train.micro_batch=auto"], words)


@pytest.mark.parametrize("word", ["micro_batch=0", "micro_batch=all", "compile=fast", "precision=fp8"])
def test_other_values_are_refused(word):
    with pytest.raises(RecipeError, match=word.partition("=")[0]):
        genkit.load_recipe("ict_digits", [f"train.{word}"])


# ---- compiling -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("compile", "graphs", "tuned"),
    [("true", False, False), ("reduce-overhead", True, False), ("max-autotune", True, True)],
)
def test_networks_are_compiled_in_the_mode_that_is_named_and_the_result_is_shared(monkeypatch, compile, graphs, tuned):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda network, **how: asked.append(how) or network.__call__)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    plan, _ = begun(f"train.compile={compile}")
    options = asked[0]["options"]
    assert options["deterministic"] and bool(options.get("triton.cudagraphs")) is graphs
    assert bool(options.get("max_autotune")) is tuned
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"].startswith(str(genkit.data.cache_folder()))
    assert any("compiler" in line for line in plan.notes()) and not any(
        "compiler" in line for line in planned().notes()
    )
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "own")
    begun(f"train.compile={compile}")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "own"
    asked.clear()
    begun()
    assert not asked
