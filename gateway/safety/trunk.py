"""The trunk in llama.cpp: token ids in, hidden states and next-token logits out.

One context, many sequences, one unified key-value cache. Sequences that begin alike share their beginning: a token is
computed once and belongs to all of them. Not safe for two threads, except ``encode``.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import llama_cpp as native
import numpy as np
from numpy.typing import NDArray

from gateway.errors import ReleaseError
from gateway.safety.prompt import Vocabulary
from gateway.safety.template import SPECIAL_TOKENS

Floats = NDArray[np.float32]
MAX_SEQUENCES: Final = 64
BATCH_TOKENS: Final = 2048

_LOG = native.llama_log_callback(lambda level, text, data: None)


@dataclass(slots=True)
class _Node:
    token: int
    position: int
    sequences: list[int]
    children: dict[int, "_Node"] = field(default_factory=dict)


class Trunk:
    """A GGUF trunk, loaded. Use ``close`` when done."""

    def __init__(self, path: Path, *, threads: int, cells: int) -> None:
        """Load ``path`` with room for ``cells`` tokens over all sequences.

        Raises:
            ReleaseError: llama.cpp cannot load the file, or a token of the template is missing.
        """
        native.llama_log_set(_LOG, None)
        native.llama_backend_init()
        options = native.llama_model_default_params()
        options.n_gpu_layers = 0
        self._model = native.llama_model_load_from_file(str(path).encode(), options)
        if not self._model:
            raise ReleaseError(f"{path}: llama.cpp cannot load this file; reinstall the release")
        self._vocab = native.llama_model_get_vocab(self._model)
        settings = native.llama_context_default_params()
        settings.n_ctx = cells
        settings.n_batch = settings.n_ubatch = BATCH_TOKENS
        settings.n_seq_max = MAX_SEQUENCES
        settings.pooling_type = native.LLAMA_POOLING_TYPE_NONE
        settings.embeddings = False
        settings.kv_unified = True
        settings.n_threads = settings.n_threads_batch = threads
        self._context = native.llama_init_from_model(self._model, settings)
        if not self._context:
            raise ReleaseError(f"{path}: llama.cpp cannot make a context of {cells} tokens; lower safety.cells")
        self._memory = native.llama_get_memory(self._context)
        self._batch = native.llama_batch_init(BATCH_TOKENS, 0, MAX_SEQUENCES)
        self.width = int(native.llama_model_n_embd(self._model))
        self.vocab_size = int(native.llama_vocab_n_tokens(self._vocab))
        self.vocabulary = Vocabulary(self.encode, {token: self._special(token, path) for token in SPECIAL_TOKENS})

    def encode(self, text: str) -> list[int]:
        """Return the ids of ``text``; what looks like a special token stays text. Safe from any thread."""
        raw = text.encode("utf-8", "surrogatepass")
        room = len(raw) + 8
        ids = (native.llama_token * room)()
        count = native.llama_tokenize(self._vocab, raw, len(raw), ids, room, False, False)
        return list(ids[:count])

    def decode_text(self, ids: Sequence[int]) -> bytes:
        """Return the bytes that ``ids`` stand for; special tokens give nothing."""
        out = b""
        for token in ids:
            buffer = ctypes.create_string_buffer(256)
            size = native.llama_token_to_piece(self._vocab, token, buffer, 256, 0, False)
            out += buffer.raw[: max(0, size)]
        return out

    def prefill(self, prompts: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Compute ``(sequence, ids)`` pairs from position 0 on, shared beginnings once, without output.

        The caller sees to it that all of it fits ``BATCH_TOKENS`` after sharing, and that no two of these sequences
        belong to different organisations unless they share nothing.
        """
        root = _Node(-1, -1, [])
        order: list[_Node] = []
        for sequence, ids in prompts:
            node = root
            for position, token in enumerate(ids):
                child = node.children.get(token)
                if child is None:
                    child = _Node(token, position, [])
                    node.children[token] = child
                    order.append(child)
                child.sequences.append(sequence)
                node = child
        batch = self._batch
        for i, node in enumerate(order):
            batch.token[i] = node.token
            batch.pos[i] = node.position
            batch.n_seq_id[i] = len(node.sequences)
            for j, sequence in enumerate(node.sequences):
                batch.seq_id[i][j] = sequence
            batch.logits[i] = 0
        batch.n_tokens = len(order)
        self._decode()

    def advance(self, steps: Sequence[tuple[int, int, int]], *, hidden: bool) -> list[Floats]:
        """Compute one token for each ``(sequence, position, token)``.

        Returns the hidden states (width,) where ``hidden``, else the next-token logits (vocab,), in the same order.
        """
        batch = self._batch
        for i, (sequence, position, token) in enumerate(steps):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = 1
        batch.n_tokens = len(steps)
        if hidden:
            native.llama_set_embeddings(self._context, True)
        try:
            self._decode()
            read, size = (
                (native.llama_get_embeddings_ith, self.width)
                if hidden
                else (native.llama_get_logits_ith, self.vocab_size)
            )
            return [np.ctypeslib.as_array(read(self._context, i), (size,)).copy() for i in range(len(steps))]
        finally:
            if hidden:
                native.llama_set_embeddings(self._context, False)

    def append(self, sequence: int, position: int, ids: Sequence[int]) -> Floats:
        """Compute further ``ids`` of one sequence and return the next-token logits (vocab,) after the last."""
        for start in range(0, len(ids), BATCH_TOKENS):
            part = ids[start : start + BATCH_TOKENS]
            for i, token in enumerate(part):
                self._batch.token[i] = token
                self._batch.pos[i] = position + start + i
                self._batch.n_seq_id[i] = 1
                self._batch.seq_id[i][0] = sequence
                self._batch.logits[i] = int(i == len(part) - 1)
            self._batch.n_tokens = len(part)
            self._decode()
        return np.ctypeslib.as_array(native.llama_get_logits_ith(self._context, -1), (self.vocab_size,)).copy()

    def forget(self, sequence: int) -> None:
        """Free the cells of one sequence."""
        native.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        """Free the native objects."""
        native.llama_batch_free(self._batch)
        native.llama_free(self._context)
        native.llama_model_free(self._model)

    def _decode(self) -> None:
        status = native.llama_decode(self._context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")

    def _special(self, token: str, path: Path) -> int:
        raw = token.encode()
        ids = (native.llama_token * 16)()
        if native.llama_tokenize(self._vocab, raw, len(raw), ids, 16, False, True) != 1:
            raise ReleaseError(f"{path}: the template's token {token!r} is missing; export the release anew")
        return int(ids[0])
