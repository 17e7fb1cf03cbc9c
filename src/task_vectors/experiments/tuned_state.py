"""What fine-tuning does to a task vector, and how much of its gain goes through the state that vectors are made of.

A vector is the state of a few-shot prompt at the token before its answer. It is put into a prompt of another query
that has no demonstrations (Hendel et al. 2023), from the model before and after fine-tuning, into either. And the tuned
model's states at that token are put into the untuned model's run of the same few-shot prompts: whatever fine-tuning
changed in other tokens' states is then undone above that layer, and only this one state carries the change.
"""

from collections.abc import Mapping

from torch import Tensor

from task_vectors.experiments.band_tuning import BAND_TUNING, kept_adapter
from task_vectors.lm.finetuning import tuned
from task_vectors.lm.interventions import SweepScores, capture, layer_sweep
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.pinned_weights import checked_model
from task_vectors.lm.scoring import score
from task_vectors.lm.tokens import up_to_answer
from task_vectors.prompts.families import family_prompts
from task_vectors.records.store import Comparison, Experiment, Record, recorded
from task_vectors.tasks.families.catalog import family_file, get_family

CHECK_PROMPTS = 2
Texts = tuple[list[str], list[str]]  # prompts and their answers


def run(*, trained: dict, n_prompts: int) -> dict[str, object]:
    """`trained`: the parameters of a record of band_tuning that keeps its adapter; n_prompts of each task but Null.

    Tensors "log_prob" and "right" (bool), for B = n_prompts · tasks prompts, task after task, by what was run: "alone,
    before" [B], without a vector; "few-shot, before" [B]; the same "after"; "before in after" [B, L], the vector of the
    untuned model in the tuned one at each layer, and so on for all four; "through" [B, L], the tuned model's states in
    the untuned model's few-shot run.
    """
    lm, adapter = _model(trained), kept_adapter(recorded(BAND_TUNING, **trained))
    sources, alone, few_shot = _prompts(lm, trained, n_prompts)
    vectors = {"before": capture(lm, sources)}  # [B, L, d]
    found = {"alone, before": score(lm, *alone), "few-shot, before": score(lm, *few_shot)}
    with tuned(lm, adapter):
        vectors["after"] = capture(lm, sources)
        found |= {"alone, after": score(lm, *alone), "few-shot, after": score(lm, *few_shot)}
        swept = {f"{which} in after": _sweep(lm, alone, states) for which, states in vectors.items()}
    swept |= {f"{which} in before": _sweep(lm, alone, states) for which, states in vectors.items()}
    swept["through"] = _sweep(lm, few_shot, found["few-shot, after"].states)
    return {
        "log_prob": {name: scores.log_prob for name, scores in (found | swept).items()},
        "right": {name: scores.right for name, scores in found.items()}
        | {name: scores.exact for name, scores in swept.items()},
    }


def verify(record: Record) -> list[Comparison]:
    """The first prompts, few-shot and with the tuned model's vectors, in the tuned model and in the untuned one."""
    trained, before = record.parameters["trained"], record.tensors("log_prob")
    lm, adapter = _model(trained), kept_adapter(recorded(BAND_TUNING, **trained))
    sources, *asked = _prompts(lm, trained, record.parameters["n_prompts"])
    sources = sources[:CHECK_PROMPTS]
    alone, few_shot = (tuple(part[:CHECK_PROMPTS] for part in texts) for texts in asked)
    with tuned(lm, adapter):
        after = score(lm, *few_shot)
        vectors = capture(lm, sources)
        again = {"few-shot, after": after, "after in after": _sweep(lm, alone, vectors)}
    again |= {"after in before": _sweep(lm, alone, vectors), "through": _sweep(lm, few_shot, after.states)}
    near = 1e-3 if trained["dtype"] == "float32" else 2e-2  # processors round half precision at different places
    return [
        Comparison(
            f"log-probability of the answers, {name}",
            before[name][:CHECK_PROMPTS].mean().item(),
            scores.log_prob.mean().item(),
            near,
        )
        for name, scores in again.items()
    ]


def rests_on(parameters: Mapping[str, object]) -> list[str]:
    """The module of the family, and the record of the adapter."""
    return [family_file(parameters["trained"]["family"])]


def _model(trained: dict) -> LanguageModel:
    return checked_model(trained["model"], trained["weights"], trained["dtype"])


def _prompts(lm: LanguageModel, trained: dict, n_prompts: int) -> tuple[list[str], Texts, Texts]:
    """Few-shot texts that vectors come from; prompts without and with demonstrations, of other queries than these."""
    family, n_demos = get_family(trained["family"], trained["options"]), trained["tuning"]["n_demos"]
    sources, alone, few_shot = (
        up_to_answer(lm, family_prompts(family, shots, n_prompts, trained["seed"], pool=pool))
        for shots, pool in ((n_demos, "selection"), (0, "test"), (n_demos, "test"))
    )
    kept = slice(-n_prompts)  # Null is the last
    return list(sources.texts[kept]), *((list(p.texts[kept]), list(p.completions[kept])) for p in (alone, few_shot))


def _sweep(lm: LanguageModel, prompts: Texts, vectors: Tensor) -> SweepScores:
    texts, answers = prompts
    return layer_sweep(lm, texts, vectors, answers)


TUNED_STATE = Experiment("tuned_state", 1, run, verify, rests_on)
