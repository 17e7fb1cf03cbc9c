import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from task_vectors.regression.tokens import LAYOUTS, at_queries, check_layout, class_token, token_shape, tokens

layouts = pytest.mark.parametrize("layout", LAYOUTS)
sizes = given(n=st.integers(2, 8), dim=st.integers(1, 5), seed=st.integers(0, 100))


def drawn(n, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, n, dim, generator=generator), torch.randn(3, n, generator=generator)


def decoded(layout, found, dim):
    """x [B, n, D], y [B, n - 1], and whatever is in the tokens beside them."""
    if layout == "interleaved":
        return found[:, ::2], found[:, 1::2, 0], found[:, 1::2, 1:]
    x, before, y = found[..., :dim], found[..., dim : 2 * dim], found[..., 2 * dim]
    products = found[..., 2 * dim + 1 :]  # none in pairs
    rest = [before[:, 0], y[:, 0], products[:, 0], before[:, 1:] - x[:, :-1]]
    if layout == "product":
        rest.append(products[:, 1:] - x[:, :-1] * y[:, 1:, None])
    return x, y[:, 1:], torch.cat([part.flatten() for part in rest])


def queries(layout, n, dim):
    """The token at which each output is predicted."""
    n_tokens, _ = token_shape(layout, n, dim)
    return at_queries(layout, torch.arange(n_tokens)[None])[0].tolist()


@layouts
@sizes
def test_tokens_hold_the_data_and_nothing_else(layout, n, dim, seed):
    x, y = drawn(n, dim, seed)
    found = tokens(layout, x, y)
    assert found.shape == (3, *token_shape(layout, n, dim))
    found_x, found_y, rest = decoded(layout, found, dim)
    assert torch.equal(found_x, x)
    assert torch.equal(found_y, y[:, :-1])
    assert not rest.any()


@layouts
@sizes
def test_the_last_output_is_in_no_token(layout, n, dim, seed):
    x, y = drawn(n, dim, seed)
    changed = y.index_fill(1, torch.tensor([n - 1]), 7.0)
    assert torch.equal(tokens(layout, x, y), tokens(layout, x, changed))


@layouts
@sizes
def test_up_to_its_query_no_token_knows_an_output_or_what_follows(layout, n, dim, seed):
    x, y = drawn(n, dim, seed)
    before = tokens(layout, x, y)
    for i, token in enumerate(queries(layout, n, dim)):
        later_x, later_y = x.clone(), y.clone()
        later_x[:, i + 1 :] += 1
        later_y[:, i:] += 1
        assert torch.equal(tokens(layout, later_x, later_y)[:, : token + 1], before[:, : token + 1])


@layouts
@sizes
def test_a_query_holds_its_input_and_has_seen_every_demonstration_before_it(layout, n, dim, seed):
    x, y = drawn(n, dim, seed)
    before = tokens(layout, x, y)
    for i, token in enumerate(queries(layout, n, dim)):
        assert torch.equal(before[:, token, :dim], x[:, i])
        for j in range(i):
            changed = y.clone()
            changed[:, j] += 1
            assert (tokens(layout, x, changed) != before)[:, : token + 1].any()


@layouts
@pytest.mark.parametrize("n", [2, 3, 21])
def test_the_class_is_read_at_the_first_token_that_has_seen_the_last_demonstration(layout, n):
    x, y = drawn(n, 4)
    changed = y.clone()
    changed[:, n - 2] += 1
    touched = (tokens(layout, x, changed) != tokens(layout, x, y)).any(-1).all(0)
    assert class_token(layout, token_shape(layout, n, 4)[0]) == touched.int().argmax()


@layouts
def test_values_of_any_shape_are_picked_at_the_queries(layout):
    n_tokens, _ = token_shape(layout, 5, 2)
    values = torch.arange(n_tokens).view(1, -1, 1, 1).expand(2, -1, 3, 4)
    found = at_queries(layout, values)
    assert found.shape == (2, 5, 3, 4)
    assert found[0, :, 0, 0].tolist() == queries(layout, 5, 2)


def test_an_unknown_layout_is_refused():
    x, y = drawn(3, 2)
    for call in (
        lambda: check_layout("triplets"),
        lambda: token_shape("triplets", 3, 2),
        lambda: tokens("triplets", x, y),
    ):
        with pytest.raises(ValueError, match="unknown token layout 'triplets'; there are: product, pair, interleaved"):
            call()
