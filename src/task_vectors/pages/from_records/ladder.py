"""The models that records are asked of, and those that come with pip, from the smallest to the largest."""

from task_vectors.lm.bundled import BUNDLED
from task_vectors.lm.pinned_weights import loaded_model, weights_id

# The precision in which they are recorded: bfloat16 where it was measured to change under 1 % of the answers and to be
# faster with AVX-512.
PRECISIONS = {
    "smollm2-135m": "float32",
    "gemma-3-270m": "float32",
    "qwen2.5-coder-0.5b": "bfloat16",
    "qwen2.5-coder-1.5b": "bfloat16",
}


def on_ladder(model: str) -> dict[str, str]:
    """The parameters that say which weights a record of this model rests on; the model itself is not needed."""
    return model_facts(model, PRECISIONS[model])


def model_facts(name: str, dtype: str) -> dict[str, str]:
    """What a record is asked of a model by; one that comes with pip is neither loaded nor need it be installed."""
    weights = BUNDLED[name].sha256 if name in BUNDLED else weights_id(loaded_model(name, dtype))
    return {"model": name, "weights": weights, "dtype": dtype}
