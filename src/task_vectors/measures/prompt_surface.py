"""What the surface of a prompt tells of its task: the level that decodability of states must be compared with.

Nothing here looks at what an answer has to do with its input. The operators of bitwise arithmetic differ in how many
ones their answers hold (AND and NOR a quarter, OR and NAND three, the others half); the tags of a sentence in where
their words stand.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from task_vectors.kernels.knn_vote import knn_vote
from task_vectors.prompts.families import FamilyPrompts
from task_vectors.tasks.families.family import words

FOLDS = 5
NGRAMS = (2, 4)  # characters


def surface_features(family: str, prompts: FamilyPrompts) -> Tensor:
    """[N, features] of prompts with at least one demonstration.

    bitwise: the number of ones in each demonstration's answer. pos: the place of each demonstration's answer in its
    sentence and the sentence's length, and the length of the query. In ascending order over demonstrations, whose own
    order says nothing.
    """
    if family == "bitwise":
        counts = [[y.count("1") for _, y in demos] for demos in prompts.demos]
        return torch.tensor(counts, dtype=torch.float32).sort(1).values  # [N, n_demos]
    rows = []
    for query, demos in zip(prompts.queries, prompts.demos, strict=True):
        places = sorted(words(x).index(y) for x, y in demos)
        lengths = sorted(len(words(x)) for x, _ in demos)
        rows.append([*places, *lengths, len(words(query))])
    return torch.tensor(rows, dtype=torch.float32)  # [N, 2 n_demos + 1]


def answer_ngrams(prompts: FamilyPrompts) -> Tensor:
    """[N, n-grams] how often each of 2 to 4 characters in a row stands in the demonstrations' answers of a prompt.

    A space begins and ends each word, so that suffixes are told from what stands within; no n-gram goes across words.
    """
    answers = [" ".join(y for _, y in demos) for demos in prompts.demos]
    counts = CountVectorizer(analyzer="char_wb", lowercase=False, ngram_range=NGRAMS).fit_transform(answers)
    return torch.from_numpy(counts.toarray()).float()


def surface_votes(features: Tensor, labels: Tensor, groups: Tensor) -> dict[str, Tensor]:
    """The task that features [N, f] name, [N] each: by the "neighbors" that decodability asks, and by a "classifier".

    The classifier is a logistic regression, fitted on other groups than those it is asked about.
    """
    fitted = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    named = cross_val_predict(fitted, features, labels, groups=groups, cv=GroupKFold(FOLDS))
    return {"neighbors": knn_vote(features, labels, groups=groups), "classifier": torch.from_numpy(named)}


def constant_accuracy(answers: Sequence[str]) -> float:
    """What a model would have that always gives the most frequent of these answers."""
    return Counter(answers).most_common(1)[0][1] / len(answers)


def told_by_first_symbol(answers: Sequence[Sequence[str]]) -> float:
    """How often, at best, the task is named by one who knows the answer's first symbol alone; answers of each task."""
    counts = [Counter(answer[0] for answer in of_task) for of_task in answers]
    symbols = set().union(*counts)
    return sum(max(count[symbol] for count in counts) for symbol in symbols) / sum(map(len, answers))


def surface_level(family: str, prompts: FamilyPrompts) -> float:
    """How often the surface names the task, by the better of surface_votes; Null, the last task, is not asked."""
    votes, asked = surface_votes(surface_features(family, prompts), prompts.labels, prompts.groups), prompts.labels
    return max((named == asked)[asked < asked.max()].float().mean().item() for named in votes.values())
