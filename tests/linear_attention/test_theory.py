import pytest
import torch

from task_vectors.linear_attention.prompts import get_layout
from task_vectors.linear_attention.theory import live_keys, project


def member(layout, n, seed=0):
    """A random D of the theorem's set, zero at dead keys, and its arrows' weights."""
    generator = torch.Generator().manual_seed(seed)
    T, places = layout.n_tokens(n), (layout.inputs(n), layout.answers(n))
    D = torch.zeros(T, T, dtype=torch.float64)
    for query in places:
        for key in places:
            shared, own = torch.randn(2, generator=generator, dtype=torch.float64)
            D[query[:n], key[:n]], D[query[n], key[n]] = shared, own
    weights = torch.randn(n + 1, n + 1, generator=generator, dtype=torch.float64)
    if arrows := layout.arrows(n).tolist():
        for key, size in zip(places, torch.randn(2, generator=generator, dtype=torch.float64), strict=True):
            D[torch.tensor(arrows)[:, None], key] = size * weights
    dead = torch.ones(T, dtype=torch.bool)
    dead[live_keys(layout, n)] = False
    D[:, dead] = 0
    return D, weights


@pytest.mark.parametrize("name", ["pairs", "triplets"])
@pytest.mark.parametrize("n", [2, 7])
def test_a_member_of_the_set_is_its_own_projection(name, n):
    layout = get_layout(name)
    D, weights = member(layout, n)
    found = project(D, layout, n)
    assert found.share == pytest.approx(1, abs=1e-4)
    assert found.mask_share == pytest.approx(1)
    if name == "triplets":
        directions = torch.stack([found.weights.flatten(), weights.flatten()])
        assert abs(torch.corrcoef(directions)[0, 1]) == pytest.approx(1, abs=1e-3)


def test_dead_entries_do_not_count():
    layout = get_layout("triplets")
    D, _ = member(layout, 4)
    D[:, layout.arrows(4)] = 100
    D[:, -1] = 100
    assert project(D, layout, 4).share == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["pairs", "triplets"])
def test_no_nearby_member_is_nearer(name):
    layout, n = get_layout(name), 3
    noise = torch.randn(layout.n_tokens(n), layout.n_tokens(n), generator=torch.Generator().manual_seed(1)).double()
    found = project(noise, layout, n)
    alive = torch.zeros_like(noise)
    alive[:, live_keys(layout, n)] = 1
    fit = found.concatenation + found.formation
    distance = ((noise - fit) * alive).square().sum()
    for seed in range(20):
        other, _ = member(layout, n, seed)
        if name == "pairs":
            moved = fit + 0.05 * other
            assert ((noise - moved) * alive).square().sum() > distance
        assert ((noise - other) * alive).square().sum() > distance


def test_a_random_matrix_is_not_explained():
    layout, n = get_layout("triplets"), 20
    noise = torch.randn(layout.n_tokens(n), layout.n_tokens(n), generator=torch.Generator().manual_seed(2))
    found = project(noise, layout, n)
    assert found.share < 0.25
    assert found.mask_share < 0.4
