"""The losses of joint training."""

import math

import torch
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


def language_loss(states: Tensor, labels: Tensor, output: Tensor, candidates: int) -> Tensor:
    """Next-token cross-entropy where ``labels`` (batch, tokens) are not ``IGNORED``.

    ``states`` is (batch, tokens, width) and ``output`` the (vocab, width) output matrix. A vocabulary of more than
    ``candidates`` tokens is sampled: every token that is right somewhere in the batch, and others drawn evenly, which
    stand for the ones that were not drawn (Jean et al., "On Using Very Large Target Vocabulary", ACL 2015).
    """
    wanted = labels[:, 1:] != IGNORED
    if not bool(wanted.any()):
        return states.sum() * 0.0
    right = labels[:, 1:][wanted]
    if len(output) <= candidates:
        return F.cross_entropy((states[:, :-1][wanted] @ output.T).float(), right)
    present, place = torch.unique(right, return_inverse=True)
    absent = torch.ones(len(output), dtype=torch.bool)
    absent[present] = False
    others = absent.nonzero()[:, 0]
    drawn = others[torch.randperm(len(others))[: max(1, candidates - len(present))]]
    logits = (states[:, :-1][wanted] @ output[torch.cat([present, drawn])].T).float()
    correction = torch.zeros(logits.shape[1])
    correction[len(present) :] = math.log(len(others) / len(drawn))
    return F.cross_entropy(logits + correction, place)
