"""A training that is stopped, killed or finished goes on, and its adapter comes back, to the bit."""

from dataclasses import replace

import peft
import pytest
import torch
from killed import kill_at_a_random_moment, start, stopped_at_file
from safetensors.torch import load_file
from tiny_models import tiny_model
from tunings import EVERY, FAMILY, TUNING, assert_same_run, logits, same, scrambled

from task_vectors import checkpoints
from task_vectors.checkpoints import CheckpointError, write_tensors
from task_vectors.lm import finetuning
from task_vectors.lm.finetuning import (
    ADAPTER,
    load_adapter,
    target_modules,
    train,
    tuned,
)
from task_vectors.lm.models import LanguageModel
from task_vectors.tasks.families.bitwise import bitwise_arithmetic


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


@pytest.mark.parametrize("stops", [(4,), (6,), (3, 9)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(stops, tiny_llama, tmp_path):
    whole, losses, _ = train(tiny_llama, FAMILY, TUNING, tmp_path / "whole", EVERY)
    for stop in stops:
        _, part, _ = train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY, stop)
        assert torch.equal(part, losses[:stop])
        assert not (tmp_path / "parts" / finetuning.ADAPTER).exists()
    found, both, _ = train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY)
    assert torch.equal(both, losses)
    assert same(found.weights, whole.weights)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    without_folder, _, _ = train(tiny_llama, FAMILY, TUNING)
    assert same(without_folder.weights, whole.weights)


@pytest.mark.parametrize("moment", range(6))
def test_a_run_that_ends_while_a_file_is_put_in_place_goes_on(moment, tiny_llama, tmp_path, monkeypatch):
    """Checkpoints after 4, 8 and 12 steps, the last two beside the one before, and the adapter."""
    train(tiny_llama, FAMILY, TUNING, tmp_path / "whole", EVERY)
    with stopped_at_file(moment, monkeypatch):
        train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY)
    assert not (tmp_path / "parts" / finetuning.ADAPTER).exists()
    train(tiny_llama, FAMILY, TUNING, tmp_path / "parts", EVERY)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


LONG = replace(TUNING, steps=300)
PROCESS = f"""
import sys
from pathlib import Path
import torch
from tiny_models import tiny_model
from task_vectors.lm.finetuning import Tuning, train
from task_vectors.tasks.families.bitwise import bitwise_arithmetic

torch.set_num_threads(1)
train(tiny_model("llama"), {FAMILY!r}, {LONG!r}, Path(sys.argv[1]), {EVERY})
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_moment_ends_with_the_same_adapter(tmp_path):
    for _ in range(2):
        kill_at_a_random_moment(PROCESS, tmp_path / "killed")
    assert not (tmp_path / "killed" / finetuning.ADAPTER).exists()
    for name in ("killed", "whole"):
        assert start(PROCESS, tmp_path / name).wait() == 0
    assert len(load_file(tmp_path / "whole" / checkpoints.CHECKPOINT)["losses"]) == LONG.steps
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_finished_run_is_read_and_not_trained_again(tiny_llama, folder, monkeypatch):
    adapter, losses, seconds = train(tiny_llama, FAMILY, TUNING, folder, EVERY)
    monkeypatch.setattr(finetuning, "answer_loss", None)
    monkeypatch.setattr(finetuning, "training_prompts", None)
    again, same_losses, more = train(tiny_llama, FAMILY, TUNING, folder, EVERY)
    assert same(again.weights, adapter.weights)
    assert torch.equal(same_losses, losses)
    assert more == pytest.approx(seconds, abs=1)


def test_a_folder_of_another_run_is_refused_in_one_line(tiny_llama, folder, monkeypatch):
    train(tiny_llama, FAMILY, TUNING, folder, EVERY, stop=4)
    monkeypatch.setattr(tiny_llama.model, "forward", None)
    for lm, family, tuning in (
        (tiny_llama, FAMILY, replace(TUNING, seed=4)),
        (tiny_llama, FAMILY, replace(TUNING, layers=(0,))),
        (tiny_llama, bitwise_arithmetic(digits=2), TUNING),
        (LanguageModel("another", tiny_llama.model, tiny_llama.tokenizer), FAMILY, TUNING),
    ):
        with pytest.raises(ValueError, match="belongs to another training: name another folder") as caught:
            train(lm, family, tuning, folder, EVERY)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_a_saved_adapter_is_loaded_as_it_was(targets, tiny_llama, folder):
    tuning = replace(TUNING, targets=targets, rate=0.05)
    adapter, _, _ = train(tiny_llama, FAMILY, tuning, folder, EVERY)
    loaded = load_adapter(folder)
    assert loaded.tuning == tuning
    assert same(loaded.weights, adapter.weights)
    assert {weight.dtype for weight in loaded.weights.values()} == {torch.float32}
    found = []
    for source in (folder, str(folder), adapter):
        with tuned(tiny_llama, source):
            found.append(logits(tiny_llama))
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[2])
    assert not torch.allclose(found[0], logits(tiny_llama), atol=1e-3)


def test_peft_itself_reads_a_saved_adapter(tiny_llama, folder):
    train(tiny_llama, FAMILY, replace(TUNING, rate=0.05), folder, EVERY)
    with tuned(tiny_llama, folder):
        expected = logits(tiny_llama)
    peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=target_modules(tiny_llama, TUNING), task_type="CAUSAL_LM"
    ).save_pretrained(folder)
    model = peft.PeftModel.from_pretrained(tiny_model("llama").model, folder).eval()
    # A batch's rows may be summed in another order by the second model, whose memory lies elsewhere.
    found = logits(LanguageModel("by peft", model, tiny_llama.tokenizer))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_another_model_or_none_is_refused(tiny_llama, folder):
    adapter = scrambled(tiny_llama, TUNING)
    with pytest.raises(ValueError, match="belongs to another model or tuning"), tuned(tiny_model("gpt2"), adapter):
        pass
    with (
        pytest.raises(ValueError, match="belongs to another model or tuning"),
        tuned(tiny_llama, adapter._replace(tuning=replace(TUNING, rank=3))),
    ):
        pass
    with pytest.raises(FileNotFoundError, match="has not come to its end"):
        load_adapter(folder)
    with (
        tuned(tiny_llama, adapter),
        pytest.raises(ValueError, match="tiny llama has an adapter already"),
        tuned(tiny_llama, adapter),
    ):
        pass
    assert not hasattr(tiny_llama.model, "peft_config")


@pytest.mark.parametrize("run", ["", "{}", "[]", "[1]", '[{"colour": 1}]', "not JSON"])
def test_a_header_that_tells_no_tuning_is_refused_in_one_line(tmp_path, run):
    write_tensors(tmp_path / ADAPTER, {"a": torch.ones(2)}, run)
    with pytest.raises(CheckpointError, match="is not an adapter") as caught:
        load_adapter(tmp_path)
    assert "\n" not in str(caught.value)
