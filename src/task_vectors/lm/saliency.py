"""Attention saliency of a prompt: which attention weights the loss of its answer hangs on.

The Hugging Face model runs as it is, through an attention function of its own name that calls its usual sdpa attention
and watches the gradient of the output. Layers are checkpointed: the forward pass keeps only their inputs, and the
backward pass runs one layer again, takes its saliency from queries, keys, values and gradient, and lets go of all.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from task_vectors.kernels.saliency import head_saliency
from task_vectors.kernels.saliency.reference import attention_weights
from task_vectors.lm.models import LanguageModel
from task_vectors.lm.tokens import Tokens, check_context, tokenized

ATTENTION = "task_vectors_saliency"
UNSEEN = -1.0  # saliency is never negative


def attention_saliency(lm: LanguageModel, text: str, target: str) -> Tensor:
    """`Σ_heads |A ∘ ∂loss/∂A|` of every layer: [L, T, T] as [layer, query, key], float32, on the model's device.

    The loss is -log p(target | text) in nats, summed over the target's tokens (Dong et al. 2026, after Wang et al.
    2023). T counts the tokens that the model reads: all of the text, special tokens included, then all of the target
    but the last. With a target of one token that is the text alone.

    Args:
        text: a prompt that ends at the arrow.
        target: what follows it (" cats"), as in `Prompts.completions`.

    Raises:
        ValueError: text or target is empty, the target's tokens do not continue the text's, or the model's context is
            too short.
        NotImplementedError: the model's attention cannot be watched (Falcon and GPT-J have their own, Mamba
            has none).
    """
    if not text or not target:
        raise ValueError(f"neither text nor target may be empty; got {text[-30:]!r} and {target!r}")
    [prompt], [answer] = tokenized(lm, [text], [target])
    read = prompt + answer[:-1]
    check_context(lm, Tokens([prompt], [answer[:-1]]))
    _check_watched(lm, lm.model._supports_attention_backend)
    ids = torch.tensor([read], device=lm.device)  # [1, T]
    saliency = torch.full((lm.n_layers, len(read), len(read)), UNSEEN, device=lm.device)  # [L, T, T]
    with torch.enable_grad(), _watched(lm):
        # Gradients go no further than to the embeddings: no weight's is computed.
        states = lm.model.get_input_embeddings()(ids).detach().requires_grad_()  # [1, T, d]
        logits = lm.model(
            inputs_embeds=states,
            attention_mask=torch.ones_like(ids),
            use_cache=False,
            logits_to_keep=len(answer),
            # transformers hands it on to `_attend`, and accelerate moves no function from device to device.
            saliency=saliency.__getitem__,
        ).logits[0]  # [answer, V]
        loss = nn.functional.cross_entropy(logits.float(), torch.tensor(answer, device=lm.device), reduction="sum")
        torch.autograd.grad(loss, states)
    _check_watched(lm, not (saliency[:, 0, 0] == UNSEEN).any())
    return saliency


def _check_watched(lm: LanguageModel, seen: bool) -> None:
    if not seen:
        raise NotImplementedError(
            f"the attention of {lm.name} ({lm.model.config.model_type}) cannot be watched: "
            "it does not go through transformers' AttentionInterface"
        )


@contextmanager
def _watched(lm: LanguageModel) -> Iterator[None]:
    """While inside, attention is `_attend`, and every layer keeps its input only and runs again for its gradient."""
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    config = lm.model.config.get_text_config()
    attention, own = config._attn_implementation, [vars(layer).get("forward") for layer in lm.layers]
    try:
        config._attn_implementation = ATTENTION
        for layer in lm.layers:
            layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
        yield
    finally:
        config._attn_implementation = attention
        for layer, forward in zip(lm.layers, own, strict=True):
            vars(layer).pop("forward", None)  # its class's again
            if forward is not None:  # which it had of its own, as where accelerate spreads a model over devices
                layer.forward = forward


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    saliency: Callable[[int], Tensor],
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Output [1, T, H, e] of attention from query [1, H, T, d], key [1, G, T, d], value [1, G, T, e].

    The backward pass writes saliency(l) [T, T], l the layer. attention_mask: [1, 1, T, T], True where a query may look;
    None: at itself and all tokens before it.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = None if attention_mask is None else attention_mask[:, 0]  # [1, T, T]
    if softcap is None:
        out, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scale, **kwargs)
    else:  # which sdpa does not know
        weights = attention_weights(query, key, scale=scale, mask=mask, softcap=softcap)  # [1, H, T, T]
        out = (weights @ value.repeat_interleave(query.shape[1] // value.shape[1], 1)).transpose(1, 2)
    return _Watch.apply(out, query, key, value, mask, scale, softcap, saliency(module.layer_idx)), None


class _Watch(torch.autograd.Function):
    """Attention's output as it is; where its gradient comes by, the layer's saliency is written."""

    @staticmethod
    def forward(ctx, out, query, key, value, mask, scale, softcap, saliency):
        ctx.save_for_backward(query, key, value, mask)
        ctx.scale, ctx.softcap, ctx.saliency = scale, softcap, saliency
        return out.view_as(out)

    @staticmethod
    def backward(ctx, d_out):
        query, key, value, mask = ctx.saved_tensors
        d_heads = d_out.transpose(1, 2)  # [1, H, T, e]
        found = head_saliency(query, key, value, d_heads, scale=ctx.scale, mask=mask, softcap=ctx.softcap)
        ctx.saliency.copy_(found[0])
        return d_out, *[None] * 7
