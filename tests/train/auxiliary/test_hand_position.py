import pytest
import torch

from vlm4vla.train.auxiliary.hand_position import HandHead


def test_the_hand_is_read_from_whichever_token_shows_it():
    torch.manual_seed(0)
    head = HandHead(16, 32)
    cells = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
    mark = torch.randn(32)

    def scenes(count):
        where = torch.randint(16, (count,))
        tokens = torch.randn(count, 16, 32) * 0.1
        tokens[torch.arange(count), where] += 3 * mark
        across, down = cells[where].T / 10 - 0.15
        return tokens, torch.stack([across, down, across.new_full((count,), 0.08)], -1)

    for _ in range(300):
        tokens, tips = scenes(64)
        loss = head.loss(head(tokens), tips)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tokens, tips = scenes(200)
    # Cells lie 10 cm apart; 2 cm of error in the median tells them apart.
    assert (head(tokens) - tips).norm(dim=-1).median() < 0.02


def test_the_hands_loss_counts_spreads():
    head = HandHead(4, 8)
    tips = torch.zeros(1, 3)
    off = tips + torch.tensor([[0.08, 0.0, 0.0]])
    # One spread off on one of three axes: Huber with beta 0.1 gives (1 - 0.05) / 3.
    assert head.loss(off, tips).item() == pytest.approx(0.95 / 3)
