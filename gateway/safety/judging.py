"""From conversations to verdicts on a loaded trunk: rendering, cache, micro-batches, rationales, replies.

Runs inside the judge's process. ``prepare`` may run on any thread; everything else belongs to the one that owns the
trunk.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from gateway.parts import Conversation
from gateway.safety.cache import ReadOut, VerdictCache
from gateway.safety.head import Head, load_head
from gateway.safety.prompt import Prompt, judged_bytes, rationale_opening, render, task_prompt
from gateway.safety.release import Release
from gateway.safety.template import END, END_OF_TEXT, INVOCATION, TEMPLATE_VERSION
from gateway.safety.trunk import BATCH_TOKENS, Floats, Trunk
from gateway.verdict import Label, Reading, Verdict

RATIONALE_TOKENS: Final = 48
READING_SEQUENCES: Final = 48
"""Sequences of one micro-batch; the rest of the trunk's sequences belong to running generations."""
GENERATIONS: Final = 12


@dataclass(slots=True)
class Job:
    """A conversation on its way to a verdict."""

    id: int
    organization: str
    conversation: Conversation
    prompts: list[Prompt]
    keys: list[bytes]
    rationale: bool
    found: list[ReadOut | None]
    cached: bool = False

    @property
    def missing(self) -> list[int]:
        """Indices of the prompts that no read-out is known for."""
        return [i for i, found in enumerate(self.found) if found is None]


@dataclass(slots=True)
class Generation:
    """A text being written, one token a step. ``emit`` gets its new bytes; ``finish`` is called once at the end."""

    sequence: int
    position: int
    remaining: int
    emit: Callable[[bytes], None]
    finish: Callable[[], None]
    logits: Floats
    written: list[int] = field(default_factory=list)
    cancelled: bool = False


class Judging:
    """The Safety head and the Task head of one release on one trunk."""

    def __init__(self, release: Release, *, threads: int, cells: int, cache_size: int) -> None:
        self.release = release
        self.head: Head = load_head(release)
        self.trunk = Trunk(release.trunk, threads=threads, cells=cells)
        self.cache = VerdictCache(release.digest, cache_size)
        self.generations: list[Generation] = []
        self._free = list(range(READING_SEQUENCES, READING_SEQUENCES + GENERATIONS))
        special = self.trunk.vocabulary.special
        self._invocation = self.trunk.vocabulary.invocation
        self._ends = {special[END], special[END_OF_TEXT]}
        self._banned = [i for token, i in special.items() if i not in self._ends]

    def prepare(
        self, job: int, organization: str, conversation: Conversation, *, last_only: bool, rationale: bool
    ) -> Job:
        """Render a conversation and look its prompts up in the cache."""
        vocabulary = self.trunk.vocabulary
        prompts = render(conversation, vocabulary, window=self.release.window, last_only=last_only)
        keys = [self.cache.key(organization, prompt.ids) for prompt in prompts]
        found = [self.cache.get(key) for key in keys]
        prepared = Job(job, organization, conversation, prompts, keys, rationale, found)
        prepared.cached = not prepared.missing
        return prepared

    def read(self, jobs: Sequence[Job]) -> None:
        """Fill in the missing read-outs of ``jobs`` in micro-batches."""
        waiting = [(job, i) for job in jobs for i in job.missing]
        waiting.sort(key=lambda pair: pair[0].organization)
        while waiting:
            taken = 0
            tokens = 0
            while taken < len(waiting) and taken < READING_SEQUENCES:
                job, i = waiting[taken]
                size = len(job.prompts[i].ids) + len(INVOCATION)
                if taken and tokens + size > BATCH_TOKENS:
                    break
                tokens += size
                taken += 1
            self._read_batch(waiting[:taken])
            waiting = waiting[taken:]

    def _read_batch(self, batch: Sequence[tuple[Job, int]]) -> None:
        *before, last = self._invocation
        sequences: list[tuple[int, Sequence[int]]] = []
        try:
            for group in _by_organization(batch):
                prompts = [(len(sequences) + n, (*job.prompts[i].ids, *before)) for n, (job, i) in enumerate(group)]
                sequences += prompts
                self.trunk.prefill(prompts)
            steps = [(sequence, len(ids), last) for sequence, ids in sequences]
            for (job, i), hidden in zip(batch, self.trunk.advance(steps, hidden=True), strict=True):
                read = ReadOut(self.head.score(hidden), self.head.score_domains(hidden))
                job.found[i] = read
                self.cache.put(job.keys[i], read)
        finally:
            for sequence, _ in sequences:
                self.trunk.forget(sequence)

    def verdict(self, job: Job) -> tuple[Verdict, int]:
        """Return the worst of a job's readings (without rationale) and the index of the prompt that it came from."""
        thresholds = self.release.thresholds
        found = [read for read in job.found if read is not None]
        worst = max(
            range(len(found)),
            key=lambda i: (thresholds.label(found[i].scores).severity, found[i].scores.refuse, -found[i].scores.allow),
        )
        read = found[worst]
        label = thresholds.label(read.scores)
        verdict = Verdict(
            label=label,
            scores=read.scores,
            domain=self.head.domain_of(label, read.domains),
            domains=self.head.by_name(read.domains),
            pointer=job.prompts[worst].pointer,
            release=self.release.id,
            release_digest=self.release.digest,
            template=TEMPLATE_VERSION,
            judged_bytes=judged_bytes(job.conversation),
            readings=tuple(
                Reading(prompt.pointer, one.scores, self.head.by_name(one.domains))
                for prompt, one in zip(job.prompts, found, strict=True)
            ),
            unjudged=job.conversation.unjudged,
            cached=job.cached,
        )
        return verdict, worst

    @property
    def can_generate(self) -> bool:
        """Whether a sequence is free for another generation."""
        return bool(self._free)

    def start_rationale(self, prompt: Prompt, label: Label, domain: str | None, finish: Callable[[str], None]) -> None:
        """Begin to write why ``prompt`` got ``label``; ``finish`` gets the text."""
        opening = rationale_opening(label, domain, self.trunk.vocabulary)
        written: list[bytes] = []
        self._start(
            (*prompt.ids, *self._invocation, *opening),
            RATIONALE_TOKENS,
            written.append,
            lambda: finish(b"".join(written).decode("utf-8", "replace").replace("\ufffd", "").strip()),
        )

    def start_reply(
        self, conversation: Conversation, limit: int, emit: Callable[[bytes], None], finish: Callable[[], None]
    ) -> Generation:
        """Begin the Task head's reply of at most ``limit`` tokens; the oldest tokens go when it is too long."""
        ids = task_prompt(conversation, self.trunk.vocabulary)
        return self._start(ids[-self.release.window :], limit, emit, finish)

    def _start(
        self, ids: Sequence[int], limit: int, emit: Callable[[bytes], None], finish: Callable[[], None]
    ) -> Generation:
        sequence = self._free.pop()
        logits = self.trunk.append(sequence, 0, ids)
        generation = Generation(sequence, len(ids), limit, emit, finish, logits)
        self.generations.append(generation)
        return generation

    def step(self) -> None:
        """Write one more token of every running generation, greedily."""
        steps: list[tuple[int, int, int]] = []
        going: list[Generation] = []
        for generation in self.generations:
            token = self._choose(generation)
            if token in self._ends or generation.remaining <= 0 or generation.cancelled:
                self.trunk.forget(generation.sequence)
                self._free.append(generation.sequence)
                generation.finish()
                continue
            generation.written.append(token)
            generation.emit(self.trunk.decode_text([token]))
            generation.remaining -= 1
            steps.append((generation.sequence, generation.position, token))
            generation.position += 1
            going.append(generation)
        self.generations = going
        if steps:
            for generation, logits in zip(going, self.trunk.advance(steps, hidden=False), strict=True):
                generation.logits = logits

    def _choose(self, generation: Generation) -> int:
        logits = generation.logits
        logits[self._banned] = -np.inf
        recent = list(set(generation.written[-64:]))
        logits[recent] -= 1.2
        return int(logits.argmax())


def _by_organization(batch: Sequence[tuple[Job, int]]) -> Iterable[list[tuple[Job, int]]]:
    groups: dict[str, list[tuple[Job, int]]] = {}
    for pair in batch:
        groups.setdefault(pair[0].organization, []).append(pair)
    return groups.values()
