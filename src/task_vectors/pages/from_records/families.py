"""The two task families that several chapters ask about, and what a record of td_of_families says of each prompt."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from task_vectors.records.store import Record

TITLES = {"bitwise": "bitwise arithmetic", "pos": "tagging"}
LONG_NAMES = {"bitwise": "bitwise_arithmetic", "pos": "pos_tagging"}  # in data/published


class Outcomes(NamedTuple):
    """What holds of each prompt, by task and group; Null is the last of the K tasks."""

    named: np.ndarray  # [K, B, L] of bool: do the nearest neighbors of its state name its task?
    right: np.ndarray  # [K, B] of bool: does the model answer it right?


def family_facts(digits: int, treebank: str = "") -> dict[str, dict]:
    """What a record is asked for each family by name: "family", "options", and "source", the treebank's sha256.

    digits: of a number in bitwise arithmetic. treebank: a CoNLL-U file in place of the book's grammar, or "".
    """
    conllu, source = ({"conllu": treebank}, _sha256(treebank)) if treebank else ({}, "")
    return {
        "bitwise": {"family": "bitwise", "options": {"digits": digits}, "source": ""},
        "pos": {"family": "pos", "options": conllu, "source": source},
    }


def outcomes(record: Record, kind: str = "euclidean") -> Outcomes:
    """Outcomes of a record of td_of_families; kind: how the neighbors are found (see its `votes`)."""
    prompts, votes = record.table("prompts"), record.tensors("votes")[kind].numpy()  # [N, L]
    labels = prompts["class"].to_numpy()
    shape = labels.max() + 1, -1
    return Outcomes((votes == labels[:, None]).reshape(*shape, votes.shape[1]), prompts.right.to_numpy().reshape(shape))


def td_by_layer(record: Record) -> np.ndarray:
    """Task Decodability after each layer, mean over the tasks without Null: [L]."""
    return outcomes(record).named[:-1].mean((0, 1))


def td_profiles(records: Mapping[tuple, Record], names: Sequence[str]) -> pd.DataFrame:
    """td_by_layer of each record: the columns `names`, which hold its key, "layer" from 1, and "td"."""
    rows = [(*key, i, td) for key, record in records.items() for i, td in enumerate(td_by_layer(record), start=1)]
    return pd.DataFrame(rows, columns=[*names, "layer", "td"])


def _sha256(path: str) -> str:
    """ "" where there is no such file: whoever opens it says so in a better place."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).is_file() else ""
