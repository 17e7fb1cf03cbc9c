"""LoRA trains the layers that it is asked to, on the loss that it says, and leaves the model as it was."""

import json
import math
import re
from dataclasses import asdict, replace
from itertools import count

import pytest
import torch
from test_scoring import tiny_mamba
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM
from tunings import COMPLETIONS, EVERY, FAMILY, TEXTS, TUNING, assert_same_run, batch_of, logits, same, scrambled

from task_vectors.checkpoints import TrainingDiverged
from task_vectors.lm import answers, finetuning
from task_vectors.lm.finetuning import (
    Tuning,
    adapted,
    answer_loss,
    train,
    training_prompts,
    training_step,
    tuned,
)
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.scoring import score
from task_vectors.lm.tokens import whole_lines
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.pos import pos_tagging


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


def loss_by_hand(lm, text, completion):
    """Summed over the answer's tokens and the line break, from all logits of the prompt alone."""
    prompt, whole = (lm.tokenizer(part).input_ids for part in (text, f"{text}{completion}\n"))
    log_probs = log_softmax(lm.model(torch.tensor([whole]), use_cache=False).logits[0].double(), -1)
    places = range(len(prompt), len(whole))
    return -sum(log_probs[i - 1, whole[i]] for i in places), len(places)


def test_the_loss_is_that_of_the_answer_and_the_end_of_its_line(tiny):
    sums, numbers = zip(*map(loss_by_hand, [tiny] * 3, TEXTS, COMPLETIONS), strict=True)
    assert numbers == (3, 7, 4)  # bytes: a space, the answer, a line break
    found = answer_loss(tiny, whole_lines(tiny, TEXTS, COMPLETIONS)).item()
    assert found == pytest.approx(sum(sums).item() / sum(numbers), rel=1e-4)


def test_a_batch_is_its_prompts_one_by_one(tiny):
    """Gradients too, where there is no dropout."""
    tuning = replace(TUNING, dropout=0)
    adapter = scrambled(tiny, tuning)
    numbers = torch.tensor([3, 7, 4]) / 14
    with adapted(tiny, tuning, training=True) as parameters:
        finetuning._fill(parameters, adapter.weights)
        together = answer_loss(tiny, whole_lines(tiny, TEXTS, COMPLETIONS))
        batches = [whole_lines(tiny, [x], [y]) for x, y in zip(TEXTS, COMPLETIONS, strict=True)]
        alone = torch.stack([answer_loss(tiny, batch) for batch in batches])
        torch.testing.assert_close(together, (alone * numbers).sum(), rtol=1e-4, atol=1e-4)
        found, expected = (
            torch.autograd.grad(loss, list(parameters.values())) for loss in (together, (alone * numbers).sum())
        )
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_loss_is_what_the_evaluation_scores_where_a_line_has_one_end(tiny, monkeypatch):
    [end] = tiny.tokenizer("\n", add_special_tokens=False).input_ids
    monkeypatch.setattr(answers, "line_ends", lambda _: {"": [end]})
    monkeypatch.setattr(answers, "text_ends", lambda _: [])
    expected = -score(tiny, TEXTS, COMPLETIONS).log_prob.sum().item() / 14  # tokens
    assert answer_loss(tiny, whole_lines(tiny, TEXTS, COMPLETIONS)).item() == pytest.approx(expected, rel=1e-4)


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
    held_out = whole_lines(tiny_llama, *training_prompts(FAMILY, replace(tuning, seed=99), 0))
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
