"""Texts as a model reads them, each of them tokenized once on its way to a score or a training."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny_models import tiny_model

from task_vectors.experiments import band_tuning, td_of_families
from task_vectors.lm.finetuning import Tuning, train, training_prompts
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.scoring import score, score_tokens
from task_vectors.lm.tokens import check_context, tokenized, tokens_up_to_answer, up_to_answer
from task_vectors.prompts.families import family_prompts
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.families.pos import pos_tagging

FAMILIES = {"bitwise": bitwise_arithmetic(4), "pos": pos_tagging()}
TEST = {"family": "bitwise", "options": {"digits": 4}, "n_demos": 2, "n_prompts": 3, "pool": "test", "seed": 0}


class Counting:
    """A tokenizer that counts how often it reads each text."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts = tokenizer, Counter()

    def __call__(self, texts, **kwargs):
        self.texts.update([] if texts == "a" else texts)  # a probe, once for each tokenizer
        return self.tokenizer(texts, **kwargs)

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __len__(self):
        return len(self.tokenizer)


@pytest.fixture
def counting(tiny_llama) -> LanguageModel:
    return replace(tiny_llama, tokenizer=Counting(tiny_llama.tokenizer))


def asked(family, n_demos, n_prompts, seed):
    """Every prompt, and every prompt with its answer's line: each of them once, were no two prompts the same."""
    prompts = family_prompts(family, n_demos, n_prompts, seed)
    lines = (text + answer + "\n" for text, answer in zip(prompts.texts, prompts.completions, strict=True))
    return Counter([*prompts.texts, *lines])


def test_a_record_of_a_family_tokenizes_each_text_once(counting, monkeypatch):
    monkeypatch.setattr(td_of_families, "checked_model", lambda *_: counting)
    facts = {name: value for name, value in TEST.items() if name != "pool"}
    td_of_families.run(model="", weights="", dtype="", source="", pool="test", condition="plain", **facts)
    assert counting.tokenizer.texts == asked(FAMILIES["bitwise"], 2, 3, 0)


def test_a_look_tokenizes_each_text_once(counting):
    band_tuning.look(counting, **TEST)
    assert counting.tokenizer.texts == asked(FAMILIES["bitwise"], 2, 3, 0)


def test_a_training_tokenizes_each_text_once(counting):
    tuning = Tuning((2,), rank=1, steps=3, batch=4, warm_up=1, n_demos=1)
    train(counting, FAMILIES["bitwise"], tuning)
    texts = Counter()
    for step in range(3):
        for text, answer in zip(*training_prompts(FAMILIES["bitwise"], tuning, step), strict=True):
            texts.update([text, text + answer + "\n"])
    assert counting.tokenizer.texts == texts


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_up_to_the_answer_are_those_of_the_texts_up_to_it(tiny_llama, name):
    """Here every space is a token of its own."""
    prompts = family_prompts(FAMILIES[name], 2, 3, 0)
    moved = up_to_answer(tiny_llama, prompts)
    assert moved.texts == tuple(f"{text} " for text in prompts.texts)
    tokens = tokens_up_to_answer(tiny_llama, prompts)
    assert tokens == tokenized(tiny_llama, list(moved.texts), list(moved.completions))
    found, expected = score_tokens(tiny_llama, tokens), score(tiny_llama, list(moved.texts), list(moved.completions))
    assert all(torch.equal(*parts) for parts in zip(found, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_for_a_real_vocabulary(gemma, name):
    prompts = family_prompts(FAMILIES[name], 4, 10, 0)
    moved = up_to_answer(gemma, prompts)
    assert tokens_up_to_answer(gemma, prompts) == tokenized(gemma, list(moved.texts), list(moved.completions))


def test_an_answer_that_changes_its_prompts_tokens_is_told():
    lm = tiny_model("gpt2")
    lm.tokenizer.add_tokens(["→ c"])  # the arrow and the answer's beginning in one
    with pytest.raises(ValueError, match="not a beginning of those of prompt and answer together: 'a →' "):
        tokenized(lm, ["a →"], [" c"])


def test_a_prompt_that_just_fits_the_context_may_be_read(tiny_llama, monkeypatch):
    tokens = tokenized(tiny_llama, ["ab", "a"], ["c", "bcd"])
    lengths = [len(prompt) + len(answer) for prompt, answer in zip(*tokens, strict=True)]
    for context in range(max(lengths) - 2, max(lengths) + 2):
        monkeypatch.setattr(tiny_llama.model.config, "max_position_embeddings", context)
        if context < max(lengths):
            with pytest.raises(ValueError, match=f"has {max(lengths)} tokens .* context of tiny llama is {context}"):
                check_context(tiny_llama, tokens)
        else:
            check_context(tiny_llama, tokens)
