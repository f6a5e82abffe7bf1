"""The losses of joint training."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

IGNORED = -100


def verdict_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of (batch, 3) logits against (batch, 3) probabilities, averaged over the batch."""
    return -(target * F.log_softmax(logits.float(), dim=-1)).sum(-1).mean()


def domain_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy over domains, averaged over the rows whose domain is ``known`` (batch,)."""
    each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").sum(-1)
    return (each * known).sum() / known.sum().clamp(min=1)


def language_loss(states: Tensor, labels: Tensor, output: Tensor) -> Tensor:
    """Next-token cross-entropy where ``labels`` (batch, tokens) are not ``IGNORED``.

    ``states`` is (batch, tokens, width) and ``output`` the (vocab, width) output matrix; logits are made only where
    they are needed.
    """
    wanted = labels[:, 1:] != IGNORED
    if not bool(wanted.any()):
        return states.sum() * 0.0
    logits = states[:, :-1][wanted] @ output.T
    return F.cross_entropy(logits.float(), labels[:, 1:][wanted])
