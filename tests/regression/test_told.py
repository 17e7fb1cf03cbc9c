"""Learners that are told the family come close to the noise, and each is the better one on its own family."""

import pytest
import torch

from task_vectors.regression.mixtures import FAMILIES, FamilyMixture, rectified
from task_vectors.regression.predictors import ridge
from task_vectors.regression.readings import balanced, by_class
from task_vectors.regression.told import last_lasso, of_family, told_errors, unrectified

MIXTURE = FamilyMixture(dim=6, rank=2)


@pytest.fixture(scope="module")
def test_and_told():
    test = balanced(MIXTURE, 60, 25, seed=0)
    return test, told_errors(MIXTURE, test, balanced(MIXTURE, 20, 25, seed=1))


def test_who_is_told_predicts_every_family(test_and_told):
    test, told = test_and_told
    assert tuple(told) == FAMILIES
    nothing = by_class(test.y.square(), test.classes)[:, -1]
    assert all(error < 0.1 * before for error, before in zip(told.values(), nothing.tolist(), strict=True))


def test_linear_is_ridge_regression_and_no_use_for_squares(test_and_told):
    test, told = test_and_told
    plain = by_class((ridge(MIXTURE, test) - test.y).square(), test.classes)[:, -1]
    assert told["linear"] == pytest.approx(plain[0].item())
    assert told["leaky"] < plain[2]
    assert plain[3] > 0.8


def test_lasso_is_told_how_much_to_leave_out(test_and_told):
    test, told = test_and_told
    mine = of_family(test, "sparse")
    assert (mine.classes == 1).all()
    assert len(mine.y) == 60
    errors = [(last_lasso(mine, penalty) - mine.y[:, -1]).square().mean().item() for penalty in (0.003, 0.2)]
    assert errors[0] < errors[1]
    assert told["sparse"] <= errors[0] * 1.2


def test_the_rectifier_is_undone():
    u = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unrectified(rectified(u)), u)
    assert rectified(torch.randn(200_000, generator=torch.Generator().manual_seed(0))).var().item() == pytest.approx(
        1, abs=0.02
    )
