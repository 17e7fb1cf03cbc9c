"""What the first chapter shows of its records (experiment first_look), one for each task and wording."""

from collections.abc import Sequence

import pandas as pd

from task_vectors.lm.models import LanguageModel
from task_vectors.measures.statistics import Estimate, clustered_mean
from task_vectors.pages.names import readable
from task_vectors.records.store import Record

PANELS = {"right": "exact answer", "word": "beginning"}  # how an answer is judged
SWEPT = {"right": "exact", "word": "first_token"}  # the sweep's score for it


def by_shots(records: Sequence[Record]) -> pd.DataFrame:
    """ICL accuracy by number of demonstrations: task, demonstrations, mean, low, high."""
    rows = [
        {"task": readable(record.parameters["task"]), "demonstrations": n, **_accuracy(prompts, "right")._asdict()}
        for record in records
        for n, prompts in record.table("shots").groupby("n_demos")
    ]
    return pd.DataFrame(rows).drop(columns="freedom")


def by_layer(records: Sequence[Record]) -> pd.DataFrame:
    """Accuracy of the vector put in after each layer, on the prompts that choose it: task, layer, measure, accuracy.

    test: at the chosen layer, accuracy on the other prompts; nan elsewhere.
    """
    rows = []
    for record in records:
        chosen, answers, sweep = layers(record), record.table("answers"), record.tensors("selection")
        for rule, measure in PANELS.items():
            for layer, accuracy in enumerate(sweep[SWEPT[rule]].float().mean(0).tolist()):
                test = answers[f"vector_{rule}"].mean() if layer == chosen[rule] else float("nan")
                where = {"task": readable(record.parameters["task"]), "layer": layer, "measure": measure}
                rows.append(where | {"accuracy": accuracy, "test": test})
    return pd.DataFrame(rows)


def compared(records: Sequence[Record]) -> pd.DataFrame:
    """The same test queries alone, from the full prompt and through one vector, by wording and task."""
    rows = []
    for record in records:
        answers = record.table("answers")
        rows.append(
            {
                "Wording": record.parameters["template"],
                "Task": readable(record.parameters["task"]),
                "No demonstrations": format(answers.zero_right.mean(), ".2f"),
                "ICL": str(_accuracy(answers, "icl_right")),
                "Task vector": str(_accuracy(answers, "vector_right")),
                "Task vector, first word": str(_accuracy(answers, "vector_word")),
                "Layer": layers(record)["right"],
            }
        )
    return pd.DataFrame(rows).set_index(["Wording", "Task"])


def gain(record: Record) -> float:
    """What the vector adds to the accuracy of prompts without demonstrations."""
    answers = record.table("answers")
    return answers.vector_right.mean() - answers.zero_right.mean()


def answer_tokens_by_layer(records: Sequence[Record]) -> pd.DataFrame:
    """Share of the lens's tokens that begin an answer of the task: task, layer, share; chosen, at the chosen layer."""
    rows = []
    for record in records:
        shares = record.table("lens").groupby("layer").answer.mean()
        at = layers(record)["right"]
        for layer, share in shares.items():
            ring = share if layer == at else float("nan")
            rows.append({"task": readable(record.parameters["task"]), "layer": layer, "share": share, "chosen": ring})
    return pd.DataFrame(rows)


def leaning(lm: LanguageModel, records: Sequence[Record], shown: int = 6) -> pd.DataFrame:
    """The lens's first tokens, in words, at the chosen layer, two layers later and at the last one."""
    rows = []
    for record in records:
        at, last, tokens = layers(record)["right"], lm.n_layers - 1, record.table("lens")
        for place, layer in (("chosen", at), ("two later", min(at + 2, last)), ("last", last)):
            words = [printable(lm, token) for token in tokens[tokens.layer == layer].token[:shown]]
            task = readable(record.parameters["task"])
            rows.append({"Task": task, "Layer": f"{layer} ({place})", "It leans towards": " · ".join(words)})
    return pd.DataFrame(rows).set_index(["Task", "Layer"])


def printable(lm: LanguageModel, token: int) -> str:
    """A token's text; the repr of its name in the vocabulary, where that is blank, invisible or a part of a letter."""
    text = lm.tokenizer.decode([token]).strip()
    whole = text and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text
    return text if whole else repr(lm.tokenizer.convert_ids_to_tokens(token))


def layers(record: Record) -> dict[str, int]:
    """The layer that was chosen for each way to judge an answer."""
    return record.table("layers").set_index("rule").layer.to_dict()


def _accuracy(prompts: pd.DataFrame, column: str) -> Estimate:
    return clustered_mean(prompts[column], prompts.prefix, prompts.group)
