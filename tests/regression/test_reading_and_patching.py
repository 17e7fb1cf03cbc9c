import pytest
import torch

from task_vectors.regression.mixtures import Sequences, SparseMixture
from task_vectors.regression.patching import class_span, patch_table, swapped
from task_vectors.regression.probes import probe_accuracy
from task_vectors.regression.pruning import concentration, damage, pruned_errors
from task_vectors.regression.readings import balanced, by_class, class_states, reordered
from task_vectors.regression.tokens import tokens
from task_vectors.regression.training import Recipe, build, predict

MIXTURE = SparseMixture(dim=4, rank=2, n_classes=2)
layouts = pytest.mark.parametrize("layout", ["product", "pair", "interleaved"])


def model_for(layout):
    recipe = Recipe(layout=layout, n_demos=5, n_layers=3, width=16, n_heads=2)
    return build(recipe, MIXTURE.dim, seed=1).requires_grad_(False)


def drawn(per_class=6, seed=0):
    return balanced(MIXTURE, per_class, 6, seed)


def test_balanced_sequences_come_class_by_class():
    sequences = drawn()
    assert sequences.classes.tolist() == [0] * 6 + [1] * 6
    assert torch.equal(sequences.x, drawn().x)
    assert not torch.equal(sequences.x, drawn(seed=1).x)


def test_by_class_is_the_mean_of_each_class():
    values, classes = torch.arange(8.0, dtype=torch.float64).view(4, 2), torch.tensor([1, 0, 1, 1])
    assert by_class(values, classes).tolist() == [[2, 3], [pytest.approx(10 / 3), pytest.approx(13 / 3)]]


def test_reordering_keeps_every_demonstration_whole_and_forgets_the_query():
    sequences = drawn()
    x, y, classes = reordered(sequences, torch.Generator().manual_seed(0))

    def demos(x, y):
        pairs = torch.cat([x[:, :-1], y[:, :-1, None]], -1)
        return [sorted(map(tuple, of_one)) for of_one in pairs.tolist()]

    assert demos(x, y) == demos(*sequences[:2])
    assert not torch.equal(x[:, :-1], sequences.x[:, :-1])
    assert not (x[:, -1] == sequences.x[:, -1]).any()
    assert (y[:, -1] == 0).all()
    assert torch.equal(classes, sequences.classes)
    orders = (x[:, :1] == sequences.x[:, :-1]).all(-1).int().argmax(1)  # each sequence has its own
    assert len(orders.unique()) > 1


@layouts
def test_states_at_the_class_token_know_all_demonstrations_and_not_the_querys_output(layout):
    model, sequences = model_for(layout), drawn()
    x, y, classes = sequences
    before = class_states(model, layout, sequences)
    assert before.shape == (12, 3, 16)
    for i in range(6):
        changed = y.clone()
        changed[:, i] += 1
        moved = class_states(model, layout, Sequences(x, changed, classes)) != before
        assert moved.any() == (i < 5)


def test_the_mean_reading_of_one_redraw_is_the_state_of_the_reordered_sequences():
    model, sequences = model_for("pair"), drawn()
    expected = class_states(model, "pair", reordered(sequences, torch.Generator().manual_seed(7)))
    assert torch.equal(class_states(model, "pair", sequences, redraws=1, seed=7), expected)


def test_the_mean_reading_forgets_the_order_and_the_query():
    """Its variance over orders of the same demonstrations falls as one over the number of redraws."""
    model, sequences = model_for("pair"), drawn(20)

    def spread(redraws):
        one, other = (class_states(model, "pair", sequences, redraws, seed) for seed in (1, 2))
        return (one - other).square().mean().item()

    assert spread(32) == pytest.approx(spread(1) / 32, rel=0.3)


@layouts
def test_a_patch_with_what_is_there_changes_nothing(layout):
    """With one donor a class, which is the sequence itself, both kinds put back the state that is there."""
    model, sequences = model_for(layout), drawn(1)
    for layer in (1, 2, 3):
        for change in patch_table(model, layout, sequences, sequences, layer).values():
            assert change.diag().abs().max() < 1e-5
            assert (change - change.diag().diag()).abs().max() > 1e-4


@layouts
def test_a_whole_patch_is_a_forward_pass_with_that_state(layout):
    model, sequences, donors = model_for(layout), drawn(4), drawn(5, seed=9)
    change = patch_table(model, layout, donors, sequences, layer=2)["whole"]
    mean = model.states(tokens(layout, donors.x, donors.y))[5:, -1, 1].mean(0)  # class 1
    states = model.states(tokens(layout, sequences.x, sequences.y))[:, :, 1].clone()
    before = predict(model, layout, sequences.x, sequences.y)[:, -1]
    states[:, -1] = mean
    after = model.finish(states, after=2)[:, -1]
    truth = sequences.y[:, -1]
    torch.testing.assert_close(change[:, 1], (after - truth) ** 2 - (before - truth) ** 2)


@layouts
def test_parts_at_the_query_alone_are_the_patch_of_a_part(layout):
    model, sequences, donors = model_for(layout), drawn(4), drawn(5, seed=9)
    last = model.states(tokens(layout, sequences.x, sequences.y)).shape[1] - 1
    found = swapped(model, layout, donors, sequences, [last])
    for layer in (1, 2, 3):
        expected = by_class(patch_table(model, layout, donors, sequences, layer)["part"], sequences.classes)
        torch.testing.assert_close(found[layer - 1], expected, atol=1e-5, rtol=1e-4)


def test_parts_at_several_tokens_are_put_in_at_once():
    """Against a loop over sequences, tokens and classes."""
    model, sequences, donors, positions = model_for("interleaved"), drawn(3), drawn(4, seed=9), [1, 3]
    found = swapped(model, "interleaved", donors, sequences, positions)[1]  # after layer 2
    donated, states = (model.states(tokens("interleaved", s.x, s.y))[:, :, 1] for s in (donors, sequences))
    expected = torch.zeros(2, 2)
    for row, source in enumerate(sequences.classes.tolist()):
        for target in (0, 1):
            patched = states[row].clone()
            for t in positions:
                means = [donated[donors.classes == z, t].mean(0) for z in (0, 1)]
                direction = (means[1] - means[0]) / (means[1] - means[0]).norm()
                patched[t] += (means[target] - patched[t]) @ direction * direction
            errors = [(model.finish(s[None], 2)[0, -1] - sequences.y[row, -1]) ** 2 for s in (patched, states[row])]
            expected[source, target] += (errors[0] - errors[1]) / 3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-3)


def test_the_span_of_the_classes_holds_their_differences_and_no_more():
    means = torch.randn(4, 10, generator=torch.Generator().manual_seed(0)) + 5
    basis = class_span(means)
    assert basis.shape == (3, 10)
    torch.testing.assert_close(basis @ basis.T, torch.eye(3))
    differences = means - means[0]
    torch.testing.assert_close(differences @ basis.T @ basis, differences)


def test_a_pruned_head_is_one_whose_output_columns_are_zero():
    model, sequences = model_for("pair"), drawn(10)
    found = pruned_errors(model, "pair", sequences)
    assert found.shape == (3, 2, 2)

    def errors():
        return by_class((predict(model, "pair", sequences.x, sequences.y) - sequences.y).square(), sequences.classes)

    before = errors()[:, -1]
    model.blocks[1].attention.output.weight[:, 8:] = 0  # head 1 of layer 1
    torch.testing.assert_close(found[1, 1], errors()[:, -1] - before)


def test_damage_by_sequence_is_damage_by_class_on_average():
    model, sequences = model_for("product"), drawn(10)
    found = damage(model, "product", sequences)  # [L * H, K, n]
    assert found.shape == (6, 2, 10)
    torch.testing.assert_close(
        found.mean(-1).view(3, 2, 2), pruned_errors(model, "product", sequences), atol=1e-6, rtol=1e-4
    )


def test_damage_on_one_class_is_concentrated_and_noise_is_not():
    one = torch.zeros(1, 4, 10)
    one[0, 2] = 1
    assert concentration(one).item() == 1
    assert concentration(torch.ones(1, 4, 10)).item() == 0.25
    noisy = 1 + torch.randn(500, 4, 10, generator=torch.Generator().manual_seed(0))
    naive = (noisy.mean(-1).amax(1) / noisy.mean(-1).sum(1)).mean()
    assert naive > 0.32
    assert concentration(noisy).mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.isnan(concentration(-torch.ones(1, 4, 10))).item()


def test_probes_see_what_they_should():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(3).repeat_interleave(80)
    noise = torch.randn(240, 12, generator=generator)
    shifted = noise + 3 * torch.eye(12)[classes]
    stretched = noise * (1 + 9 * (torch.arange(12) // 4 == classes[:, None]))  # equal means, other directions
    assert probe_accuracy("linear", shifted, classes) > 0.85
    assert probe_accuracy("linear", stretched, classes) < 0.5
    assert probe_accuracy("quadratic", stretched, classes) > 0.95
    for kind in ("linear", "quadratic"):
        assert abs(probe_accuracy(kind, noise, classes) - 1 / 3) < 0.12
    with pytest.raises(ValueError, match="unknown probe 'cubic'; there are: linear, quadratic"):
        probe_accuracy("cubic", noise, classes)
