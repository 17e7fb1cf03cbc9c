"""Text is scored, not one tokenization of it; probabilities are computed in float32 whatever the model's precision."""

from itertools import product

import pytest
import torch
from tiny_models import byte_tokenizer, merging_tokenizer, tiny_model
from transformers import LlamaConfig, LlamaForCausalLM

from task_vectors.lm.answers import end_of_line_ids, judge
from task_vectors.lm.finetuning import answer_loss
from task_vectors.lm.interventions import capture, continue_greedily, layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.scoring import score
from task_vectors.lm.tokens import answer_lines, whole_lines

MERGED = [(".", "Ċ"), (".Ċ", "Ċ"), ("m", ".")]  # as Qwen and Llama 3 merge a period and the line break after it


@pytest.fixture
def merging() -> LanguageModel:
    tokenizer = merging_tokenizer(MERGED)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.3,
    )  # fmt: skip
    return LanguageModel("tiny llama that merges", LlamaForCausalLM(config).eval(), tokenizer)


def plain_log_prob(lm: LanguageModel, prompt: list[int], tokens: list[int]) -> float:
    """Of these tokens after the prompt, by one plain forward pass."""
    with torch.no_grad():
        logits = lm.model(torch.tensor([prompt + tokens])).logits[0].double().log_softmax(-1)
    return sum(logits[len(prompt) - 1 + i, token].item() for i, token in enumerate(tokens))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_probabilities_are_those_of_float32(dtype):
    lm, logits = tiny_model("llama"), (3 * torch.randn(4, 258, generator=torch.Generator().manual_seed(1))).to(dtype)
    found = judge(lm, logits, [[5], [7]])
    exact = logits.double().log_softmax(-1)
    ends = end_of_line_ids(lm)
    expected = [exact[0, 5] + exact[1, ends].logsumexp(-1), exact[2, 7] + exact[3, ends].logsumexp(-1)]
    torch.testing.assert_close(found.log_prob.double(), torch.stack(expected), rtol=1e-5, atol=1e-5)


def test_an_answer_is_summed_over_the_tokens_that_spell_it_and_its_line_end(merging):
    """Brute force: all ways in which the answer's own tokens up to a place, and then one token, spell the line."""
    text, answer = "12 ->", " a.m."
    tokenizer = merging.tokenizer
    [prompt], [own] = answer_lines(merging, [text], [answer])
    assert tokenizer.decode(own) == answer
    ends = {i: tokenizer.decode([i]) for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])}
    ways = [[*own, tokenizer.eos_token_id]]
    for place, (i, ending) in product(range(len(own) + 1), ends.items()):
        if tokenizer.decode(own[:place]) + ending.partition("\n")[0] == answer:
            ways.append([*own[:place], i])
    assert len(ways) >= 3  # the line break by itself, the end of text, and ".\n" or ".\n\n"
    expected = torch.tensor([plain_log_prob(merging, prompt, way) for way in ways]).logsumexp(0)
    assert score(merging, [text], [answer]).log_prob.item() == pytest.approx(expected.item(), abs=1e-4)
    vectors = capture(merging, [text])
    swept = layer_sweep(merging, [text], vectors, [answer])  # its own states change nothing
    torch.testing.assert_close(swept.log_prob, expected.float().expand(1, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("ending", ["\n", ".\n", "<eos>"])
def test_right_is_what_greedy_decoding_writes_however_it_is_spelled(merging, ending):
    """Logits that prefer one way to end the line " a." in, token by token."""
    tokenizer, answer = merging.tokenizer, answer_lines(merging, ["12 ->"], [" a."]).answers[0]
    assert tokenizer.convert_ids_to_tokens(answer)[-1] == "."
    way = answer[:-1] + [tokenizer.convert_tokens_to_ids(".Ċ")] if ending == ".\n" else answer
    way = way if ending == ".\n" else [*way, tokenizer.convert_tokens_to_ids(ending.replace("\n", "Ċ"))]
    logits = torch.zeros(len(answer) + 1, len(tokenizer))
    logits[range(len(way)), way] = 9.0
    found = judge(merging, logits, [answer])
    assert found.right.item()
    assert found.first.item()
    other = logits.clone()
    other[len(way) - 1, tokenizer.convert_tokens_to_ids("x")] = 10.0  # the line goes on
    assert not judge(merging, other, [answer]).right.item()


def test_a_model_that_learned_to_write_such_an_answer_is_told_so(merging):
    texts, answers = ["12 ->", "21 ->"], [" p.m.", " a.m."]
    optimizer = torch.optim.AdamW(merging.model.parameters(), lr=3e-3)
    for _ in range(80):
        loss = answer_loss(merging, whole_lines(merging, texts, answers))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert continue_greedily(merging, texts).texts == ["p.m.", "a.m."]
    found = score(merging, texts, answers)
    assert found.right.all()
    assert (found.log_prob > -1).all()
    assert layer_sweep(merging, texts, capture(merging, texts), answers).exact.all()


def test_an_answer_without_a_merge_is_scored_as_before():
    """One token a byte: nothing can hold a period and a line break."""
    assert (
        byte_tokenizer()(".\n", add_special_tokens=False).input_ids
        == byte_tokenizer()(".", add_special_tokens=False).input_ids
        + byte_tokenizer()("\n", add_special_tokens=False).input_ids
    )
    lm = tiny_model("llama")
    assert len(end_of_line_ids(lm)) == 2
