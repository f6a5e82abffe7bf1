"""Reading values so that no string is lost: each becomes text for the judge, a mark, or is listed as unjudged."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.parts import Mark, Unjudged
from gateway.wire.strict import dumps, join

MAX_WORDS: Final = 4
"""Words of one mark; a longer string has room for a sentence."""
MAX_WORDS_TOGETHER: Final = 24
"""Words of all the marks of one value."""

_MARK: Final = re.compile(r"[A-Za-z0-9_.:|/=+@-]{0,512}")
_WORD: Final = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z]?[a-z]+|[A-Z]+)(?![A-Za-z0-9])")
_LETTERS: Final = re.compile(r"[A-Za-z]{24}")
_SEALED: Final = re.compile(r"[A-Za-z0-9+/=_.:-]*")

MAX_BYTE: Final = 255

OPAQUE: Final[Mapping[str, str]] = {
    "image_url": "an image cannot be judged",
    "image_file": "an image cannot be judged",
    "b64_json": "an image cannot be judged",
    "partial_image_b64": "an image cannot be judged",
    "input_audio": "audio cannot be judged",
    "audio": "audio cannot be judged",
    "file_data": "a file cannot be judged",
    "file_id": "a file cannot be judged",
    "file_ids": "a file cannot be judged",
    "file_url": "a file cannot be judged",
    "data": "data cannot be judged",
    "container_id": "a container of files cannot be judged",
    "encrypted_content": "encrypted content cannot be judged",
    "encrypted_index": "encrypted content cannot be judged",
    "encrypted_stdout": "encrypted content cannot be judged",
    "signature": "encrypted content cannot be judged",
}
"""Fields whose value stands for something that is not there to be read."""
SEALED: Final = ("encrypted_content", "encrypted_index", "encrypted_stdout", "signature")
"""Those of them that only the upstream can open again."""
IDS: Final = ("file_id", "file_ids", "container_id")
"""Those that are only ids where the upstream wrote them."""


def count_words(text: str) -> int:
    """Count the words between the marks of ``text``."""
    return len(_WORD.findall(text))


def is_mark(value: str) -> bool:
    """Tell whether ``value`` is a name or an opaque id: no blanks, few words, no long run of letters."""
    return _MARK.fullmatch(value) is not None and count_words(value) <= MAX_WORDS and not _LETTERS.search(value)


def leaves(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    """Yield every string and every key of ``value`` with its pointer, in order."""
    if isinstance(value, str):
        yield pointer, value
    elif isinstance(value, dict):
        for key, item in value.items():
            at = join(pointer, key)
            yield at, key
            yield from leaves(item, at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, join(pointer, index))


@dataclass(slots=True)
class Reading:
    """Collects what one request or one choice of a reply holds besides its messages.

    ``trusted`` says that the upstream wrote it: what only the upstream can open again is then a mark.
    """

    trusted: bool = False
    unjudged: list[Unjudged] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def refuse(self, pointer: str, reason: str) -> None:
        """List a part as unjudged."""
        self.unjudged.append(Unjudged(pointer, reason))

    def mark(self, value: object, pointer: str) -> None:
        """Keep every string of a value whose narrow shape was checked already."""
        self.marks += [Mark(at, text) for at, text in leaves(value, pointer) if text]

    def read(self, value: object, pointer: str) -> str:
        """Return ``value`` as the text that the judge reads, "" where it holds nothing but marks."""
        if isinstance(value, str):
            if not is_mark(value):
                return value
            self.mark(value, pointer)
            return ""
        if not isinstance(value, dict | list):
            return ""
        found = list(leaves(value, pointer))
        few = sum(count_words(text) for _, text in found) <= MAX_WORDS_TOGETHER
        if few and all(is_mark(text) for _, text in found):
            self.marks += [Mark(at, text) for at, text in found if text]
            return ""
        return dumps(value).decode()

    def read_media(self, value: object, pointer: str) -> str:
        """Like ``read`` for what a tool or a model made: images, files and sealed content in it are listed."""
        return self.read(self._without_opaque(value, pointer), pointer)

    def labelled(self, name: str, value: object, pointer: str) -> str:
        """Like ``read``, with the field's name before the text."""
        text = self.read(value, pointer)
        return f"{name}: {text}" if text else ""

    def others(self, value: Mapping[str, Any], known: Collection[str], pointer: str) -> None:
        """List the fields of ``value`` that are not ``known`` and not null as unjudged."""
        for name, item in value.items():
            if name not in known and item is not None:
                self.refuse(join(pointer, name), "unknown field")

    def sealed(self, value: object, pointer: str) -> None:
        """Take in what only the upstream can open: a mark where the upstream sent it, else unjudged."""
        if value is None or value == "":
            return
        if self.trusted and isinstance(value, str) and _SEALED.fullmatch(value):
            self.marks.append(Mark(pointer, value))
        else:
            self.refuse(pointer, "encrypted content cannot be judged")

    def signature(self, value: object, pointer: str) -> None:
        """Take in a proof about text that is judged: a mark where it is shaped like one, else unjudged."""
        if isinstance(value, str) and _SEALED.fullmatch(value):
            self.mark(value, pointer)
        elif value is not None:
            self.refuse(pointer, "a signature with free text")

    def _without_opaque(self, value: object, pointer: str) -> object:
        """Return ``value`` without what cannot be read, which is listed."""
        if isinstance(value, list):
            return [self._without_opaque(item, join(pointer, index)) for index, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        kept = {}
        for name, item in value.items():
            at = join(pointer, name)
            if name in SEALED and isinstance(item, str):
                self.sealed(item, at)
            elif name in OPAQUE and isinstance(item, str | list | dict) and item and not (self.trusted and name in IDS):
                self.refuse(at, OPAQUE[name])
            else:
                kept[name] = self._without_opaque(item, at)
        return kept


class Strands:
    """The strings of fields that have no place of their own, each field's pieces put together again.

    Fields of a stream come in pieces that form one text; what is repeated in every event is taken once.
    """

    def __init__(self) -> None:
        self._woven: dict[str, list[str]] = {}
        self._bytes: dict[str, bytearray] = {}
        self._single: dict[tuple[str, str], None] = {}

    def weave(self, value: object, pointer: str) -> None:
        """Add the next piece of a field."""
        pieces: dict[str, list[str]] = {}
        self._walk(value, pointer, pieces)
        for path, texts in pieces.items():
            separator = "" if path.endswith(("/token", "/tokens")) else "\n"
            self._woven.setdefault(path, []).append(separator.join(texts))

    def once(self, value: object, pointer: str) -> None:
        """Add a field whose strings say the same each time that they come."""
        for at, text in leaves(value, pointer):
            if text:
                self._single.setdefault((at, text))

    def _walk(self, value: object, path: str, pieces: dict[str, list[str]]) -> None:
        if isinstance(value, str):
            pieces.setdefault(path, []).append(value)
        elif isinstance(value, list):
            if path.endswith("/bytes") and all(isinstance(item, int) and 0 <= item <= MAX_BYTE for item in value):
                self._bytes.setdefault(path, bytearray()).extend(value)
                return
            for item in value:
                self._walk(item, path, pieces)
        elif isinstance(value, dict):
            for key, item in value.items():
                at = join(path, key)
                self._single.setdefault((at, key))
                self._walk(item, at, pieces)

    def found(self) -> list[Mark]:
        """Return everything that was added, put together."""
        woven = [Mark(path, "".join(texts)) for path, texts in self._woven.items()]
        raw = [Mark(path, data.decode("utf-8", "replace")) for path, data in self._bytes.items()]
        return [*woven, *raw, *(Mark(path, text) for path, text in self._single)]

    def texts(self, reading: Reading, said: str) -> list[str]:
        """Return what the judge reads of it, besides what was ``said`` already; the rest becomes marks."""
        found = (reading.read(one.text, one.pointer) for one in self.found() if one.text and one.text not in said)
        return [text for text in found if text]
