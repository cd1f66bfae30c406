"""What is kept of a prediction, and the divergence from it with its slope, against plain formulas."""

import pytest
import torch
from torch import Tensor

from explorer.methods import distill


def draws(words: int, seed: int = 0, rows: int = 6) -> Tensor:
    return 3 * torch.randn(rows, words, generator=torch.Generator().manual_seed(seed))


def plain(logits: Tensor, top: Tensor, log_p: Tensor) -> Tensor:
    """Σ p ln (p / q) over the kept tokens and the one outcome for the rest."""
    log_q = logits.log_softmax(1).gather(1, top)
    rest = (1 - log_q.exp().sum(1, keepdim=True)).clamp(min=1e-26).log()
    return (log_p.exp() * (log_p - torch.cat([log_q, rest], dim=1))).sum(1).mean()


@pytest.mark.parametrize("words", [5, 300, 5000, 20_001])
@pytest.mark.parametrize("k", [1, 5, 64])
def test_the_likeliest_are_those_of_topk_and_everything_adds_up_to_one(words: int, k: int) -> None:
    logits = draws(words)
    top, log_p = distill.likeliest(logits, k)
    wanted = logits.log_softmax(1).topk(min(k, words), dim=1)
    order = log_p[:, :-1].sort(1, descending=True)
    assert torch.allclose(order.values, wanted.values, atol=1e-5)
    assert torch.equal(top.gather(1, order.indices), wanted.indices)
    assert torch.allclose(log_p.exp().sum(1), torch.ones(len(logits)), atol=1e-5)


@pytest.mark.parametrize("k", [1, 8, 64])
def test_a_student_equal_to_its_teacher_is_no_nats_away_and_nothing_pulls_at_it(k: int) -> None:
    logits = draws(5000).requires_grad_(True)
    loss = distill.divergence(logits, *distill.likeliest(logits.detach(), k))
    (slope,) = torch.autograd.grad(loss, logits)
    assert abs(float(loss.detach())) < 1e-5 and float(slope.abs().max()) < 1e-5


@pytest.mark.parametrize("words", [300, 5000])
def test_with_the_whole_vocabulary_it_is_the_kl_divergence_and_with_less_it_is_below(words: int) -> None:
    teacher, student = draws(words), draws(words, seed=1)
    p, q = teacher.log_softmax(1), student.log_softmax(1)
    whole = float((p.exp() * (p - q)).sum(1).mean())
    found = [float(distill.divergence(student, *distill.likeliest(teacher, k))) for k in (1, 8, 64, words)]
    assert found == sorted(found) and found[-1] == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("rows", [6, distill.ROWS + 3])
@pytest.mark.parametrize("k", [1, 8, 64])
def test_the_slope_is_that_of_the_plain_formula(rows: int, k: int) -> None:
    teacher, student = draws(400, rows=rows), draws(400, 1, rows).requires_grad_(True)
    kept = distill.likeliest(teacher, k)
    mine, theirs = distill.divergence(student, *kept), plain(student, *kept)
    assert float(mine.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    found, wanted = torch.autograd.grad(mine, student)[0], torch.autograd.grad(theirs, student)[0]
    assert torch.allclose(found, wanted, atol=1e-7, rtol=1e-4)


def test_one_certain_token_makes_it_the_next_token_loss() -> None:
    student, label = draws(400).requires_grad_(True), torch.arange(6)
    certain = torch.tensor([[0.0, distill.LOWEST]]).expand(6, 2)
    mine = distill.divergence(student, label[:, None], certain)
    theirs = torch.nn.functional.cross_entropy(student, label)
    assert float(mine.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)
    found, wanted = torch.autograd.grad(mine, student)[0], torch.autograd.grad(theirs, student)[0]
    assert torch.allclose(found, wanted, atol=1e-7)


def test_hidden_states_count_by_token_however_large_they_are() -> None:
    wanted = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    other = wanted + 0.1 * torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    found = distill.apart(other, wanted)
    plain = [
        float((a - b).norm() ** 2 / b.norm() ** 2) for a, b in zip(other.view(-1, 8), wanted.view(-1, 8), strict=True)
    ]
    assert float(found) == pytest.approx(sum(plain) / len(plain), rel=1e-5)
    size = 10.0 ** torch.arange(10).view(2, 5, 1)
    assert float(distill.apart(other * size, wanted * size)) == pytest.approx(float(found), rel=1e-5)
    assert float(distill.apart(wanted, wanted)) == 0
    assert float(distill.apart(wanted, torch.zeros_like(wanted))) < float("inf")
