"""The benchmarks at tiny sizes: that they run, that their rivals compute the same, and that results stay."""

import math
from importlib import import_module

import pandas as pd
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from task_vectors.linear_attention.model import initial_weights
from task_vectors.linear_attention.prompts import get_layout, sample_inputs
from task_vectors.paths import project_root

FOLDER = project_root() / "benchmarks"
STEP = {"BATCH": 20, "SEEDS": 2, "DEMONSTRATIONS": (3,), "LARGE": 64, "ROUNDS": 2}
TINY = {
    "kernels_on_gpu": {
        "DEVICE": "cpu",
        "ATTENTION": ((2, 3, 7, 2),),
        "VOTES": ((30, 2, 8),),
        "SALIENCY": (12, 4, 2, 8),
        "LARGE": 64,
        "MEGABYTES": 1,
        "CALLS": 1,
        "ROUNDS": 2,
    },
    "greedy_answers": {"TASK": "to_upper", "BATCH": 4, "SHARED": 2, "N_DEMOS": 2, "MAX_TOKENS": 3, "ROUNDS": 2},
    "head_saliency": {"HEADS": (40, 4, 2, 8), "QUERIES": (4, 8), "ROUNDS": 2},
    "knn_vote": {"SIZES": ((60, 2),), "WIDTH": 8, "K": 3, "N_CLASSES": 3, "ROUNDS": 2},
    "layer_sweep": {
        "BATCH": 2,
        "N_DEMOS": 2,
        "SWEEPS": {"prompts": ("to_upper", True, 2), "zero-shot prompts": ("to_upper", False, 2)},
        "CAPTURE_TASK": "to_upper",
        "CAPTURE_BATCHES": 2,
        "LARGE": 64,
    },
    "linear_attention_step": STEP,
    "lora_step": {"BATCH": 2, "N_DEMOS": 1, "ROUNDS": 2},
    "models_of_pip": {"TASKS": ("to_upper",), "N_DEMOS": 2, "N_PROMPTS": 4},
    "processor_rates": {"SIZES": {torch.float32: 64, torch.bfloat16: 32}, "MEGABYTES": 1, "ROUNDS": 2},
    "regression_training": {
        "CHANGES": {"n_demos": 3, "n_layers": 1, "width": 8, "n_heads": 2},
        "BATCHES": (3,),
        "LARGE": 64,
        "ROUNDS": 2,
    },
    "saliency": {"TOKENS": (12,), "ROUNDS": 2},
}
COLUMNS = ["case", "name", "unit", "median", "low", "high", "lower", "upper", "rounds", "threads", "date", "commit"]


@pytest.fixture
def benchmark(monkeypatch, tmp_path, folder):
    """A benchmark at tiny sizes, with a model that is made here and results that are written elsewhere."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(import_module("measure"), "RESULTS", tmp_path)

    def load(name):
        if name == "knn_vote":
            pytest.importorskip("faiss", reason="benchmarks/requirements.txt is not installed")
        module = import_module(name)
        for constant, value in TINY[name].items():
            monkeypatch.setattr(module, constant, value)
        if hasattr(module, "MODEL"):
            monkeypatch.setattr(module, "MODEL", str(folder))
        if hasattr(module, "MODELS"):
            monkeypatch.setattr(module, "MODELS", (str(folder),))
        return module

    return load


def test_every_benchmark_is_tried_here():
    assert {path.stem for path in FOLDER.glob("*.py")} - {
        "measure",
        "ways_of_training",
        "ways_of_regression",
    } == TINY.keys()


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_prints_and_keeps_its_rows(name, benchmark, monkeypatch, tmp_path, capsys):
    module = benchmark(name)
    # A process takes seconds to start; the last test starts one.
    monkeypatch.setattr(module, "peak_of_a_process", lambda form, tokens: 2.0 * len(form), raising=False)
    in_a_process = lambda *_: {"seconds": 1.0, "peak": 2.0, "disk": 3.0}  # noqa: E731
    monkeypatch.setattr(module, "measured_in_a_process", in_a_process, raising=False)
    module.main()
    table = pd.read_csv(tmp_path / f"{name}.csv")
    assert list(table.columns)[: len(COLUMNS)] == COLUMNS
    assert {"python", "torch", "scikit-learn", "instructions", "wait policy"} <= set(table.columns)
    assert not table.drop(columns=["lower", "upper"]).isna().any(axis=None)  # so few rounds give no interval
    assert not table.duplicated(["case", "name", "threads"]).any()
    assert ((table.low <= table["median"]) & (table["median"] <= table.high)).all()
    assert (table.loc[table.unit.isin(["s", "ms", "ratio", "GFLOP/s", "GB/s"]), "low"] > 0).all()
    printed = capsys.readouterr().out
    assert all(row.name in printed and row.case in printed for row in table.itertuples(index=False))


def test_a_second_run_leaves_the_first_as_it_is(benchmark, tmp_path):
    rates = benchmark("processor_rates")
    rates.main()
    first = (tmp_path / "processor_rates.csv").read_text()
    rates.main()
    both = (tmp_path / "processor_rates.csv").read_text()
    assert both.startswith(first)
    assert len(both.splitlines()) == 2 * len(first.splitlines()) - 1


def test_a_run_with_another_package_keeps_the_columns_of_older_ones(benchmark, tmp_path):
    (tmp_path / "processor_rates.csv").write_text("case,name,median,julia\nold,copy,0.10,1.12\n")
    benchmark("processor_rates").main()
    table = pd.read_csv(tmp_path / "processor_rates.csv", dtype=str)
    assert table.loc[0, ["case", "name", "median", "julia"]].tolist() == ["old", "copy", "0.10", "1.12"]
    assert len(table) > 1


@pytest.mark.usefixtures("benchmark")
def test_a_row_is_the_median_and_its_range():
    found = import_module("measure").row("case", "name", "s", [10, 0, 5, 3, 1, 2, 4, 6, 7, 8, 9])
    assert (found["low"], found["median"], found["high"]) == (2, 5, 8)
    assert found["rounds"] == 11


@pytest.mark.usefixtures("benchmark")
@pytest.mark.parametrize("n", [5, 6, 7, 9, 12, 20])
def test_the_interval_of_a_median_is_as_narrow_as_it_may_be(n):
    """Counted over all 2^n ways in which values lie below or above the median, each as likely."""
    interval = import_module("measure").median_interval(pd.Series(range(n)))
    below = [sum(math.comb(n, k) for k in range(rank)) / 2**n for rank in (1, 2, 3, 4, 5, 6)]  # fewer than `rank`
    ranks = [rank for rank, chance in enumerate(below, 1) if 2 * chance <= 0.05]
    assert interval == pytest.approx((ranks[-1] - 1, n - ranks[-1]) if ranks else (math.nan,) * 2, nan_ok=True)


@pytest.mark.usefixtures("benchmark")
def test_without_a_gpu_its_benchmark_says_so_and_adds_nothing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    import_module("kernels_on_gpu").main()
    assert "needs a GPU" in capsys.readouterr().out
    assert not (tmp_path / "kernels_on_gpu.csv").exists()


def test_both_forms_that_a_gpu_times_are_near_float64(benchmark, tmp_path):
    benchmark("kernels_on_gpu").main()
    table = pd.read_csv(tmp_path / "kernels_on_gpu.csv")
    differences = table.loc[table.unit == "of the largest entry", "high"]
    assert len(differences) == 2 * 4
    assert (differences < 1e-5).all()


@pytest.mark.parametrize("layer", ["script_layer", "tight_layer"])
def test_a_rival_takes_a_step_on_the_same_function(layer, benchmark):
    step, n = benchmark("linear_attention_step"), 3
    weights = initial_weights(get_layout("triplets"), step.LAYERS, n, [0], std=0.5, dtype=torch.float64)
    weights = weights.map(lambda tensor: tensor.requires_grad_())
    X = sample_inputs(20, n, step.D, torch.Generator().manual_seed(0), torch.float64)
    tasks = torch.eye(step.D, dtype=torch.float64).expand(20, -1, -1)  # ours is the risk at W = I, summed over outputs
    theirs = step.D * step.score_building_loss(weights, X, tasks, getattr(step, layer))
    ours = step.risk(weights, X, torch.tensor(1.0)).sum()
    torch.testing.assert_close(theirs, ours)
    tensors = tuple(weights.tensors().values())
    torch.testing.assert_close(torch.autograd.grad(theirs, tensors), torch.autograd.grad(ours, tensors))


@pytest.mark.parametrize("n", [10, 30])
def test_the_floor_of_a_step_counts_no_product_that_the_step_does_without(n, benchmark):
    step = benchmark("linear_attention_step")
    with FlopCounterMode(display=False) as done:
        step.steppers(n)["ours"]()
    operations = step.products(n)[1]
    assert 0.75 * done.get_total_flops() < operations <= done.get_total_flops()


def test_transformers_trains_as_ours_does_where_the_function_is_the_same(benchmark):
    """Forward, backward, clipping and update, over five steps in float32."""
    steps = benchmark("regression_training").steppers(20)
    losses = {name: [step() for _ in range(5)] for name, step in steps.items()}
    assert len(set(losses["ours"])) == 5
    assert losses["transformers, exact GELU"] == pytest.approx(losses["ours"], rel=1e-5)
    assert losses["transformers"] == pytest.approx(losses["ours"], rel=1e-2)


def test_operations_of_regression_training_are_its_products_but_for_attention(benchmark, monkeypatch):
    training = benchmark("regression_training")
    monkeypatch.setattr(training, "CHANGES", {})
    with FlopCounterMode(display=False) as done:
        training.steppers(8)["ours"]()
    by_kind = done.get_flop_counts()["Global"]
    assert training.operations(8) == by_kind[torch.ops.aten.mm] + by_kind[torch.ops.aten.addmm]
    assert training.operations(8) > 0.9 * done.get_total_flops()


@pytest.mark.parametrize("rival", ["one_cached_step_per_layer", "one_forward_per_layer"])
@torch.no_grad()
def test_the_rivals_of_a_sweep_compute_the_same(rival, benchmark, tiny):
    sweep, texts = benchmark("layer_sweep"), ["Example:a → b\nExample:cat →", "Example:ox →"]
    vectors = torch.randn(2, tiny.n_layers, tiny.d_model, generator=torch.Generator().manual_seed(0))
    found = getattr(sweep, rival)(tiny, texts, vectors)
    torch.testing.assert_close(found, sweep.layer_sweep(tiny, texts, vectors), rtol=1e-3, atol=1e-4)


def test_generate_gives_the_same_answers_and_states(benchmark, tiny_llama):
    greedy = benchmark("greedy_answers")
    texts = ["Example:a → b\nExample:cat →", "Example:a → b\nExample:ox →"]
    found = greedy.continue_greedily(tiny_llama, texts, shared=2, max_tokens=greedy.MAX_TOKENS)
    answers, states = greedy.generated(tiny_llama, texts)
    assert answers == found.texts
    torch.testing.assert_close(states[:, :-1], found.states[:, :-1])  # the last ones have gone through the norm


def test_faiss_gives_the_same_votes(benchmark):
    votes, generator = benchmark("knn_vote"), torch.Generator().manual_seed(0)
    states, labels = torch.randn(90, 2, 12, generator=generator), torch.randint(3, (90,), generator=generator)
    assert torch.equal(votes.by_faiss(states, labels), votes.ours(states, labels))
    states[7:10] = states[3]  # a state's own may then be none of the first
    assert votes.by_faiss(states, labels).shape == (90, 2)


def test_the_rival_of_saliency_computes_the_same(benchmark, tiny_llama):
    saliency = benchmark("saliency")
    text, target = saliency.prompt(tiny_llama, 12)
    found, expected = (form(tiny_llama, text, target) for form in (saliency.ours, saliency.eager))
    assert found.shape == (tiny_llama.n_layers, 12, 12)
    torch.testing.assert_close(found, expected)


def test_the_passes_of_a_lora_step_have_its_loss_and_need_no_gradient_below_or_of_a_weight(benchmark, tiny_llama):
    lora, model = benchmark("lora_step"), tiny_llama.model
    tuning = lora.tuning_of(tiny_llama, "middle")
    assert [lora.tuning_of(tiny_llama, third).layers for third in lora.THIRDS] == [(0,), (1,), (2,)]
    batch = lora.batch_of(tiny_llama, tuning, 0)
    with lora.adapted(tiny_llama, tuning, training=True) as parameters:
        optimizer = torch.optim.AdamW(parameters.values())
        expected = lora.training_step(tiny_llama, tuning, optimizer, 0, batch)
    needs, reached = {}, set()

    def watch(layer):
        def hook(_module, args, _output):
            needs[layer] = args[0].requires_grad
            if args[0].requires_grad:
                args[0].register_hook(lambda _: reached.add(layer))

        return hook

    handles = [module.register_forward_hook(watch(layer)) for layer, module in enumerate(tiny_llama.layers)]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    try:
        assert lora.passes(tiny_llama, 1, batch) == pytest.approx(expected, rel=1e-6)
        assert needs == {0: False, 1: True, 2: True}
        assert reached == {1, 2}
        assert all(parameter.grad is None for parameter in model.parameters())
    finally:
        for handle in handles:
            handle.remove()
        for parameter, flag in zip(model.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)


@pytest.mark.slow
def test_a_process_of_its_own_sees_the_weights_that_eager_attention_keeps(benchmark, tiny_llama):
    """Every A and its gradient, in float32."""
    heads, tokens = tiny_llama.model.config.num_attention_heads, 300
    kept = 2 * 4 * tiny_llama.n_layers * heads * tokens**2 / 1e6
    assert benchmark("saliency").peak_of_a_process("eager", tokens) > kept
