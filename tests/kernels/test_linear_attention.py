import os

import pytest
import torch
from ahead_of_time import Build, resources
from hypothesis import given, settings
from hypothesis import strategies as st

from task_vectors.kernels.linear_attention import linear_attention
from task_vectors.kernels.linear_attention import triton as triton_kernels
from task_vectors.kernels.linear_attention.reference import linear_attention as reference

EXACT = {"atol": 1e-10, "rtol": 1e-10}  # float64 against float64
SINGLE = {"atol": 2e-5, "rtol": 2e-5}  # float32 sums of up to 40 terms of size one
HALF = {"atol": 6e-2, "rtol": 6e-2}  # bfloat16 keeps 8 bits
GRADIENTS = 5  # gradients sum over prompts and tokens: so many times the tolerance of the output
SHARED_MEMORY = 163 * 1024  # bytes on an A100
MODULE = "task_vectors.kernels.linear_attention.triton"


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Several tiles even of short prompts, for which the interpreter takes long."""
    monkeypatch.setattr(triton_kernels, "TOKENS", 4)
    monkeypatch.setattr(triton_kernels, "COLUMNS", 32)


def problem(S, B, T, d, *, matrices=False, positions=True, dtype=torch.float64, seed=0):
    """Z, A, B, C, D with gradients wanted, and signs and keep."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    shape = (S, d, d) if matrices else (S,)
    tensors = [draw(S, B, T, 2 * d), *(draw(*shape) for _ in range(3)), draw(S, T, T) if positions else None]
    signs = torch.randn(S, B, T, generator=generator).sign().to(dtype)
    keep = (torch.rand(S, B, T, generator=generator) < 0.7).to(dtype)
    return tensors, signs, keep


def results(layer, tensors, n, signs, keep, causal):
    """The layer's output and every gradient of a fixed loss, in float64."""
    out = layer(*tensors, n, signs, keep, causal)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
    gradients = torch.autograd.grad((out * weights).sum(), [tensor for tensor in tensors if tensor is not None])
    return [result.detach().double() for result in (out, *gradients)]


def in_float64(tensors):
    return [None if tensor is None else tensor.detach().double().requires_grad_() for tensor in tensors]


def by(backend):
    def layer(Z, A, B, C, D, n, signs, keep, causal):
        return linear_attention(Z, A, B, C, D, n=n, signs=signs, keep=keep, causal=causal, backend=backend)

    return layer


def agree(backend, tensors, n, signs, keep, causal, tolerance):
    expected = results(
        reference, in_float64(tensors), n, *(None if mask is None else mask.double() for mask in (signs, keep)), causal
    )
    found = results(by(backend), tensors, n, signs, keep, causal)
    torch.testing.assert_close(found[0], expected[0], **tolerance)
    for mine, true in zip(found[1:], expected[1:], strict=True):
        scale = max(1.0, true.abs().max().item())
        torch.testing.assert_close(mine / scale, true / scale, **{k: GRADIENTS * v for k, v in tolerance.items()})


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("matrices", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("positions", [False, True])
def test_torch_equals_the_formula(causal, matrices, masked, positions):
    tensors, signs, keep = problem(2, 3, 7, 3, matrices=matrices, positions=positions)
    agree("torch", tensors, 5, *((signs, keep) if masked else (None, None)), causal, EXACT)


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.booleans())
def test_torch_equals_the_formula_at_any_shape(S, B, T, d, causal):
    tensors, signs, keep = problem(S, B, T, d)
    agree("torch", tensors, 3, signs, keep, causal, EXACT)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("matrices", "masked", "positions"), [(False, True, True), (True, False, True), (False, False, False)]
)
@pytest.mark.parametrize("shape", [(2, 2, 5, 3), (1, 9, 9, 2)])
def test_triton_equals_the_formula(shape, causal, matrices, masked, positions):
    tensors, signs, keep = problem(*shape, matrices=matrices, positions=positions, dtype=torch.float32)
    with torch.no_grad():
        tensors[0] *= 0.5
    tensors = [None if tensor is None else tensor.detach().requires_grad_() for tensor in tensors]
    agree("triton", tensors, 10, *((signs, keep) if masked else (None, None)), causal, SINGLE)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_bfloat16(backend):
    tensors, signs, keep = problem(2, 3, 7, 4, dtype=torch.bfloat16)
    agree(backend, tensors, 7, signs, keep, False, HALF)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_strides_do_not_matter(backend):
    (Z, A, B, C, D), signs, keep = problem(2, 5, 9, 2, dtype=torch.float32)
    plain = linear_attention(Z, A, B, C, D, n=3, backend=backend)
    columns = Z.detach().mT.contiguous().mT
    apart = torch.stack([Z.detach(), Z.detach()], -1)[..., 0]
    for other in (columns, apart):
        assert not other.is_contiguous()
        torch.testing.assert_close(linear_attention(other, A, B, C, D.mT.contiguous().mT, n=3, backend=backend), plain)


def far_apart(Z, axis, folder):
    """Z, its entries along an axis 2^30 numbers apart, in a file that is as good as empty.

    An index of 32 bits would wrap around, for the third and fourth, to places before the first, which hold zeros.
    """
    before, strides = 2**31, list(Z.contiguous().stride())
    strides[axis] = 2**30
    size = before + Z.shape[axis] * 2**30
    numbers = torch.from_file(str(folder / "numbers"), shared=True, size=size, dtype=Z.dtype)
    return numbers.as_strided(Z.shape, strides, before).copy_(Z)


@pytest.mark.parametrize("axis", [1, 2, 3], ids=["prompts", "tokens", "columns"])
@pytest.mark.parametrize("causal", [False, True])
def test_triton_finds_numbers_that_lie_billions_apart(axis, causal, tmp_path):
    (Z, A, B, C, D), signs, _ = problem(1, 4, 4, 2, dtype=torch.float32)
    Z = Z.detach()
    far = far_apart(Z, axis, tmp_path)
    found, expected = (
        results(by("triton"), [states.requires_grad_(), A, B, C, D], 3, signs, None, causal) for states in (far, Z)
    )
    for mine, true in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, true, rtol=0, atol=0)


def test_the_layer_is_the_papers_with_tokens_as_columns():
    """Z + (1/n) V Z M (Z^T Q Z + D) of one prompt, with D[key, query]."""
    (Z, A, B, C, D), _, _ = problem(1, 1, 6, 2, matrices=True)
    columns, zero = Z[0, 0].T, torch.zeros(2, 2, dtype=torch.float64)
    V = torch.block_diag(A[0], B[0])
    Q = torch.block_diag(C[0], zero)
    M = torch.diag(torch.tensor([1.0, 1, 1, 1, 1, 0], dtype=torch.float64))
    expected = columns + V @ columns @ M @ (columns.T @ Q @ columns + D[0].T) / 4
    torch.testing.assert_close(linear_attention(Z, A, B, C, D, n=4)[0, 0].T, expected, **EXACT)


def test_multiples_of_the_identity_are_matrices():
    (Z, A, B, C, D), _, _ = problem(2, 3, 5, 3)
    full = [scalar[:, None, None] * torch.eye(3, dtype=torch.float64) for scalar in (A, B, C)]
    torch.testing.assert_close(linear_attention(Z, A, B, C, D, n=3), linear_attention(Z, *full, D, n=3), **EXACT)


def test_the_last_token_is_no_key():
    (Z, A, B, C, D), _, _ = problem(1, 2, 5, 3)
    other = Z.detach().clone()
    other[:, :, -1] += 1
    kept = slice(None, -1)
    first, second = (linear_attention(states, A, B, C, D, n=3)[:, :, kept] for states in (Z, other))
    torch.testing.assert_close(first, second, **EXACT)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_a_causal_layer_does_not_look_ahead(backend):
    (Z, A, B, C, D), _, _ = problem(1, 2, 6, 3, dtype=torch.float32)
    other = Z.detach().clone()
    other[:, :, 3:] += 1
    first, second = (linear_attention(states, A, B, C, D, n=3, causal=True, backend=backend) for states in (Z, other))
    torch.testing.assert_close(first[:, :, :3], second[:, :, :3])
    assert not torch.allclose(first[:, :, 3:], second[:, :, 3:])


def test_models_and_prompts_do_not_touch_each_other():
    (Z, A, B, C, D), signs, keep = problem(3, 4, 5, 2)
    together = linear_attention(Z, A, B, C, D, n=3, signs=signs, keep=keep)
    s, b = slice(1, 2), slice(2, 3)
    alone = linear_attention(Z[s, b], A[s], B[s], C[s], D[s], n=3, signs=signs[s, b], keep=keep[s, b])
    torch.testing.assert_close(together[s, b], alone, **EXACT)


def test_a_dropped_token_is_zero_and_unseen():
    (Z, A, B, C, D), _, keep = problem(1, 2, 6, 2)
    other = torch.where(keep[..., None] > 0, Z.detach(), 7.0)
    out, same = (linear_attention(states, A, B, C, D, n=3, keep=keep) for states in (Z, other))
    torch.testing.assert_close(out, same, **EXACT)
    assert not out[keep == 0].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Z": torch.zeros(2, 3, 4)}, "Z must be"),
        ({"A": torch.zeros(3)}, "A must be"),
        ({"D": torch.zeros(1, 5, 4)}, "D must be"),
        ({"signs": torch.ones(1, 2, 4)}, "signs must be"),
        ({"n": 0}, "at least 1"),
        ({"backend": "cuda"}, "unknown backend"),
    ],
)
def test_bad_input_is_named(change, message):
    (Z, A, B, C, D), _, _ = problem(1, 2, 5, 2)
    arguments = {"Z": Z, "A": A, "B": B, "C": C, "D": D, "n": 3} | change
    with pytest.raises(ValueError, match=message):
        linear_attention(**arguments)


def test_triton_without_a_gpu_is_refused(monkeypatch):
    monkeypatch.delitem(os.environ, "TRITON_INTERPRET")
    (Z, A, B, C, D), _, _ = problem(1, 2, 5, 2)
    with pytest.raises(RuntimeError, match="cannot run"):
        linear_attention(Z, A, B, C, D, n=3, backend="triton")


def builds():
    sizes = {"E": 8, "WIDTH": 8, "PROMPTS": 8, "TOKENS": 32}
    integers = {name: "i32" for name in ("batches", "B", "T", "S", "summed", "tiles", "steps")}
    strides = {f"{letter}{axis}": "i32" for letter in "qkvdsg" for axis in range(4)}
    for dtype in ("fp32", "bf16"):
        pointers = {name: f"*{dtype}" for name in ("Q", "K", "V", "D", "G", "signs")} | {"memory": "*fp32"}

        def build(kernel, out, constexprs, label, types=pointers, warps=8, stages=1):
            return Build(
                MODULE, kernel, types | integers | strides | {"out": out}, constexprs, warps, stages, label=label
            )

        yield build("_memory_kernel", "*fp32", sizes | {"D_KEY": 4}, f"memory {dtype}", warps=4, stages=3)
        yield build(
            "_position_gradient_kernel", "*fp32", sizes | {"HAS_SIGNS": True, "WIDEN": False}, f"gradient of D {dtype}"
        )
        for causal in (False, True):
            flags = {
                "HAS_D": True,
                "HAS_SIGNS": True,
                "CAUSAL": causal,
                "TRANSPOSED": causal,
                "WIDEN": False,
                "KEYS": 16,
                "D_KEY": 4,
            }
            name = f"apply {'causal ' if causal else ''}{dtype}"
            yield build("_apply_kernel", f"*{dtype}", sizes | flags, name)


@pytest.mark.slow
def test_kernels_compile_ahead_of_time_without_spills():
    table = resources(list(builds()))
    for row in table:
        print(row)
    assert len(table) == 16
    assert all(row["spill_stores"] == row["spill_loads"] == 0 for row in table)
    assert all(row["shared"] <= SHARED_MEMORY for row in table)
