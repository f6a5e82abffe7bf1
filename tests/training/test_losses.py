"""The sampled language loss stands for the full one."""

import torch

from training.losses import IGNORED, language_loss


def test_sampling_changes_the_language_loss_little() -> None:
    torch.manual_seed(0)
    output = torch.randn(4000, 16) * 0.3
    states = torch.randn(4, 40, 16)
    labels = torch.randint(0, 4000, (4, 40))
    labels[:, ::3] = IGNORED
    full = language_loss(states, labels, output, 4000)
    sampled = torch.stack([language_loss(states, labels, output, 1000) for _ in range(20)]).mean()
    assert abs(float(full - sampled)) < 0.05


def test_nothing_to_predict_costs_nothing() -> None:
    labels = torch.full((1, 5), IGNORED)
    assert float(language_loss(torch.randn(1, 5, 8), labels, torch.randn(10, 8), 5)) == 0.0
