"""The special tokens of prompt template 1 and what each is for."""

from typing import Final

TEMPLATE_VERSION: Final = 1

END_OF_TEXT: Final = "<|endoftext|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"
TOOL_CALL: Final = "<|tool_call|>"
INVOCATION: Final = tuple(f"<|safety_{i}|>" for i in range(1, 9))
"""Appended to a rendered conversation to ask for a verdict. The head reads the hidden state of the last one."""
LABEL_WORDS: Final = {"ALLOW": "<|allow|>", "REFUSE": "<|refuse|>", "ESCALATE": "<|escalate|>"}
"""Opens the rationale, so that it is conditioned on the final label."""

SPECIAL_TOKENS: Final = (END_OF_TEXT, START, END, TOOL_CALL, *INVOCATION, *LABEL_WORDS.values())
"""In the order of their ids, which start at 0 in a tokeniser grown here."""
