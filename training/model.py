"""The trunk with its two heads: a causal language model (Task head) and linear read-outs (Safety head)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.utils import ModelOutput

from training.config import TrunkShape


@dataclass
class TwoHeadedOutput(ModelOutput):  # type: ignore[misc]
    """Output of one forward pass; ``verdict`` is (batch, 3) and ``domains`` (batch, domains), both logits."""

    loss: Tensor | None = None
    verdict: Tensor | None = None
    domains: Tensor | None = None


class TwoHeadedModel(Qwen3ForCausalLM):  # type: ignore[misc]
    """A Qwen3 trunk, its language-model head, and the Safety head's two linear layers.

    The Safety head reads the final (normalised) hidden state at ``read_at``: the last invocation token.
    """

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        self.verdict_head = nn.Linear(config.hidden_size, 3)
        self.domain_head = nn.Linear(config.hidden_size, config.so8t_domains)
        self.pooled_head = nn.Linear(config.hidden_size, 3)
        """Reads the mean hidden state of the prompt while training; not part of a release."""
        self.post_init()

    def read(self, input_ids: Tensor, attention_mask: Tensor, read_at: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden states (batch, tokens, width) and those at ``read_at`` (batch, width)."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states, states[torch.arange(len(read_at)), read_at]


def build_trunk(shape: TrunkShape, domains: int) -> TwoHeadedModel:
    """Return a randomly initialised model of this shape."""
    config = Qwen3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        use_cache=False,
    )
    config.so8t_domains = domains
    return TwoHeadedModel(config)
