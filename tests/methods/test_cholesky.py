"""Factors of what is positive, and of what is not quite."""

import pytest
import torch

from explorer.methods.cholesky import root


def test_what_is_positive_is_factorized_as_it_is() -> None:
    x = torch.randn(64, 8)
    gram = x.T @ x
    torch.testing.assert_close(root(gram, 1.0) @ root(gram, 1.0).T, gram, rtol=1e-4, atol=1e-4)


def test_of_a_batch_only_what_fails_gets_more_on_its_diagonal() -> None:
    x = torch.randn(2, 16, 4)
    x[1, :, 3] = x[1, :, 2]
    gram = x.mT @ x
    gram[1] -= 1e-3 * torch.eye(4)
    found = root(gram, torch.tensor([[1e-6], [1e-6]]))
    torch.testing.assert_close(found[0] @ found[0].T, gram[0], rtol=1e-4, atol=1e-4)
    assert found.isfinite().all() and (found[1] @ found[1].T - gram[1]).diagonal().max() < 0.2


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers that are none"):
        root(torch.full((2, 2), torch.nan), 1.0)
