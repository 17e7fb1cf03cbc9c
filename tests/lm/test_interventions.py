"""Reading and replacing states means the same in every architecture, batch and padding."""

import pytest
import torch

from task_vectors.lm.answers import end_of_line_ids
from task_vectors.lm.forward import layer_edits
from task_vectors.lm.interventions import capture, continue_greedily, inject, layer_sweep, unembed
from task_vectors.lm.tokens import tokenize

TEXTS = ["Example:cat → cats\nExample:dog →", "Example:a →", "Example:mouse → mice\nExample:ox → oxen\nExample:hen →"]
CLOSE = {"rtol": 1e-4, "atol": 2e-4}


@pytest.fixture
def vectors(tiny):
    torch.manual_seed(1)
    return torch.randn(len(TEXTS), tiny.n_layers, tiny.d_model)


@torch.no_grad()
def plain_logits(lm, text):
    """The last token's logits of one unpadded text, by the model's own forward."""
    return lm.model(torch.tensor([tokenize(lm, [text])[0]])).logits[0, -1]


def test_capture_reads_the_layers_outputs(tiny):
    """All but the last of transformers' hidden states are the layers' outputs (the last has the final norm on it)."""
    with torch.no_grad():
        ids = torch.tensor([tokenize(tiny, TEXTS[:1])[0]])
        hidden = tiny.model(ids, output_hidden_states=True).hidden_states
    states = capture(tiny, TEXTS[:1])
    assert states.shape == (1, tiny.n_layers, tiny.d_model)
    for layer in range(tiny.n_layers - 1):
        torch.testing.assert_close(states[0, layer], hidden[layer + 1][0, -1], **CLOSE)


def test_batched_equals_one_by_one(tiny):
    """Left pads change nothing: neither the states nor what is written."""
    one_by_one = torch.cat([capture(tiny, [text]) for text in TEXTS])
    torch.testing.assert_close(capture(tiny, TEXTS), one_by_one, **CLOSE)
    assert continue_greedily(tiny, TEXTS).texts == [continue_greedily(tiny, [text]).texts[0] for text in TEXTS]


def test_greedy_texts_equal_transformers_generate(tiny):
    for text in TEXTS:
        ids = torch.tensor([tokenize(tiny, [text])[0]])
        made = tiny.model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
        ends = set(end_of_line_ids(tiny).tolist())
        written = []
        for token in made[0, ids.shape[1] :].tolist():
            if token in ends:
                break
            written.append(token)
        assert continue_greedily(tiny, [text]).texts == [
            tiny.tokenizer.decode(written, skip_special_tokens=True).strip(" ")
        ]


def test_own_states_put_back_change_nothing(tiny):
    states = capture(tiny, TEXTS)
    logits = layer_sweep(tiny, TEXTS, states)
    for row, text in enumerate(TEXTS):
        for layer in range(tiny.n_layers):
            torch.testing.assert_close(logits[row, layer], plain_logits(tiny, text), **CLOSE)
    plain = continue_greedily(tiny, TEXTS).texts
    assert continue_greedily(tiny, TEXTS, vectors=states[:, 1], layer=1).texts == plain


def test_sweep_equals_one_forward_per_layer(tiny, vectors):
    sweep = layer_sweep(tiny, TEXTS, vectors)
    for row, text in enumerate(TEXTS):
        for layer in range(tiny.n_layers):
            with inject(tiny, vectors[row : row + 1, layer], layer):
                torch.testing.assert_close(sweep[row, layer], plain_logits(tiny, text), **CLOSE)


def test_sweep_does_not_depend_on_the_batch(tiny, vectors):
    whole = layer_sweep(tiny, TEXTS, vectors)
    torch.testing.assert_close(layer_sweep(tiny, TEXTS, vectors, rows=1), whole, **CLOSE)


def test_scores_equal_a_forward_over_the_whole_answer(tiny, vectors):
    """log p(answer, end of line) token by token, from unpadded forwards with the vector in."""
    answers = [" dogs", " b", " hens and more"]
    scores = layer_sweep(tiny, TEXTS, vectors, answers)
    ends = end_of_line_ids(tiny)
    for row, (text, answer) in enumerate(zip(TEXTS, answers, strict=True)):
        prompt, whole = tokenize(tiny, [text, text + answer])
        start = len(prompt) - 1
        for layer in range(tiny.n_layers):
            with torch.no_grad(), inject(tiny, vectors[row : row + 1, layer], layer, positions=start):
                log_probs = tiny.model(torch.tensor([whole])).logits[0].log_softmax(-1)
            words = [log_probs[start + i, token] for i, token in enumerate(whole[start + 1 :])]
            expected = sum(words) + log_probs[-1, ends].logsumexp(0)
            torch.testing.assert_close(scores.log_prob[row, layer], expected, **CLOSE)
            best = log_probs[start:].argmax(-1).tolist()
            assert scores.first_token[row, layer] == (best[0] == whole[start + 1])
            assert scores.exact[row, layer] == (best[:-1] == whole[start + 1 :] and best[-1] in ends.tolist())


def test_shared_beginnings_change_nothing(tiny):
    demos = ["Example:cat → cats\n", "Example:mouse → mice\nExample:ox → oxen\n"]
    texts = [demo + f"Example:{query} →" for demo in demos for query in ("dog", "a", "elephant")]
    torch.testing.assert_close(capture(tiny, texts, shared=3), capture(tiny, texts), **CLOSE)
    assert continue_greedily(tiny, texts, shared=3).texts == continue_greedily(tiny, texts).texts


def test_unembedding_the_last_layers_state_gives_the_models_logits(tiny):
    torch.testing.assert_close(unembed(tiny, capture(tiny, TEXTS[:1])[:, -1])[0], plain_logits(tiny, TEXTS[0]), **CLOSE)


def test_inject_several_positions(tiny, vectors):
    """[B, P, d] vectors at [B, P] columns: the states there are those put in, the states before them are untouched."""
    text = TEXTS[2]
    ids = torch.tensor([tokenize(tiny, [text])[0]])
    columns = torch.tensor([[3, 7]])
    put = vectors[:1, :2]
    seen = {}
    with torch.no_grad(), inject(tiny, put, 1, columns), layer_edits(tiny, {1: lambda h: seen.update(state=h.clone())}):
        tiny.model(ids)
    torch.testing.assert_close(seen["state"][0, columns[0]], put[0])
    with torch.no_grad():
        plain = tiny.model(ids, output_hidden_states=True).hidden_states[2]
    torch.testing.assert_close(seen["state"][0, :3], plain[0, :3], **CLOSE)


def test_inject_leaves_the_steps_of_generate_alone(tiny, vectors):
    ids = torch.tensor([tokenize(tiny, TEXTS[:1])[0]])
    with inject(tiny, vectors[:1, 1], 1):
        made = tiny.model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=None)
    expected = continue_greedily(tiny, TEXTS[:1], vectors=vectors[:1, 1], layer=1, max_tokens=4)
    assert made[0, ids.shape[1]] == expected.first_tokens[0]
    text = tiny.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert text.split("\n")[0].strip(" ").startswith(expected.texts[0])


@pytest.mark.parametrize("position", [-1, 3])
def test_generate_writes_the_same_with_and_without_a_cache(tiny, vectors, position):
    ids = torch.tensor([tokenize(tiny, TEXTS[:1])[0]])
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with inject(tiny, vectors[:1, 1], 1, position):
        cached, plain = (tiny.model.generate(ids, use_cache=use, **settings) for use in (True, False))
        assert torch.equal(cached, plain)
        # A prompt of its own, though it begins like the one before: the place is again that of its last token.
        longer = torch.cat([ids, ids], 1)
        with torch.no_grad():
            after = tiny.model(longer, use_cache=False).logits[:, -1]
    with torch.no_grad(), inject(tiny, vectors[:1, 1], 1, position):
        torch.testing.assert_close(tiny.model(longer, use_cache=False).logits[:, -1], after)


def test_a_hook_that_never_fires_raises(tiny):
    with pytest.raises(RuntimeError, match="never fired"), layer_edits(tiny, {0: lambda hidden: None}):
        pass


def test_hooks_are_removed_when_the_forward_fails(tiny_llama):
    ids = torch.tensor([[1, 2]])

    def fail(_hidden):
        raise ZeroDivisionError

    before = [dict(layer._forward_hooks) for layer in tiny_llama.layers]
    with pytest.raises(ZeroDivisionError), layer_edits(tiny_llama, {0: fail, 1: fail}):
        tiny_llama.model(ids)
    assert [dict(layer._forward_hooks) for layer in tiny_llama.layers] == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda lm: layer_sweep(lm, ["a"], torch.zeros(1, lm.n_layers + 1, lm.d_model)), "must be"),
        (lambda lm: continue_greedily(lm, ["a"], layer=1), "go together"),
        (lambda lm: capture(lm, ["a", "b", "c"], shared=2), "runs of shared=2"),
        (lambda lm: capture(lm, []), "no texts"),
        (
            lambda lm: continue_greedily(lm, ["a"], vectors=torch.zeros(1, lm.d_model), layer=99),
            "layer 99 is not one of",
        ),
    ],
)
def test_bad_input_is_told(tiny_llama, call, message):
    with pytest.raises(ValueError, match=message):
        call(tiny_llama)


@pytest.mark.slow
def test_real_gemma_forms_plurals_by_a_task_vector(gemma):
    """The vector read at another query makes zero-shot prompts give plurals; `exact` is what greedy decoding writes."""
    demos = [
        ("cat", "cats"),
        ("dog", "dogs"),
        ("book", "books"),
        ("car", "cars"),
        ("tree", "trees"),
        ("house", "houses"),
    ]
    source = "".join(f"Example:{x} → {y}\n" for x, y in demos) + "Example:apple →"
    queries, answers = ["river", "door", "cloud"], ["rivers", "doors", "clouds"]
    prompts = [f"Example:{query} →" for query in queries]
    assert continue_greedily(gemma, [source]).texts == ["apples"]
    assert not set(continue_greedily(gemma, prompts).texts) & set(answers)

    vectors = capture(gemma, [source]).expand(3, -1, -1)
    scores = layer_sweep(gemma, prompts, vectors, [f" {answer}" for answer in answers])
    written = [
        continue_greedily(gemma, prompts, vectors=vectors[:, layer], layer=layer).texts
        for layer in range(gemma.n_layers)
    ]
    by_hand = torch.tensor([[texts[i] == answers[i] for texts in written] for i in range(3)])
    assert torch.equal(scores.exact, by_hand)
    assert by_hand.any(1).all()
