"""States and greedy answers of prompts that share their demonstrations four by four, against transformers' generate.

`continue_greedily` runs what neighbors have in common once, reads the states as it goes, and lets a prompt leave the
batch when its line ends. The rival is one call of generate, which returns the states too (those of the last layer after
the final norm) and stops a prompt at the same tokens. Beside it stands ours without sharing: where the gain comes from.

Run `python benchmarks/greedy_answers.py`; it takes three minutes on two cores and adds to results/greedy_answers.csv.
"""

import pandas as pd
import torch
from measure import append, row, timed
from torch import Tensor
from tqdm import tqdm

from task_vectors.lm.answers import end_of_line_ids
from task_vectors.lm.interventions import continue_greedily
from task_vectors.lm.models import LanguageModel, load_model
from task_vectors.lm.tokens import pad, tokenize
from task_vectors.prompts.few_shot import TERMINATOR, few_shot_prompts
from task_vectors.tasks.catalog import get_task

MODEL = "gemma-3-270m"
TASK = "present_to_gerund"
BATCH, SHARED, N_DEMOS, MAX_TOKENS = 32, 4, 10, 8
ROUNDS = 7


def main() -> None:
    append("greedy_answers", compare(load_model(MODEL)))


def compare(lm: LanguageModel) -> list[dict]:
    """All ways in turn, each round on prompts of its own."""
    rounds, same = [], []
    for seed in tqdm(range(ROUNDS + 1), desc="greedy answers"):
        prompts = few_shot_prompts(get_task(TASK), N_DEMOS, BATCH, seed, queries_per_prefix=SHARED)
        texts, options = list(prompts.texts), {"max_tokens": MAX_TOKENS, "rows": BATCH}
        ours, found = timed(lambda: continue_greedily(lm, texts, shared=SHARED, **options))  # noqa: B023
        apart, _ = timed(lambda: continue_greedily(lm, texts, **options))  # noqa: B023
        theirs, expected = timed(lambda: generated(lm, texts))  # noqa: B023
        rounds.append((ours, apart, theirs))
        same += [one == other for one, other in zip(found.texts, expected[0], strict=True)]
    times = pd.DataFrame(rounds[1:], columns=["ours", "apart", "theirs"])
    case = f"{BATCH} prompts, {SHARED} to a prefix"
    return [
        row(case, "continue_greedily", "s", times.ours),
        row(case, "the same without shared prefixes", "s", times.apart),
        row(case, "generate", "s", times.theirs),
        row(case, "generate / continue_greedily", "ratio", times.theirs / times.ours),
        row(case, "generate / the same without shared prefixes", "ratio", times.theirs / times.apart),
        row(case, "answers equal", "share", [sum(same) / len(same)]),
    ]


@torch.no_grad()
def generated(lm: LanguageModel, texts: list[str]) -> tuple[list[str], Tensor]:
    """Answers, and the states [B, L, d] at each prompt's last token."""
    ids, mask = pad(lm, tokenize(lm, texts))
    ends = end_of_line_ids(lm).tolist()
    run = lm.model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=MAX_TOKENS,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=ends[0],
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    states = torch.stack([hidden[:, -1] for hidden in run.hidden_states[0][1:]], 1)  # [B, L, d]
    written = lm.tokenizer.batch_decode(run.sequences[:, ids.shape[1] :], skip_special_tokens=True)
    return [text.split(TERMINATOR)[0].strip(" ") for text in written], states


if __name__ == "__main__":
    main()
