"""The only composition root: what the gateway consists of, in which order it starts, and in which it stops."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.routing import Mount, Router
from starlette.types import Receive, Scope, Send

from gateway.console import create_console
from gateway.entries import SHA256
from gateway.errors import AuditUnavailable, RequestError, SettingsError
from gateway.escalation.cases import Cases
from gateway.escalation.channels import create_channels
from gateway.escalation.delivery import Delivery
from gateway.escalation.outbox import Outbox
from gateway.holding import Room
from gateway.http.auth import Authenticator
from gateway.http.case_commands import CaseCommands
from gateway.http.control import Control
from gateway.http.endpoints import Api, Services
from gateway.parts import Conversation
from gateway.pipeline import Pipeline
from gateway.policy import Bundle, EffectivePolicy, PolicyStore
from gateway.policy.shadow import ShadowStore
from gateway.rules import PolicyRules
from gateway.safety.engine import EngineOptions, SafetyEngine
from gateway.safety.template import TEMPLATE_VERSION
from gateway.settings import Settings
from gateway.store.directory import DataDirectory
from gateway.store.inputs import expire_inputs
from gateway.store.keys import OPERATOR, KeyInfo, list_keys
from gateway.store.records import Administrator, acting
from gateway.store.store import Store
from gateway.store.users import now_ms
from gateway.telemetry import logger
from gateway.upstream.base import Upstream
from gateway.upstream.http import HttpUpstream
from gateway.upstream.local import LocalUpstream
from gateway.verdict import Stage, Thresholds, Verdict

CONSOLE: Final = "/console"
EXPIRE_S: Final = 1.0
"""Time between two looks for cases whose time is over."""
DAY_MS: Final = 86_400_000
EXPIRE_AT_ONCE: Final = 1000
EXPIRE_INPUTS_S: Final = 3600.0
"""Time between two looks for recorded policy inputs that are too old."""


class EngineRelease(Protocol):
    """What a release tells of itself."""

    @property
    def id(self) -> str:
        """Its name."""
        ...

    @property
    def digest(self) -> str:
        """``sha256:`` and the digest of its manifest."""
        ...

    @property
    def thresholds(self) -> Thresholds:
        """Its own thresholds."""
        ...


class Engine(Protocol):
    """The safety engine, as the gateway uses it."""

    @property
    def state(self) -> str:
        """``ready``, or what it is instead."""
        ...

    @property
    def release(self) -> EngineRelease:
        """What judges."""
        ...

    async def start(self) -> None:
        """Return once it judges."""
        ...

    async def close(self) -> None:
        """End it."""
        ...

    async def judge(
        self, organization: str, conversation: Conversation, *, stage: Stage, rationale: bool = False
    ) -> Verdict:
        """Return the verdict or raise JudgeUnavailable."""
        ...

    def generate(self, conversation: Conversation, max_tokens: int) -> AsyncIterator[str]:
        """Yield the Task head's reply."""
        ...


class Gateway:
    """A gateway: everything that ``start`` opens and ``close`` closes. ``refused`` says why it did not start."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self.settings = settings
        self.engine = engine
        self.policies = PolicyStore(settings.policy.directory, release=engine.release.id)
        self.shadow = _shadow(settings, engine)
        self.upstream = _upstream(settings, engine)
        self.policy_problems: tuple[str, ...] = ()
        self._reloading = asyncio.Lock()
        self._running: AsyncExitStack | None = None
        self._store: Store | None = None
        self._api: Api | None = None
        self._console: Router | None = None
        self._delivery: Delivery | None = None
        self._pipeline: Pipeline | None = None

    @property
    def store(self) -> Store:
        """The store of a gateway that runs."""
        if self._store is None:
            raise RuntimeError("the gateway does not run")
        return self._store

    @property
    def running(self) -> bool:
        """Whether it was started and not closed."""
        return self._running is not None

    async def start(self) -> None:
        """Open the store, start the judge, and be ready to answer.

        Raises GatewayError: something that it needs is missing, wrong or in use.
        """
        settings = self.settings
        async with AsyncExitStack() as stack:
            store = await asyncio.to_thread(Store, DataDirectory(settings.store.data_dir))
            stack.push_async_callback(asyncio.to_thread, store.close)
            if not settings.server.loopback and store.keys.empty():
                raise SettingsError(
                    f"{settings.server.host} can be reached by others and there is no key: listen on 127.0.0.1, or "
                    f"make one with `so8t keys create --org ORG --owner NAME --data-dir {settings.store.data_dir}`"
                )
            self._store = store
            stack.push_async_callback(self.upstream.close)
            await self.engine.start()
            stack.push_async_callback(self.engine.close)
            cases = self._open_cases(store)
            await self._recover(cases)
            delivery = self._delivery = self._open_delivery(store, cases)
            await delivery.start()
            stack.push_async_callback(delivery.close)
            pipeline = self._pipeline = self._line(store, cases)
            stack.push_async_callback(self._stop, pipeline)
            self._api = Api(self._services(pipeline, cases))
            stack.push_async_callback(self._api.close)
            self._console = self._mount_console(store, cases, delivery)
            await store.trail.record(OPERATOR, "started", self._started())
            commands = CaseCommands(cases)
            control = Control(
                store.directory.socket,
                store.keys.command,
                self.keys,
                users=store.users.command,
                cases=commands.command,
                policy=self._command_policy,
            )
            await control.start()
            stack.push_async_callback(control.close)
            for watch in (self._watch_policies(), self._watch_cases(cases), self._watch_inputs(store)):
                stack.push_async_callback(_end, asyncio.create_task(watch))
            self._running = stack.pop_all()

    def dismiss(self) -> None:
        """Send away who waits for people to decide, before the server waits for its connections to end."""
        if self._pipeline is not None:
            self._pipeline.dismiss()

    async def close(self) -> None:
        """Stop in the opposite order; what was accepted is answered and recorded before."""
        if self._running is not None:
            running, self._running = self._running, None
            await running.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._api is None or self._console is None:
            raise RuntimeError("the gateway does not run")
        path: str = scope["path"]
        if path == CONSOLE or path.startswith(CONSOLE + "/"):
            await self._console(scope, receive, send)
        else:
            await self._api(scope, receive, send)

    def problems(self) -> Mapping[str, str]:
        """Return what keeps it from serving, by component."""
        found = {}
        if self.engine.state != "ready":
            found["judge"] = self.engine.state
        if self.store.problem is not None:
            found["audit"] = "the audit log cannot be written or published"
        return found

    def warnings(self) -> Mapping[str, str]:
        """Return what people should look at although it serves, by component."""
        found = {}
        if problems := self._delivery.problems() if self._delivery is not None else []:
            found["delivery"] = f"people could not be told of {len(problems)} cases by every channel"
        if self.policy_problems:
            found["policies"] = "the policy files are wrong; what was in force stays"
        return found

    def keys(self) -> list[KeyInfo]:
        """Return every key without its secret."""
        with self.store.reader.connect() as connection:
            return list_keys(connection)

    def summary(self) -> dict[str, str]:
        """Return what holds, in lines for people."""
        release, policy = self.engine.release, self.settings.policy.directory
        count = sum(key.revoked_at is None for key in self.keys())
        return {
            "callers": f"{count} keys"
            if count
            else "no keys yet: whoever is on this machine speaks for the organisation `default`",
            "upstream": self.settings.upstream.url or f"the built-in Task head, as the model `{release.id}`",
            "release": f"{release.id} ({release.digest[:19]})",
            "policies": f"{policy or 'the built-in base only'} ({self.policies.current.revision[:19]})",
            "data": str(self.settings.store.data_dir),
            "audit key": str(self.store.verifier),
        }

    def _open_cases(self, store: Store) -> Cases:
        limits = self.settings.escalation
        return Cases(
            store.reader,
            store.writer,
            store.trail,
            open_per_key=limits.open_per_key,
            approval_ttl_s=limits.approval_ttl_s,
            replay_s=limits.replay_s,
            remember_s=limits.remember_s,
        )

    async def _recover(self, cases: Cases) -> None:
        """Put before people again what was under way when an earlier gateway ended."""
        for case in await cases.recover():
            logger.warning("it is not known what became of an approved request: people are asked", case=case.id)

    def _open_delivery(self, store: Store, cases: Cases) -> Delivery:
        outbox = Outbox(store.reader, store.writer, store.trail)
        return Delivery(outbox, cases, create_channels(self.settings), console_url=self._console_url())

    def _console_url(self) -> str:
        server = self.settings.server
        return (self.settings.console.url or f"http://{server.host}:{server.port}").rstrip("/")

    def _mount_console(self, store: Store, cases: Cases, delivery: Delivery) -> Router:
        url = self.settings.console.url
        console = create_console(cases, store.users, store.sessions, console_url=url, problems=delivery.problems)
        return Router([Mount(CONSOLE, app=console)])

    def _line(self, store: Store, cases: Cases) -> Pipeline:
        limits = self.settings.escalation
        return Pipeline(
            self.engine,
            PolicyRules(
                self.policies,
                self.engine.release.thresholds,
                shadow=self.shadow,
                trusted=self.settings.upstream.is_trusted,
            ),
            store.trail,
            cases,
            self.upstream,
            judge_timeout_s=self.settings.safety.timeout_s,
            room=Room(limits.waiters, limits.waiters_per_key),
        )

    def _services(self, pipeline: Pipeline, cases: Cases) -> Services:
        server = self.settings.server
        return Services(
            pipeline=pipeline,
            cases=cases,
            upstream=self.upstream,
            authenticator=Authenticator(self.store.keys, loopback=server.loopback),
            health=self,
            body_limit=server.body_limit,
            body_timeout_s=server.body_timeout_s,
        )

    def _started(self) -> dict[str, str | int]:
        release = self.engine.release
        return {
            "version": installed_version(),
            "release": release.id,
            "release_digest": release.digest.removeprefix(SHA256),
            "template": TEMPLATE_VERSION,
            "revision": self.policies.current.revision.removeprefix(SHA256),
        }

    async def _stop(self, pipeline: Pipeline) -> None:
        await pipeline.drain()
        with suppress(AuditUnavailable):
            await self.store.trail.record(OPERATOR, "stopped", {})

    async def _watch_cases(self, cases: Cases) -> None:
        """Expire what nobody decided or used in time."""
        while True:
            await asyncio.sleep(EXPIRE_S)
            try:
                await cases.expire()
            except Exception:  # noqa: BLE001 - it looks again
                logger.exception("the cases could not be looked at")

    async def _watch_inputs(self, store: Store) -> None:
        """Erase recorded policy inputs that are older than they may be: now and each hour, few at a time."""
        while True:
            before = now_ms() - round(self.settings.policy.keep_inputs_days * DAY_MS)
            erased = EXPIRE_AT_ONCE
            try:
                while erased == EXPIRE_AT_ONCE:
                    erased = await store.writer.submit(partial(expire_inputs, before=before, most=EXPIRE_AT_ONCE))
            except Exception:  # noqa: BLE001 - it looks again
                logger.exception("old policy inputs could not be erased")
            await asyncio.sleep(EXPIRE_INPUTS_S)

    async def _watch_policies(self) -> None:
        """Take changed policies into force, each with its entry; wrong ones are told and change nothing."""
        while True:
            await asyncio.sleep(self.settings.policy.poll_s)
            try:
                if await asyncio.to_thread(self.policies.changed):
                    await self.reload_policies("file")
                if self.shadow is not None and await asyncio.to_thread(self.shadow.changed):
                    await self._reload_shadow(self.shadow, "file")
            except Exception:  # noqa: BLE001 - it looks again
                logger.exception("the policies could not be looked at")

    async def _reload_shadow(self, shadow: ShadowStore, auth: str) -> None:
        """Take the shadow's files, or its end, with an entry."""
        for problem in await asyncio.to_thread(shadow.reload):
            logger.error("the shadow policies are wrong; nothing is decided by them", problem=problem)
        held = shadow.current
        revision = (held or self.policies.current).revision.removeprefix(SHA256)
        name = "shadow" if held is not None else "no-shadow"
        await self.store.trail.record(OPERATOR, "policy_loaded", {"policy": name, "revision": revision, "auth": auth})
        logger.info("shadow policies looked at", shadow=name, revision=revision, percent=shadow.percent)

    async def reload_policies(self, auth: str, by: Administrator | None = None) -> tuple[str, ...]:
        """Take the policy files into force whole, each change after its entry, or return their problems.

        No decision is made by a policy whose entry is not durable; AuditUnavailable when it cannot be.
        ``auth`` says what it was noticed by: ``file`` (they changed), ``signal`` (SIGHUP), or ``cli`` with ``by``.
        """
        async with self._reloading:
            found = await asyncio.to_thread(self.policies.look)
            before, after = self.policies.current, found.bundle or self.policies.current
            for problem in found.problems:
                logger.error("a policy file is wrong; what was in force stays", problem=problem, by=auth)
            changes = _changes(before, after)
            for organization, policy in changes.items():
                fields = {
                    "policy": policy.name,
                    "revision": policy.revision.removeprefix(SHA256),
                    "previous": _held(before, organization).revision.removeprefix(SHA256),
                    "auth": auth,
                }
                if by is not None:
                    fields |= acting(await self.store.trail.key(organization), by)
                await self.store.trail.record(organization, "policy_loaded", fields)
            self.policies.take(found)
            self.policy_problems = found.problems
            for organization, policy in changes.items():
                logger.info("policy loaded", organization=organization, revision=policy.revision, by=auth)
            return found.problems

    async def _command_policy(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do what ``POST /control/policy`` asks for: ``{"action": "reload", "actor"}``, actor the system's user.

        Gives ``{"ok", "problems", "revision"}``: of the whole bundle that is in force then. RequestError: it is wrong.
        """
        actor = body.get("actor")
        if body.get("action") != "reload" or not isinstance(actor, str) or not actor:
            raise RequestError("a command about policies is `reload`, with `actor`")
        problems = await self.reload_policies("cli", Administrator(actor[:200]))
        if self.shadow is not None and await asyncio.to_thread(self.shadow.changed):
            await self._reload_shadow(self.shadow, "cli")
        return {"ok": not problems, "problems": list(problems), "revision": self.policies.current.revision}


def create_app(settings: Settings, *, engine: Engine | None = None) -> Starlette:
    """Return the gateway as an ASGI application; it runs from the lifespan's start to its end.

    ``app.state.gateway`` is the Gateway. One that runs already is left to whoever started it.

    Raises GatewayError: the release or the policies are wrong.
    """
    if engine is None:
        options = EngineOptions(release=settings.safety.release, timeout_s=settings.safety.timeout_s)
        engine = SafetyEngine(options)
    gateway = Gateway(settings, engine)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        started_here = not gateway.running
        if started_here:
            await gateway.start()
        try:
            yield
        finally:
            if started_here:
                await gateway.close()

    app = Starlette(lifespan=lifespan)
    app.router.default = gateway
    app.state.gateway = gateway
    return app


def installed_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version("so8t-gateway")
    except PackageNotFoundError:
        return "unknown"


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel ``task`` and return once it has ended."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _upstream(settings: Settings, engine: Engine) -> Upstream:
    upstream = settings.upstream
    if upstream.url is None:
        return LocalUpstream(engine, engine.release.id)
    return HttpUpstream(
        upstream.url,
        settings.upstream_key(),
        connect_timeout_s=upstream.connect_timeout_s,
        read_timeout_s=upstream.read_timeout_s,
    )


def _shadow(settings: Settings, engine: Engine) -> ShadowStore | None:
    directory = settings.policy.directory
    if directory is None:
        return None
    shadow = ShadowStore(directory, release=engine.release.id)
    for problem in shadow.problems:
        logger.error("the shadow policies are wrong; nothing is decided by them", problem=problem)
    return shadow


def _changes(before: Bundle, after: Bundle) -> dict[str, EffectivePolicy]:
    """Return what holds now where something else held before, by organisation; OPERATOR stands for the base."""
    names = before.policies.keys() | after.policies.keys()
    changed = {name: after.policy(name) for name in sorted(names) if after.policy(name) != before.policy(name)}
    return changed if after.base == before.base else {OPERATOR: after.base, **changed}


def _held(bundle: Bundle, organization: str) -> EffectivePolicy:
    return bundle.base if organization == OPERATOR else bundle.policy(organization)
