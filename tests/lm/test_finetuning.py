"""LoRA trains the layers that it is asked to, on the loss that it says, and leaves the model as it was."""

import json
import math
import os
import re
from dataclasses import asdict, replace
from itertools import count

import peft
import pytest
import torch
from killed import kill_at_a_random_moment, start
from safetensors.torch import load_file
from test_scoring import tiny_mamba
from tiny_models import tiny_model
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from task_vectors import checkpoints
from task_vectors.checkpoints import TrainingDiverged
from task_vectors.lm import answers, finetuning
from task_vectors.lm.finetuning import (
    Adapter,
    Tuning,
    adapted,
    answer_loss,
    bands,
    load_adapter,
    n_trained_parameters,
    target_modules,
    tokenized_batch,
    train,
    training_prompts,
    training_step,
    tuned,
)
from task_vectors.lm.forward import layer_edits
from task_vectors.lm.interventions import capture
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.scoring import score
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.pos import pos_tagging

FAMILY = bitwise_arithmetic(digits=3)
TUNING = Tuning(layers=(1,), rank=2, alpha=4, steps=12, batch=3, warm_up=2, n_demos=1, seed=3)
EVERY = 4
TEXTS, COMPLETIONS = ["1 -> 2\n3 ->", "10110 01101 -> 00100\n01 ->", "a ->"], [" 4", " 00100", " bb"]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def logits(lm, text="10 01 -> 11\n00 01 ->"):
    with torch.no_grad():
        return lm.model(torch.tensor([lm.tokenizer(text).input_ids]), use_cache=False).logits


def scrambled(lm, tuning, seed=0):
    """An adapter that changes something."""
    generator = torch.Generator().manual_seed(seed)
    with adapted(lm, tuning) as parameters:
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
    return Adapter(tuning, {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()})


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def assert_same_run(one, other):
    """Adapter and checkpoint, but for the time it took, are equal to the bit."""
    for name in (finetuning.ADAPTER, checkpoints.CHECKPOINT):
        mine, theirs = ({k: v for k, v in load_file(run / name).items() if k != "seconds"} for run in (one, other))
        assert same(mine, theirs), name


@pytest.mark.parametrize(
    ("td_layer", "expected"),
    [
        (8, {"up to TD": (3, 4, 5, 6, 7, 8), "after TD": (9, 10, 11, 12, 13, 14)}),
        (2, {"up to TD": (0, 1, 2), "after TD": (3, 4, 5, 6, 7, 8)}),
        (15, {"up to TD": (10, 11, 12, 13, 14, 15), "after TD": (16, 17)}),
        (17, {"up to TD": (12, 13, 14, 15, 16, 17), "after TD": ()}),
    ],
)
def test_bands_end_and_begin_at_the_layer_where_decodability_is_read(td_layer, expected):
    found = bands(18, td_layer)
    assert found["first"] == (0, 1, 2, 3, 4, 5)
    assert found["last"] == (12, 13, 14, 15, 16, 17)
    assert found["all"] == tuple(range(18))
    assert found["up to TD"] == expected["up to TD"]
    assert found["after TD"] == expected["after TD"]


@pytest.mark.parametrize(("td_layer", "size"), [(18, 6), (-1, 6), (3, 0), (3, 19)])
def test_bands_that_are_not_there_are_refused(td_layer, size):
    with pytest.raises(ValueError, match="in a model of 18 layers"):
        bands(18, td_layer, size)


def test_all_linear_modules_of_the_band_and_no_others_get_an_adapter(tiny):
    tuning = replace(TUNING, layers=(2, 0))
    names = target_modules(tiny, tuning)
    expected = {id(m) for layer in (0, 2) for m in tiny.layers[layer].modules() if type(m) in (torch.nn.Linear, Conv1D)}
    assert {id(tiny.model.get_submodule(name)) for name in names} == expected
    assert len(names) == len(expected)
    number = n_trained_parameters(tiny, tuning)
    with adapted(tiny, tuning, training=True) as parameters:
        assert sum(p.numel() for p in parameters.values()) == number
        found = {name for name, p in tiny.model.named_parameters() if p.requires_grad}
        assert {name.partition(".lora_")[0] for name in found} == set(names)


def test_targets_can_be_named(tiny_llama):
    names = target_modules(tiny_llama, replace(TUNING, targets=("q_proj", "down_proj")))
    assert names == ["model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    # q: 32 in, 4 heads of 8; down: 48 in, 32 out
    assert n_trained_parameters(tiny_llama, replace(TUNING, targets=("q_proj", "down_proj"))) == 2 * (64 + 80)


def test_an_untrained_adapter_changes_nothing_and_a_trained_one_does(tiny):
    before = logits(tiny)
    with adapted(tiny, TUNING, training=True):
        assert torch.equal(logits(tiny), before)
    with tuned(tiny, scrambled(tiny, TUNING)):
        assert not torch.allclose(logits(tiny), before, atol=1e-2)


def test_the_model_is_exactly_what_it_was_afterwards(tiny):
    def everything():
        parameters = [(name, id(p), p.requires_grad) for name, p in tiny.model.named_parameters()]
        modules = [(name, id(module), module.training) for name, module in tiny.model.named_modules()]
        return parameters, modules, set(vars(tiny.model))

    before, expected = everything(), logits(tiny)
    adapter = scrambled(tiny, replace(TUNING, layers=(0, 2)))
    with tuned(tiny, adapter) as lm:
        assert lm is tiny
        assert not any(p.requires_grad for p in tiny.model.parameters())
    assert everything() == before
    with pytest.raises(KeyboardInterrupt), tuned(tiny, adapter):
        raise KeyboardInterrupt
    assert everything() == before
    train(tiny, FAMILY, TUNING, stop=1)
    assert everything() == before
    assert torch.equal(logits(tiny), expected)


def test_an_adapter_that_is_on_computes_the_sum_of_weights(tiny):
    """W + alpha / rank · B A put into the weights themselves gives the same logits; they are of one precision."""
    adapter = scrambled(tiny, replace(TUNING, layers=(0, 1), dropout=0.5))
    with tuned(tiny, adapter):
        found = logits(tiny)
    kept = {name: p.detach().clone() for name, p in tiny.model.named_parameters()}
    try:
        for name in target_modules(tiny, adapter.tuning):
            module = tiny.model.get_submodule(name)
            A, B = (adapter.weights[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
            with torch.no_grad():
                module.weight += 2 * ((B @ A).T if isinstance(module, Conv1D) else B @ A)
        torch.testing.assert_close(found, logits(tiny), rtol=1e-4, atol=1e-4)
    finally:
        tiny.model.load_state_dict(kept, strict=False)


def test_gradients_are_those_of_the_weights_seen_through_a(tiny):
    """At B = 0 the gradient of B is alpha / rank · ∂loss/∂W Aᵀ, and that of A is 0."""
    tuning = replace(TUNING, dropout=0)
    names = target_modules(tiny, tuning)
    answer_loss(tiny, tokenized_batch(tiny, TEXTS, COMPLETIONS)).backward()
    full = {name: tiny.model.get_submodule(name).weight.grad for name in names}
    tiny.model.zero_grad()
    with adapted(tiny, tuning, training=True) as parameters:
        answer_loss(tiny, tokenized_batch(tiny, TEXTS, COMPLETIONS)).backward()
        for name in names:
            A, B = (parameters[f"base_model.model.{name}.lora_{x}.weight"] for x in "AB")
            weight = full[name].T if isinstance(tiny.model.get_submodule(name).base_layer, Conv1D) else full[name]
            torch.testing.assert_close(B.grad, 2 * weight @ A.T, rtol=1e-3, atol=1e-5)
            assert B.grad.abs().max() > 0
            assert not A.grad.any()
        assert all(p.grad is None for p in tiny.model.parameters() if not p.requires_grad)


@pytest.mark.parametrize("lowest", [0, 1, 2])
def test_nothing_below_the_lowest_trained_layer_has_a_graph(tiny, lowest):
    needs = {}
    edits = {layer: lambda hidden, layer=layer: needs.update({layer: hidden.requires_grad}) for layer in range(3)}
    layers = tuple(sorted({lowest, 2}))
    with adapted(tiny, replace(TUNING, layers=layers), training=True), layer_edits(tiny, edits):
        answer_loss(tiny, tokenized_batch(tiny, TEXTS, COMPLETIONS))
    assert needs == {layer: layer >= lowest for layer in range(3)}


def test_states_below_the_band_are_unchanged_by_training(tiny):
    """And so is Task Decodability there, whatever is learned."""
    adapter, _, _ = train(tiny, FAMILY, replace(TUNING, rate=0.1), stop=4)
    before = capture(tiny, TEXTS)
    with tuned(tiny, adapter):
        after = capture(tiny, TEXTS)
    assert torch.equal(after[:, 0], before[:, 0])
    for layer in (1, 2):
        assert not torch.allclose(after[:, layer], before[:, layer], atol=1e-3)


def batch_of(lm, step):
    return tokenized_batch(lm, *training_prompts(FAMILY, TUNING, step))


def loss_by_hand(lm, text, completion):
    """Summed over the answer's tokens and the line break, from all logits of the prompt alone."""
    prompt, whole = (lm.tokenizer(part).input_ids for part in (text, f"{text}{completion}\n"))
    log_probs = log_softmax(lm.model(torch.tensor([whole]), use_cache=False).logits[0].double(), -1)
    places = range(len(prompt), len(whole))
    return -sum(log_probs[i - 1, whole[i]] for i in places), len(places)


def test_the_loss_is_that_of_the_answer_and_the_end_of_its_line(tiny):
    sums, numbers = zip(*map(loss_by_hand, [tiny] * 3, TEXTS, COMPLETIONS), strict=True)
    assert numbers == (3, 7, 4)  # bytes: a space, the answer, a line break
    found = answer_loss(tiny, tokenized_batch(tiny, TEXTS, COMPLETIONS)).item()
    assert found == pytest.approx(sum(sums).item() / sum(numbers), rel=1e-4)


def test_a_batch_is_its_prompts_one_by_one(tiny):
    """Gradients too, where there is no dropout."""
    tuning = replace(TUNING, dropout=0)
    adapter = scrambled(tiny, tuning)
    numbers = torch.tensor([3, 7, 4]) / 14
    with adapted(tiny, tuning, training=True) as parameters:
        finetuning._fill(parameters, adapter.weights)
        together = answer_loss(tiny, tokenized_batch(tiny, TEXTS, COMPLETIONS))
        batches = [tokenized_batch(tiny, [x], [y]) for x, y in zip(TEXTS, COMPLETIONS, strict=True)]
        alone = torch.stack([answer_loss(tiny, batch) for batch in batches])
        torch.testing.assert_close(together, (alone * numbers).sum(), rtol=1e-4, atol=1e-4)
        found, expected = (
            torch.autograd.grad(loss, list(parameters.values())) for loss in (together, (alone * numbers).sum())
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_loss_is_what_the_evaluation_scores_where_a_line_has_one_end(tiny, monkeypatch):
    [end] = tiny.tokenizer("\n", add_special_tokens=False).input_ids
    monkeypatch.setattr(answers, "line_ends", lambda _: {"": [end]})
    expected = -score(tiny, TEXTS, COMPLETIONS).log_prob.sum().item() / 14  # tokens
    assert answer_loss(tiny, tokenized_batch(tiny, TEXTS, COMPLETIONS)).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("family", [bitwise_arithmetic(), pos_tagging()], ids=["bitwise", "pos"])
def test_prompts_of_a_step_are_new_and_share_no_query_with_any_evaluation(family):
    tuning = replace(TUNING, batch=8, n_demos=4)
    batches = [training_prompts(family, tuning, step) for step in range(3)]
    assert batches[1] == training_prompts(family, tuning, 1)
    assert batches[1] != training_prompts(family, replace(tuning, seed=4), 1)
    texts = [text for batch, _ in batches for text in batch]
    answers = [answer.strip() for _, batch in batches for answer in batch]
    assert len(set(texts)) == 24
    shape = re.compile(re.escape(family.template).replace(r"\{x\}", "(.+?)").replace(r"\{y\}", "(.+?)") + r"\n")
    asked = set()
    for i, (text, answer) in enumerate(zip(texts, answers, strict=True)):
        *demos, (query, last) = shape.findall(f"{text} {answer}\n")
        assert len(demos) == 4
        assert {family._part(x) for x, _ in demos} == {"demonstrations"}
        assert family._part(query) == "train"
        for x, y in (*demos, (query, last)):
            assert y == family.answer(family.tasks[i % 6], x)  # in turn, and never Null
        asked.add(query)
    assert len(asked) > 20


def test_zero_shot_prompts_are_queries_alone():
    texts, _ = training_prompts(FAMILY, replace(TUNING, n_demos=0), 0)
    assert not any("\n" in text for text in texts)


def test_a_tiny_model_learns(tiny_llama):
    tuning = Tuning((0, 1, 2), rank=4, dropout=0.0, steps=60, batch=12, rate=0.03, warm_up=5, n_demos=1)
    adapter, losses, _ = train(tiny_llama, FAMILY, tuning)
    assert losses[-10:].mean() < 0.5 * losses[:5].mean()
    held_out = tokenized_batch(tiny_llama, *training_prompts(FAMILY, replace(tuning, seed=99), 0))
    before = answer_loss(tiny_llama, held_out)
    with tuned(tiny_llama, adapter):
        assert answer_loss(tiny_llama, held_out) < 0.5 * before


def test_losses_are_those_before_each_step_with_dropout_of_that_step(tiny_llama):
    _, losses, _ = train(tiny_llama, FAMILY, TUNING, stop=3)
    assert losses.shape == (3,)
    for step, expected in enumerate(losses):
        adapter, _, _ = train(tiny_llama, FAMILY, TUNING, stop=step)
        with adapted(tiny_llama, TUNING, training=True) as parameters:
            finetuning._fill(parameters, adapter.weights)
            with finetuning._seeded(TUNING.seed * 1_000_000 + step):
                found = answer_loss(tiny_llama, batch_of(tiny_llama, step))
            assert found.item() == expected.item()
            with finetuning._seeded(1):  # another dropout, where B is no longer 0
                other = answer_loss(tiny_llama, batch_of(tiny_llama, step))
            assert (other.item() == expected.item()) == (step == 0)


def test_a_seed_says_which_run_it_is_and_nothing_else_does(tiny_llama):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one, losses, _ = train(tiny_llama, FAMILY, TUNING)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, same_losses, _ = train(tiny_llama, FAMILY, TUNING)
    assert same(one.weights, again.weights)
    assert torch.equal(losses, same_losses)
    other, _, _ = train(tiny_llama, FAMILY, replace(TUNING, seed=4))
    assert not any(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.mark.parametrize("stops", [(4,), (6,), (3, 9)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(stops, tiny_llama, tmp_path):
    whole, losses, _ = train(tiny_llama, FAMILY, TUNING, tmp_path / "whole", EVERY)
    for stop in stops:
        _, part, _ = train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY, stop)
        assert torch.equal(part, losses[:stop])
        assert not (tmp_path / "parts" / finetuning.ADAPTER).exists()
    found, both, _ = train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY)
    assert torch.equal(both, losses)
    assert same(found.weights, whole.weights)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    without_folder, _, _ = train(tiny_llama, FAMILY, TUNING)
    assert same(without_folder.weights, whole.weights)


@pytest.mark.parametrize("moment", range(6))
def test_a_run_that_ends_while_a_file_is_put_in_place_goes_on(moment, tiny_llama, tmp_path, monkeypatch):
    """Checkpoints after 4, 8 and 12 steps, the last two beside the one before, and the adapter."""
    train(tiny_llama, FAMILY, TUNING, tmp_path / "whole", EVERY)
    put, calls = os.replace, count()

    def interrupted(*args):
        if next(calls) == moment:
            raise KeyboardInterrupt
        put(*args)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY)
    assert not (tmp_path / "parts" / finetuning.ADAPTER).exists()
    train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


LONG = replace(TUNING, steps=300)
PROCESS = f"""
import sys
from pathlib import Path
import torch
from tiny_models import tiny_model
from task_vectors.lm.finetuning import Tuning, train
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

torch.set_num_threads(1)
train(tiny_model("llama"), {FAMILY!r}, {LONG!r}, Path(sys.argv[1]), {EVERY})
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_ends_with_the_same_adapter(tmp_path):
    for _ in range(2):
        kill_at_a_random_moment(PROCESS, tmp_path / "killed")
    assert not (tmp_path / "killed" / finetuning.ADAPTER).exists()
    for name in ("killed", "whole"):
        assert start(PROCESS, tmp_path / name).wait() == 0
    assert len(load_file(tmp_path / "whole" / checkpoints.CHECKPOINT)["losses"]) == LONG.steps
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_finished_run_is_read_and_not_trained_again(tiny_llama, folder, monkeypatch):
    adapter, losses, seconds = train(tiny_llama, FAMILY, TUNING, folder, EVERY)
    monkeypatch.setattr(finetuning, "answer_loss", None)
    monkeypatch.setattr(finetuning, "training_prompts", None)
    again, same_losses, more = train(tiny_llama, FAMILY, TUNING, folder, EVERY)
    assert same(again.weights, adapter.weights)
    assert torch.equal(same_losses, losses)
    assert more == pytest.approx(seconds, abs=1)


def test_a_folder_of_another_run_is_refused_in_one_line(tiny_llama, folder, monkeypatch):
    train(tiny_llama, FAMILY, TUNING, folder, EVERY, stop=4)
    monkeypatch.setattr(tiny_llama.model, "forward", None)
    for lm, family, tuning in (
        (tiny_llama, FAMILY, replace(TUNING, seed=4)),
        (tiny_llama, FAMILY, replace(TUNING, layers=(0,))),
        (tiny_llama, bitwise_arithmetic(digits=2), TUNING),
        (LanguageModel("another", tiny_llama.model, tiny_llama.tokenizer), FAMILY, TUNING),
    ):
        with pytest.raises(ValueError, match="belongs to another training: name another folder") as caught:
            train(lm, family, tuning, folder, EVERY)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_a_saved_adapter_is_loaded_as_it_was(targets, tiny_llama, folder):
    tuning = replace(TUNING, targets=targets, rate=0.05)
    adapter, _, _ = train(tiny_llama, FAMILY, tuning, folder, EVERY)
    loaded = load_adapter(folder)
    assert loaded.tuning == tuning
    assert same(loaded.weights, adapter.weights)
    assert {weight.dtype for weight in loaded.weights.values()} == {torch.float32}
    found = []
    for source in (folder, str(folder), adapter):
        with tuned(tiny_llama, source):
            found.append(logits(tiny_llama))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])
    assert not torch.allclose(found[0], logits(tiny_llama), atol=1e-3)


def test_peft_itself_reads_a_saved_adapter(tiny_llama, folder):
    train(tiny_llama, FAMILY, replace(TUNING, rate=0.05), folder, EVERY)
    with tuned(tiny_llama, folder):
        expected = logits(tiny_llama)
    peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=target_modules(tiny_llama, TUNING), task_type="CAUSAL_LM"
    ).save_pretrained(folder)
    model = peft.PeftModel.from_pretrained(tiny_model("llama").model, folder).eval()
    # A batch's rows may be summed in another order by the second model, whose memory lies elsewhere.
    found = logits(LanguageModel("by peft", model, tiny_llama.tokenizer))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_another_model_or_none_is_refused(tiny_llama, folder):
    adapter = scrambled(tiny_llama, TUNING)
    with pytest.raises(ValueError, match="belongs to another model or tuning"), tuned(tiny_model("gpt2"), adapter):
        pass
    with (
        pytest.raises(ValueError, match="belongs to another model or tuning"),
        tuned(tiny_llama, adapter._replace(tuning=replace(TUNING, rank=3))),
    ):
        pass
    with pytest.raises(FileNotFoundError, match="has not come to its end"):
        load_adapter(folder)
    with (
        tuned(tiny_llama, adapter),
        pytest.raises(ValueError, match="tiny llama has an adapter already"),
        tuned(tiny_llama, adapter),
    ):
        pass
    assert not hasattr(tiny_llama.model, "peft_config")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ()}, "at least one layer"),
        ({"layers": (1, 1)}, "each once"),
        ({"rank": 0}, "rank and batch must be 1 or more"),
        ({"batch": 0}, "rank and batch must be 1 or more"),
        ({"steps": 0, "warm_up": 0}, "steps over warm_up"),
        ({"warm_up": 12}, "steps over warm_up"),
        ({"dropout": 1.0}, "dropout under 1"),
        ({"n_demos": -1}, "n_demos and seed must be 0 or more"),
        ({"seed": -1}, "n_demos and seed must be 0 or more"),
    ],
)
def test_tunings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TUNING, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": (1, 3)}, r"layers \[3\] are not among 0 … 2 of tiny llama"),
        ({"layers": (-1,)}, r"layers \[-1\] are not among"),
        ({"targets": ("q_proj", "c_attn")}, "are not among .*'q_proj'.* of layer 1 of tiny llama"),
        ({"targets": ()}, "are not among"),
        ({"n_demos": 2}, "the longest prompt has 4. tokens with its answer, but the context of tiny llama is 40"),
    ],
)
def test_what_the_model_cannot_do_is_told_before_any_forward(changes, message, tiny_llama, folder, monkeypatch):
    monkeypatch.setattr(tiny_llama.model.config, "max_position_embeddings", 40)
    monkeypatch.setattr(tiny_llama.model, "forward", None)
    with pytest.raises(ValueError, match=message):
        train(tiny_llama, FAMILY, replace(TUNING, **changes), folder, EVERY)
    assert not folder.exists()
    assert not hasattr(tiny_llama.model, "peft_config")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_an_error_and_what_came_before_stays(value, tiny_llama, tmp_path, monkeypatch):
    calls = count()

    def broken(*args):
        return answer_loss(*args) * (value if next(calls) == 5 else 1)

    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "answer_loss", broken)
        with pytest.raises(TrainingDiverged, match=f"loss of step 5 is {value}.*seed 3, rate 0.001") as caught:
            train(tiny_llama, FAMILY, TUNING, tmp_path / "broken", EVERY)
    assert len(str(caught.value).splitlines()) == 1
    train(tiny_llama, FAMILY, TUNING, tmp_path / "whole", EVERY)
    train(tiny_llama, FAMILY, TUNING, tmp_path / "broken", EVERY)
    assert_same_run(tmp_path / "broken", tmp_path / "whole")


def test_a_gradient_that_is_no_number_never_reaches_the_adapter(tiny_llama, monkeypatch):
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, loss):
            return loss.clone()

        @staticmethod
        def backward(_ctx, gradient):
            return gradient * math.nan

    monkeypatch.setattr(finetuning, "answer_loss", lambda *args: Broken.apply(answer_loss(*args)))
    with adapted(tiny_llama, TUNING, training=True) as parameters:
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        optimizer = torch.optim.AdamW(parameters.values())
        with pytest.raises(TrainingDiverged, match="its gradient's norm nan"):
            training_step(tiny_llama, TUNING, optimizer, 0, batch_of(tiny_llama, 0))
        assert same(before, {name: parameter.detach() for name, parameter in parameters.items()})


def test_the_rate_is_warmed_up_and_goes_to_zero(tiny_llama, monkeypatch):
    rates, step = [], torch.optim.AdamW.step
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, *args: rates.append(self.param_groups[0]["lr"]) or step(self, *args),
    )
    train(tiny_llama, FAMILY, replace(TUNING, steps=40, warm_up=10, batch=1, rate=0.01))
    assert rates[:10] == pytest.approx([0.001 * (i + 1) for i in range(10)])
    assert rates[10:] == pytest.approx([0.01 * (30 - i) / 30 for i in range(30)])


def test_a_model_in_half_precision_is_tuned_by_an_adapter_in_full(tiny_llama, folder):
    config = tiny_llama.model.config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    half = LanguageModel("half", model, tiny_llama.tokenizer)
    adapter, losses, _ = train(half, FAMILY, TUNING, folder, EVERY)
    assert losses.isfinite().all()
    assert {weight.dtype for weight in adapter.weights.values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    with tuned(half, folder):
        assert logits(half).dtype == torch.bfloat16


@pytest.mark.parametrize("version", ["mamba", "mamba2"])
def test_state_space_models_are_tuned_where_peft_can_and_left_whole_where_not(version):
    lm = tiny_mamba(version)
    before = [(name, id(module)) for name, module in lm.model.named_modules()]
    with pytest.raises(ValueError, match="incompatible with Mamba-based models"):
        train(lm, FAMILY, TUNING)
    assert [(name, id(module)) for name, module in lm.model.named_modules()] == before
    adapter, _, _ = train(lm, FAMILY, replace(TUNING, targets=("in_proj",), rate=0.1), stop=2)
    # Convolutions with frozen weights may take another way and round otherwise, so both have an adapter on.
    with adapted(lm, adapter.tuning):
        states = score(lm, TEXTS, COMPLETIONS).states
    with tuned(lm, adapter):
        after = score(lm, TEXTS, COMPLETIONS).states
    assert torch.equal(after[:, 0], states[:, 0])
    assert not torch.allclose(after[:, 1], states[:, 1], atol=1e-3)


def test_a_tuning_is_written_as_plain_facts(tiny_llama, folder):
    train(tiny_llama, FAMILY, TUNING, folder, EVERY)
    with finetuning.safe_open(folder / finetuning.ADAPTER, "pt") as file:
        name, dtype, family, facts = json.loads(file.metadata()["run"])
    assert (name, dtype, family) == ("tiny llama", "torch.float32", "bitwise_arithmetic(digits=3)")
    assert facts == asdict(TUNING) | {"layers": [1]}
