"""What the models of pip take: to convert, to load, and for a run of chapter 11; and what bfloat16 changes.

Conversion (into a folder that is removed), loading, one cell of the chapter and the chapter with one task and seed run
in a process each, whose largest resident memory, or that of the kernel it starts, is its peak. bfloat16 is held against
float32 on the same prompts, answer by answer. Models that are not installed are left out. Run
`python benchmarks/models_of_pip.py [MODEL …]`; each adds its rows to results/models_of_pip.csv when it is done, after
ten minutes for the largest.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from measure import append, row, timed

from task_vectors.lm.bundled import BUNDLED, VARIABLE
from task_vectors.lm.interventions import continue_greedily
from task_vectors.lm.inventory import inventory
from task_vectors.lm.models import load_model
from task_vectors.prompts.few_shot import few_shot_prompts
from task_vectors.tasks.catalog import get_task

MODELS = tuple(inventory().query("not state.str.startswith('not')").model)
PRECISIONS = ("float32", "bfloat16")
TASKS = ("present_to_gerund", "present_and_gerund", "english_and_french", "singular_and_plural")
N_DEMOS, N_PROMPTS, SHARED = 10, 64, 4
CHILD = """
import json, resource, subprocess, sys, time
from task_vectors.lm.bundled import converted
from task_vectors.lm.models import load_model
from task_vectors.lm.task_vector import evaluate
from task_vectors.tasks.catalog import get_task
what, name, dtype = sys.argv[1:]
start = time.perf_counter()
disk, whose = 0, resource.RUSAGE_SELF
if what == "convert":
    disk = sum(path.stat().st_size for path in converted(name).iterdir()) / 1e9
elif what == "chapter 11":
    values = {"model_name": name, "dtype": dtype, "tasks": "[present_to_gerund]", "seeds": "[0]"}
    values |= {"n_prompts": 8, "n_selection": 8}
    given = [text for key, value in values.items() for text in ("-p", f"{key}={value}")]
    command = [sys.executable, "-c", "import task_vectors.cli; task_vectors.cli.main()", "run", "11_high_rank_failure"]
    subprocess.run([*command, *given], check=True, stdout=subprocess.DEVNULL)
    whose = resource.RUSAGE_CHILDREN
else:
    lm = load_model(name, dtype=dtype)
    if what == "cell of chapter 11":
        evaluate(lm, get_task("present_and_gerund"), 10, [0], n_prompts=32, n_selection=24)
peak = resource.getrusage(whose).ru_maxrss / 1e6 * 1.024  # GB, from kibibytes
print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak, "disk": disk}))
"""


def main(names: Sequence[str] = ()) -> None:
    for name in names or MODELS:
        append("models_of_pip", taken(name) + compare_precisions(name))


def taken(name: str) -> list[dict]:
    """Seconds and peak memory of each kind of work."""
    works = [("convert", "float32"), *((what, p) for what in ("load", "cell of chapter 11") for p in PRECISIONS)]
    return [found for work in [*works, ("chapter 11", "bfloat16")] for found in rows_of(name, *work)]


def rows_of(name: str, what: str, dtype: str) -> list[dict]:
    """Of one kind of work in one precision."""
    found, case = measured_in_a_process(what, name, dtype), f"{name}, {dtype}"
    rows = [row(case, what, "s", [found["seconds"]]), row(case, f"{what}: peak memory", "GB", [found["peak"]])]
    if what == "convert":
        size = 4e-9 * BUNDLED[name].weights if name in BUNDLED else 1.0  # GB in float32
        rows.append(row(case, "convert: peak memory / weights in float32", "ratio", [found["peak"] / size]))
        rows.append(row(case, "disk", "GB", [found["disk"]]))
    return rows


def measured_in_a_process(what: str, name: str, dtype: str) -> dict[str, float]:
    """Seconds, peak and what is written, in GB, of a process that does this and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = {"TASK_VECTORS_RECORDS": folder} | ({VARIABLE: folder} if what == "convert" else {})
        command = [sys.executable, "-c", CHILD, what, name, dtype]
        done = subprocess.run(command, env=os.environ | fresh, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare_precisions(name: str) -> list[dict]:
    """ICL of the same prompts in both precisions, in turn: how many answers differ, and how much faster one is."""
    models, ratios, differ, n = [load_model(name, dtype=dtype) for dtype in PRECISIONS], [], 0, 0
    for task in TASKS:
        prompts = few_shot_prompts(get_task(task), N_DEMOS, N_PROMPTS, 0, queries_per_prefix=SHARED)
        texts = list(prompts.texts)
        runs = [timed(lambda lm=lm: continue_greedily(lm, texts, shared=SHARED).texts) for lm in models]  # noqa: B023
        ratios.append(runs[0][0] / runs[1][0])
        differ += sum(map(str.__ne__, runs[0][1], runs[1][1]))
        n += len(texts)
    case = f"{name}, ICL of {n} prompts"
    return [row(case, "float32 / bfloat16", "ratio", ratios), row(case, "answers that differ", "share", [differ / n])]


if __name__ == "__main__":
    main(sys.argv[1:])
