"""Saliency from queries, keys, values and output gradient against autograd through every head's attention."""

import pytest
import torch
from ahead_of_time import Build, resources
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from task_vectors.kernels.saliency import fast, head_saliency, reference
from task_vectors.kernels.saliency import triton as tiles

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64 against float64
# float32 sums of up to 50 products of size one. Half types too: their products are exact in float32, which sums them.
SINGLE = {"atol": 2e-5, "rtol": 2e-5}
SHARED_MEMORY_SM80 = 163 * 1024

both_backends = pytest.mark.parametrize("backend", ["torch", "triton"])


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several programs along both axes, and blocks of a few rows, at sizes that the interpreter can run."""
    monkeypatch.setattr(tiles, "QUERIES", 16)
    monkeypatch.setattr(tiles, "KEYS", 16)
    monkeypatch.setitem(fast.SCRATCH, "cpu", 300)


def problem(B=2, H=4, G=2, T=21, d=10, e=7, *, dtype=torch.float32, seed=0):
    """q, k, v and d_out."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (B, H, T, d), (B, G, T, d), (B, G, T, e), (B, H, T, e)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def some_mask(*shape, share=0.3, seed=1):
    """A mask with blind queries: the first two of each, and whomever chance makes so."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    mask[..., :2, :] = False
    return mask


def by_autograd(q, k, v, d_out, *, scale, mask=None, softcap=None):
    """Σ_h |A_h ∘ ∂L/∂A_h| [B, T, T] in float64, with A a leaf of which the loss is a function."""
    q, k, v, d_out = (x.double() for x in (q, k, v, d_out))
    (B, H, T, _), G = q.shape, k.shape[1]
    mask = torch.ones(T, T).tril().bool() if mask is None else mask
    scores = torch.stack([q[:, h] @ k[:, h * G // H].mT for h in range(H)], 1) * scale  # [B, H, T, T]
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    weights = scores.exp() * mask.expand(B, T, T)[:, None]
    A = (weights / weights.sum(-1, keepdim=True).clamp(min=1e-300)).requires_grad_()
    out = torch.stack([A[:, h] @ v[:, h * G // H] for h in range(H)], 1)  # [B, H, T, e]
    (out * d_out).sum().backward()
    return (A * A.grad).abs().sum(1).detach()


def check(backend, tensors, tolerance=SINGLE, **settings):
    settings = {"scale": 0.4} | settings
    found = head_saliency(*tensors, backend=backend, **settings)
    assert found.dtype == torch.promote_types(tensors[0].dtype, torch.float32)
    torch.testing.assert_close(found.double(), by_autograd(*tensors, **settings), **tolerance)


MASKS = {"causal": None, "[T, T]": some_mask(21, 21), "[B, T, T]": some_mask(2, 21, 21)}


@both_backends
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_equals_autograd(backend, mask, softcap):
    check(backend, problem(), mask=mask, softcap=softcap)


@both_backends
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_equals_autograd_in_half_precision(backend, dtype):
    check(backend, problem(dtype=dtype), softcap=1.5)


@both_backends
@pytest.mark.parametrize(
    ("B", "H", "G", "T", "d", "e"),
    [(1, 1, 1, 1, 1, 1), (1, 3, 3, 16, 16, 16), (2, 4, 1, 18, 5, 20), (3, 2, 1, 5, 33, 2), (1, 4, 2, 35, 17, 1)],
)
def test_equals_autograd_at_odd_shapes(backend, B, H, G, T, d, e):
    check(backend, problem(B, H, G, T, d, e))
    check(backend, problem(B, H, G, T, d, e), mask=some_mask(B, T, T))


@given(
    B=st.integers(1, 3),
    G=st.integers(1, 3),
    heads_per_group=st.integers(1, 3),
    T=st.integers(1, 20),
    d=st.integers(1, 6),
    e=st.integers(1, 6),
    scale=st.floats(-2, 2),
    softcap=st.none() | st.floats(0.1, 50),
    share=st.none() | st.floats(0, 1),
)
def test_equals_autograd_in_float64_at_any_shape(B, G, heads_per_group, T, d, e, scale, softcap, share):
    tensors = problem(B, G * heads_per_group, G, T, d, e, dtype=torch.float64)
    mask = None if share is None else some_mask(T, T, share=share)
    check(None, tensors, EXACT, scale=scale, mask=mask, softcap=softcap)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_the_formula_equals_autograd(mask):
    tensors = problem(dtype=torch.float64)
    settings = {"scale": 0.4, "mask": mask, "softcap": 1.5}
    torch.testing.assert_close(
        reference.head_saliency(*tensors, **settings), by_autograd(*tensors, **settings), **EXACT
    )


@both_backends
def test_a_causal_mask_and_none_are_the_same(backend):
    tensors = problem()
    causal = torch.ones(21, 21, dtype=torch.bool).tril()
    found, same = (head_saliency(*tensors, scale=0.4, mask=mask, backend=backend) for mask in (None, causal))
    torch.testing.assert_close(found, same)
    assert not found.triu(1).any()


@both_backends
def test_a_query_that_may_look_nowhere_gives_zeros(backend):
    mask = some_mask(2, 21, 21)
    found = head_saliency(*problem(), scale=0.4, mask=mask, backend=backend)
    assert not found[:, :2].any()
    assert not found[~mask].any()
    assert found[mask].all()


@both_backends
@pytest.mark.parametrize("shift", [300.0, -300.0])
def test_large_scores_neither_overflow_nor_vanish(backend, shift):
    q, k, v, d_out = problem()
    # All scores of a query move by the same amount, so that its weights stay as they are.
    moved = [torch.cat([q, torch.ones(2, 4, 21, 1)], -1), torch.cat([k, torch.full((2, 2, 21, 1), shift)], -1)]
    found = head_saliency(*moved, v, d_out, scale=1.0, backend=backend)
    expected = by_autograd(q, k, v, d_out, scale=1.0)
    # A score of 300 is rounded to 3e-5, and so is the logarithm of a weight.
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=1e-3)


@both_backends
def test_strides_do_not_matter(backend):
    tensors, mask = problem(), some_mask(2, 21, 21)
    expected = head_saliency(*tensors, scale=0.4, mask=mask, backend=backend)
    by_token = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    by_column = [x.mT.contiguous().mT for x in tensors]
    strided_mask = torch.stack([mask, ~mask], -1)[..., 0]
    for strided in (by_token, by_column):
        assert not any(x.is_contiguous() for x in strided)
        torch.testing.assert_close(head_saliency(*strided, scale=0.4, mask=strided_mask, backend=backend), expected)


@both_backends
def test_sizes_only_count(backend):
    """Twice the gradient, of the other sign, is twice the saliency."""
    q, k, v, d_out = problem()
    once, twice = (head_saliency(q, k, v, g, scale=0.4, backend=backend) for g in (d_out, -2 * d_out))
    torch.testing.assert_close(twice, 2 * once)


@both_backends
def test_no_tensor_holds_all_heads_weights(backend):
    class Largest(TorchDispatchMode):
        nbytes = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple | list) else [out]:
                self.nbytes = max(self.nbytes, x.nbytes if isinstance(x, torch.Tensor) else 0)
            return out

    T = 40
    tensors = problem(1, 8, 2, T, 4, 4)
    with Largest() as largest:
        head_saliency(*tensors, scale=0.4, backend=backend)
    assert largest.nbytes == 4 * T * T  # the result, in float32


def test_the_result_carries_no_gradient():
    tensors = [x.requires_grad_() for x in problem()]
    assert not head_saliency(*tensors, scale=0.4).requires_grad


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q": torch.zeros(2, 4, 10)}, "must be"),
        ({"q": torch.zeros(2, 4, 0, 10)}, "none of them empty"),
        ({"q": torch.zeros(2, 5, 21, 10), "d_out": torch.zeros(2, 5, 21, 7)}, "G divide H"),
        ({"k": torch.zeros(2, 3, 21, 10)}, "must agree"),
        ({"v": torch.zeros(2, 2, 36, 7)}, "must agree"),
        ({"d_out": torch.zeros(2, 4, 21, 8)}, "must agree"),
        ({"k": torch.zeros(2, 2, 21, 10, dtype=torch.bfloat16)}, "one floating type"),
        ({"mask": torch.ones(21, 21)}, "bool"),
        ({"mask": torch.ones(3, 21, 21, dtype=torch.bool)}, "mask must be"),
        ({"mask": torch.ones(21, 21, dtype=torch.bool, device="meta")}, "one device"),
        ({"softcap": 0.0}, "above 0"),
        ({"backend": "cuda"}, "torch, triton"),
    ],
)
def test_bad_input_gets_one_clear_line(change, words):
    arguments = dict(zip(("q", "k", "v", "d_out"), problem(), strict=True)) | {"scale": 0.4} | change
    with pytest.raises(ValueError, match=words) as caught:
        head_saliency(**arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_triton_refuses_float64():
    with pytest.raises(ValueError, match="float32"):
        head_saliency(*problem(dtype=torch.float64), scale=0.4, backend="triton")


def test_triton_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(RuntimeError, match="cannot run"):
        head_saliency(*problem(), scale=0.4, backend="triton")


def builds():
    integers = ["mask_batch", "mask_row", "mask_column", "H", "heads_per_group", "T", "d", "e"]
    integers += [f"{name}_{axis}" for name in ("q", "out") for axis in ("batch", "head", "row")]
    integers += [f"{name}_{axis}" for name in ("k", "v") for axis in ("batch", "group", "row")]
    sizes = {"QUERIES": tiles.QUERIES, "KEYS": tiles.KEYS, "WIDTH": tiles.WIDTH}
    for dtype in ("fp32", "bf16"):
        signature = dict.fromkeys(("q", "k", "v", "d_out"), f"*{dtype}") | dict.fromkeys(integers, "i32")
        signature |= dict.fromkeys(("lse", "result"), "*fp32") | dict.fromkeys(("scale", "softcap"), "fp32")
        for causal in (False, True):
            signature = signature | {"mask": f"*{dtype}" if causal else "*u8"}
            for softcap in (False, True):
                flags = {"CAUSAL": causal, "SOFTCAP": softcap}
                for kernel in ("log_sum_exp", "saliency"):
                    label = f"{kernel} {dtype} {flags}"
                    yield Build(tiles.__name__, kernel, signature, sizes | flags, tiles.WARPS, label=label)


@pytest.mark.slow
def test_compiles_for_gpus_without_spills(monkeypatch):
    monkeypatch.undo()  # the launcher's own blocks
    table = resources(list(builds()))
    assert len(table) == 32
    for row in table:
        print(*row.values())
        assert row["spill_stores"] == row["spill_loads"] == 0, row
        assert row["shared"] <= SHARED_MEMORY_SM80, row
