"""What of a streamed reply may pass after which judgement: the contracts ``hold``, ``window`` and ``full``.

Nothing here judges or sends. Events come in, in order, with the text that each adds to each choice; ``due`` says which
texts to judge next, and ``allow`` returns the events that may pass once they were allowed.

- ``hold``: text passes at once; from the first piece of an action on, in any choice, everything waits for the end.
- ``window``: the text of every choice is judged in windows that overlap. An event passes when its text, and
  ``overlap`` characters behind it (or the end), lie in judged windows; so what is forbidden and no longer than
  ``overlap`` is seen whole before its first character passes. Actions wait for the end.
- ``full``: everything waits for the end.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Contract = Literal["hold", "window", "full"]

SIZE: Final = 2000
OVERLAP: Final = 400


@dataclass(frozen=True, slots=True)
class Window:
    """Texts to judge: for each choice, a stretch of what it said. ``final`` asks for the reply as a whole, acts too."""

    texts: Mapping[int, str]
    ends: Mapping[int, int]
    final: bool = False


@dataclass(slots=True)
class _Said:
    """One choice's text from ``start`` on; what lies before is judged and no longer needed."""

    text: str = ""
    start: int = 0
    judged: int = 0

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def window(self, overlap: int) -> str:
        return self.text[max(0, self.judged - overlap - self.start) :]


@dataclass(frozen=True, slots=True)
class _Event:
    data: bytes
    ends: Mapping[int, int]
    """Where the text of each choice ends with this event, of those that it adds to."""
    acts: bool


@dataclass(slots=True)
class Windows:
    """The events of one stream under one contract. Sizes are in characters."""

    contract: Contract = "hold"
    size: int = SIZE
    overlap: int = OVERLAP
    acts: bool = False
    _said: dict[int, _Said] = field(default_factory=dict)
    _waiting: deque[_Event] = field(default_factory=deque)
    _ended: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < self.size:
            raise ValueError("`overlap` must be less than `size`, and neither below zero")

    def add(self, data: bytes, texts: Mapping[int, str], *, acts: bool = False) -> bytes:
        """Take an event and the text that it adds to each choice; return what may pass without a judgement."""
        self.acts = self.acts or acts
        for choice, text in texts.items():
            said = self._said.setdefault(choice, _Said())
            if self.contract == "window":
                said.text += text
        if self.contract == "hold" and not self.acts:
            return data
        ends = {choice: self._said[choice].end for choice, text in texts.items() if text}
        self._waiting.append(_Event(data, ends, self.acts))
        return b""

    def due(self) -> Window | None:
        """Return what must be judged before more may pass, None while no choice has a stride of new text.

        After ``end`` the one final window is due when anything waits or was never judged.
        """
        if self._ended:
            texts = {choice: said.window(self.overlap) for choice, said in self._said.items()}
            wanted = self._waiting or any(said.judged < said.end for said in self._said.values())
            return Window(texts, self._ends(), final=True) if wanted else None
        if self.contract != "window":
            return None
        stride = self.size - self.overlap
        if all(said.end - said.judged < stride for said in self._said.values()):
            return None
        return Window({choice: said.window(self.overlap) for choice, said in self._said.items()}, self._ends())

    def allow(self, window: Window) -> bytes:
        """Take note that ``window`` was judged and allowed; return the events that may pass now."""
        for choice, end in window.ends.items():
            said = self._said[choice]
            said.judged = max(said.judged, end)
            kept = max(said.start, said.judged - self.overlap)
            said.text, said.start = said.text[kept - said.start :], kept
        passed = []
        while self._waiting and (window.final or self._may_pass(self._waiting[0])):
            passed.append(self._waiting.popleft().data)
        return b"".join(passed)

    def end(self) -> None:
        """Take note that the stream has its end: the final window is due."""
        self._ended = True

    @property
    def waits(self) -> bool:
        """Whether events wait for a judgement."""
        return bool(self._waiting)

    def _may_pass(self, event: _Event) -> bool:
        """Events pass in order, so all before this one passed; its own text must lie well behind the judged end."""
        if event.acts or self.contract != "window":
            return False
        return all(end <= self._said[choice].judged - self.overlap for choice, end in event.ends.items())

    def _ends(self) -> dict[int, int]:
        return {choice: said.end for choice, said in self._said.items()}
