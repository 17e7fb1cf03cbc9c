"""Every known architecture, with every kind of tokenizer, gives what a plain loop gives, or is refused in one line.

The loop knows no batches, pads, caches or shared beginnings: one prompt, one forward pass, transformers as it is.
"""

import pytest
import torch
from plain_loop import ANSWERS, ARCHITECTURES, TEXTS, VARIANTS, Plain, build, one_by_one
from test_saliency import by_eager_autograd
from tiny_models import TOKENIZERS
from tokenizers import decoders, normalizers

from task_vectors.experiments.demonstration_weights import ends_in_text, token_columns
from task_vectors.lm.answers import end_of_line_ids
from task_vectors.lm.finetuning import answer_loss
from task_vectors.lm.forward import states_at
from task_vectors.lm.interventions import capture, continue_greedily, inject, layer_sweep, unembed
from task_vectors.lm.models import LAYER_PATHS, RECURRENT, LanguageModel
from task_vectors.lm.saliency import attention_saliency
from task_vectors.lm.scoring import score
from task_vectors.lm.task_vector import evaluate
from task_vectors.lm.tokens import line_of, pad, tokenize, tokens_up_to_answer, up_to_answer, whole_lines
from task_vectors.prompts.families import family_prompts
from task_vectors.prompts.few_shot import DEFAULT_TEMPLATE, few_shot_prompts, render
from task_vectors.tasks.families.bitwise import bitwise_arithmetic
from task_vectors.tasks.task import Task

UNWATCHED = ("Falcon", "GPTJ", "Mamba", "Mamba2")  # their attention, if any, is their own
DROPPING = ("words",)  # kinds of tokenizer that drop line breaks
LETTERS = Task("again", "letters", tuple((f"{a}{b}", f"{b}{a}.") for a in "abcdef" for b in "klmn"))
NEAR = {"rtol": 1e-3, "atol": 1e-3}


def test_the_table_of_architectures_is_whole():
    assert ARCHITECTURES.keys() == LAYER_PATHS.keys()


@pytest.fixture
def refused(monkeypatch):
    """A call is refused in one line that says so, before anything runs."""

    def refuse(lm, words, call, error=ValueError):
        with monkeypatch.context() as patch:
            for module in (lm.model, lm.model.base_model):
                patch.setattr(module, "forward", lambda *_args, **_kwargs: pytest.fail("a forward pass was run"))
            with pytest.raises(error, match=words) as caught:
                call()
        assert len(str(caught.value).splitlines()) == 1

    return refuse


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_scores_texts_and_sweeps_are_those_of_the_plain_loop(architecture, kind, refused):
    lm = build(architecture, kind)
    plain = Plain(lm)
    states = torch.stack([plain.states(text) for text in TEXTS])  # [B, L, d]
    torch.testing.assert_close(capture(lm, TEXTS), states, **NEAR)
    if kind in DROPPING:
        refused(lm, "drops line breaks", lambda: score(lm, TEXTS, ANSWERS))
    else:
        found = score(lm, TEXTS, ANSWERS)
        torch.testing.assert_close(found.states, states, **NEAR)
        torch.testing.assert_close(found.log_prob, one_by_one(plain.log_prob, TEXTS, ANSWERS), **NEAR)
    if architecture in RECURRENT:
        for call in (
            lambda: continue_greedily(lm, TEXTS),
            lambda: layer_sweep(lm, TEXTS, states),
            lambda: capture(lm, TEXTS[:2], shared=2),
            lambda: evaluate(lm, LETTERS, 2, [0]),
        ):
            refused(lm, "is recurrent", call, NotImplementedError)
        return
    assert continue_greedily(lm, TEXTS, max_tokens=4).texts == [plain.greedy(text, 4) for text in TEXTS]
    torch.testing.assert_close(capture(lm, TEXTS[:2], shared=2), states[:2], **NEAR)
    vectors = states.roll(1, 0)  # another prompt's
    if kind in DROPPING:
        refused(lm, "drops line breaks", lambda: layer_sweep(lm, TEXTS, vectors, ANSWERS))
        refused(lm, "drops line breaks", lambda: evaluate(lm, LETTERS, 2, [0]))
        return
    swept = layer_sweep(lm, TEXTS, vectors, ANSWERS).log_prob
    for layer in range(lm.n_layers):
        edits = [plain.at_last(text, layer, vector) for text, vector in zip(TEXTS, vectors[:, layer], strict=True)]
        torch.testing.assert_close(swept[:, layer], one_by_one(plain.log_prob, TEXTS, ANSWERS, edits), **NEAR)


EVERY_CASE = [*((name, "both") for name in ARCHITECTURES | VARIANTS), *(("llama", kind) for kind in TOKENIZERS)]
each_case = pytest.mark.parametrize(("architecture", "kind"), EVERY_CASE)


@each_case
def test_states_are_put_in_as_by_the_plain_loop(architecture, kind):
    lm = build(architecture, kind)
    plain, rows = Plain(lm), tokenize(lm, TEXTS)
    torch.manual_seed(1)
    vectors = torch.randn(len(TEXTS), 2, lm.d_model)
    ids, mask = pad(lm, rows)
    places = (mask.cumsum(1) - 1).clamp(min=0)

    def last(row, edit):
        return plain.forward(row, edit)[1][-1]  # [V]

    for put, positions in (
        (vectors[:, 0], -1),
        (vectors[:, 0], torch.tensor([-1, -2, -3])),
        (vectors, torch.tensor([[-1, -3], [-2, -1], [-4, -2]])),
        (vectors, ids.shape[1] - torch.tensor([[1, 3], [2, 1], [4, 2]])),
    ):
        with torch.no_grad(), inject(lm, put, 1, positions):
            found = lm.model(input_ids=ids, attention_mask=mask, position_ids=places, use_cache=False).logits[:, -1]
        columns = torch.as_tensor(positions).reshape(-1, 1 if put.ndim == 2 else 2).expand(len(TEXTS), -1)  # [B, P]
        columns = torch.where(columns < 0, columns, columns - ids.shape[1])  # from the end
        edits = [(1, *edit) for edit in zip(columns, put, strict=True)]
        torch.testing.assert_close(found, one_by_one(last, rows, edits), **NEAR)
    torch.testing.assert_close(
        states_at(lm, TEXTS, torch.tensor([[-1, -3]] * 3)),
        torch.stack([plain.forward(row)[0][:, [-1, -3]].transpose(0, 1) for row in rows]),  # [B, P, L, d]
        **NEAR,
    )
    edits = [(lm.n_layers - 1, -1, vector) for vector in vectors[:, 0]]
    torch.testing.assert_close(unembed(lm, vectors[:, 0]), one_by_one(last, rows, edits), **NEAR)


@each_case
def test_what_is_written_with_a_vector_is_what_the_plain_loop_writes(architecture, kind):
    lm = build(architecture, kind)
    plain = Plain(lm)
    torch.manual_seed(2)
    vectors = 3 * torch.randn(len(TEXTS), lm.n_layers, lm.d_model)
    settings = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    for text, vector in zip(TEXTS, vectors[:, 1], strict=True):
        ids = torch.tensor([plain.ids(text)])
        expected = plain.tokens(text, 4, plain.at_last(text, 1, vector))
        for use_cache in (True, False):
            with inject(lm, vector[None], 1):
                # Without a mask, generate would take a beginning of text for a pad.
                made = lm.model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=use_cache, **settings)
            assert made[0, ids.shape[1] :].tolist() == expected
    if architecture in RECURRENT:
        return
    edits = [plain.at_last(text, 1, vector) for text, vector in zip(TEXTS, vectors[:, 1], strict=True)]
    found = continue_greedily(lm, TEXTS, vectors=vectors[:, 1], layer=1, max_tokens=4)
    assert found.texts == [plain.greedy(text, 4, edit) for text, edit in zip(TEXTS, edits, strict=True)]
    assert found.first_tokens.tolist() == [
        plain.tokens(text, 1, edit)[0] for text, edit in zip(TEXTS, edits, strict=True)
    ]
    swept = layer_sweep(lm, TEXTS, vectors)
    for layer in range(lm.n_layers):
        for b, text in enumerate(TEXTS):
            edit = plain.at_last(text, layer, vectors[b, layer])
            torch.testing.assert_close(swept[b, layer], plain.forward(plain.ids(text), edit)[1][-1], **NEAR)


@each_case
def test_an_evaluation_is_that_of_the_plain_loop(architecture, kind):
    if architecture in RECURRENT or kind in DROPPING:
        return  # refused above
    lm = build(architecture, kind)
    plain, how = Plain(lm), {"queries_per_prefix": 2}
    found = evaluate(lm, LETTERS, 1, [0], n_prompts=4, n_selection=2, **how)
    held_out = few_shot_prompts(LETTERS, 1, 2, 0, pool="selection", **how)
    vectors = [plain.states(held_out.vector_texts[prefix]) for prefix in held_out.prefix]
    for b, (text, answer) in enumerate(zip(held_out.zero_shot_texts, held_out.completions, strict=True)):
        edits = [plain.at_last(text, layer, vectors[b][layer]) for layer in range(lm.n_layers)]
        expected = torch.stack([plain.log_prob(text, answer, edit) for edit in edits])
        torch.testing.assert_close(found.selection.log_prob[b], expected, **NEAR)
    prompts, layer = few_shot_prompts(LETTERS, 1, 4, 0, **how), found.layers["right"]
    room = 1 + max(
        len(plain.ids(text + answer)) - len(plain.ids(text))
        for text, answer in zip(prompts.zero_shot_texts, prompts.completions, strict=True)
    )
    assert found.answers.icl.tolist() == [plain.greedy(text, room) for text in prompts.texts]
    edits = [
        plain.at_last(text, layer, plain.states(prompts.vector_texts[prefix])[layer])
        for text, prefix in zip(prompts.zero_shot_texts, prompts.prefix, strict=True)
    ]
    assert found.answers.vector.tolist() == [
        plain.greedy(text, room, edit) for text, edit in zip(prompts.zero_shot_texts, edits, strict=True)
    ]
    assert found.answers.icl_right.tolist() == (found.answers.icl == found.answers.answer).tolist()


@each_case
def test_saliency_is_that_of_autograd(architecture, kind, refused):
    lm = build(architecture, kind)
    if (ARCHITECTURES | VARIANTS)[architecture][0] in UNWATCHED:
        refused(lm, "cannot be watched", lambda: attention_saliency(lm, TEXTS[0], ANSWERS[1]), NotImplementedError)
        return
    expected = by_eager_autograd(lm, TEXTS[0], ANSWERS[1])
    largest = expected.amax((1, 2), keepdim=True)  # [L, 1, 1]
    found = attention_saliency(lm, TEXTS[0], ANSWERS[1])
    torch.testing.assert_close(found / largest, expected / largest, rtol=1e-3, atol=1e-4)


@each_case
def test_the_loss_of_a_training_is_that_of_the_plain_loop(architecture, kind, refused):
    lm = build(architecture, kind)
    if kind in DROPPING:
        refused(lm, "drops line breaks", lambda: whole_lines(lm, TEXTS, ANSWERS))
        return
    plain, losses = Plain(lm), []
    for text, answer in zip(TEXTS, ANSWERS, strict=True):
        start, line = len(plain.ids(text)), plain.ids(text + answer + "\n")
        log_probs = plain.forward(line)[1].log_softmax(-1)
        losses += [-log_probs[i - 1, line[i]] for i in range(start, len(line))]
    with torch.no_grad():
        found = answer_loss(lm, whole_lines(lm, TEXTS, ANSWERS))
    torch.testing.assert_close(found, torch.stack(losses).mean(), **NEAR)


@pytest.mark.parametrize(
    ("answer", "spelled", "normalizer"),
    [
        (" Paris", "paris", normalizers.Lowercase()),
        (" é", "e", normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
        (" x²", "x2", normalizers.NFKC()),
        (" e\u0301", "é", normalizers.NFC()),
        (" a\nb", "a", normalizers.NFC()),
    ],
)
def test_an_answer_that_could_never_be_found_is_refused(answer, spelled, normalizer, refused):
    """What a model writes is never " Paris" where the tokenizer makes all letters small."""
    lm = build("llama", "bytes")
    lm.tokenizer.backend_tokenizer.normalizer = normalizer
    states = capture(lm, ["a →"])
    task = Task("capitals", "letters", tuple((f"{a}{b}", answer[1:] + a) for a in "abcdef" for b in "klmn"))
    for call in (
        lambda: score(lm, ["a →"], [answer]),
        lambda: layer_sweep(lm, ["a →"], states, [answer]),
        lambda: evaluate(lm, task, 2, [0]),
        lambda: whole_lines(lm, ["a →"], [answer]),
    ):
        refused(lm, f"the tokenizer of tiny llama spells .* as '{spelled}", call)


def test_a_text_ends_where_the_models_own_generate_stops():
    """Chat models name several ends, and the tokenizer only one of them."""
    lm = build("llama", "both")
    plain = Plain(lm)
    tokens = plain.tokens(TEXTS[0], 4)
    assert len(set(tokens)) > 1
    end = next(token for token in tokens if token != tokens[0])
    lm.tokenizer.add_special_tokens({"extra_special_tokens": [lm.tokenizer.convert_ids_to_tokens(end)]})
    lm.model.generation_config.eos_token_id = [1, end, 5, 10**6]  # a letter, and an id that is not there
    ids = torch.tensor([plain.ids(TEXTS[0])])
    made = lm.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    written = made[0, ids.shape[1] :].tolist()
    assert written[-1] == end
    assert continue_greedily(lm, TEXTS[:1], max_tokens=4).texts == [plain.decode(written[:-1])]
    assert end_of_line_ids(lm).tolist() == sorted([1, end, *plain.breaks])


def test_no_space_is_tidied_away():
    tokenizer = TOKENIZERS["words"]()
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece(cleanup=False)
    tokenizer.clean_up_tokenization_spaces = True
    ids = tokenizer("a . b", add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == "a. b"
    assert line_of(LanguageModel("tidy", None, tokenizer), ids) == "a . b"


@pytest.mark.parametrize("kind", ["bytes", "merges"])
def test_a_text_without_tokens_has_no_state(kind, refused):
    lm = build("llama", kind)
    for call in (
        lambda: capture(lm, ["a", ""]),
        lambda: continue_greedily(lm, ["a", ""]),
        lambda: score(lm, ["a", ""], ANSWERS[:2]),
    ):
        refused(lm, "the text '' has no tokens for tiny llama", call)
    assert len(capture(build("llama", "both"), ["a", ""])) == 2  # a beginning of text is one


def test_a_window_holds_what_is_written_behind_shared_beginnings():
    """Beginnings that differ in length are padded: pads are columns of the window, which decoding goes on to fill."""
    lm = build("mistral, narrow window", "bytes")
    for layer in lm.layers:
        layer.self_attn.sliding_window = 64
    lm.model.config.sliding_window = 64
    letters = [f"{chr(97 + i % 26)}{i}" for i in range(40)]
    short = ["a" + "".join(letters)[n : n + 31] for n in (1, 4)]  # one token in common
    long = ["".join(letters)[:30] + end for end in ("xy", "zv")]  # 30
    plain = Plain(lm)
    found = continue_greedily(lm, short + long, shared=2, max_tokens=24).texts
    assert found == [plain.greedy(text, 24) for text in short + long]


def test_a_held_out_answer_is_refused_before_anything_runs(refused):
    lm = build("llama", "bytes")
    lm.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    held_out = few_shot_prompts(LETTERS, 2, 12, 0, pool="selection", queries_per_prefix=4).queries
    pairs = tuple((x, y.upper() if x in held_out else y) for x, y in LETTERS.pairs)
    refused(lm, "spells ' [A-Z]*", lambda: evaluate(lm, Task("again", "letters", pairs), 2, [0]))


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind not in DROPPING])
def test_decodability_is_read_right_before_the_answer(kind):
    """At the last token of the prompt, or at the space behind it where all answers begin with a token of space."""
    lm = build("llama", kind)
    plain, prompts = Plain(lm), family_prompts(bitwise_arithmetic(3), 1, 2, 0)
    found, texts = tokens_up_to_answer(lm, prompts), up_to_answer(lm, prompts).texts
    for i, (text, answer) in enumerate(zip(prompts.texts, prompts.completions, strict=True)):
        assert found.prompts[i] + found.answers[i] == plain.ids(text + answer)
        assert found.prompts[i] == plain.ids(texts[i])
        assert plain.decode(found.answers[i][:1]).strip()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_demonstrations_tokens_are_those_that_end_it(kind):
    lm = build("llama", kind)
    plain, demos = Plain(lm), (("ab", "c."), ("de", "a f"))
    text = render(DEFAULT_TEMPLATE, demos, "q")
    ends = ends_in_text(DEFAULT_TEMPLATE, demos, "q")
    if kind in DROPPING:
        with pytest.raises(ValueError, match=r"the tokenizer of tiny llama drops '\\n'"):
            token_columns(lm, [text], [ends])
        return
    whole = plain.ids(text)
    expected = [len(plain.ids(text[:end])) - 1 - len(whole) for end in ends]
    assert token_columns(lm, [text], [ends]).tolist() == [expected]
