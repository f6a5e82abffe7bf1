"""The tokeniser of a trunk grown here: byte-level BPE with the pre-tokeniser that llama.cpp calls ``qwen2``.

No normaliser: llama.cpp applies none, and a judge must see the bytes that were sent.
"""

from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from gateway.safety.template import SPECIAL_TOKENS

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def grow_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a tokeniser whose first ids are the template's special tokens.

    ``encode`` treats special tokens inside a text as ordinary text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=48,
        show_progress=True,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True
    return tokenizer


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``; special tokens inside a text stay ordinary text."""
    tokenizer: Tokenizer = Tokenizer.from_file(str(path))
    tokenizer.encode_special_tokens = True
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the id of every token of the template.

    Raises:
        ValueError: the tokeniser lacks one.
    """
    ids = {}
    for token in SPECIAL_TOKENS:
        index = tokenizer.token_to_id(token)
        if index is None:
            raise ValueError(f"the tokeniser lacks the template's token {token}")
        ids[token] = index
    return ids
