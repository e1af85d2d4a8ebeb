"""The sandbox: the service on a real local socket."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from email.utils import formatdate
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from b2b_payments._arguments import whole
from b2b_payments._auth import LegacyAuth, StoreAuth
from b2b_payments._errors import ConfigurationError
from b2b_payments.sandbox._admission import Admission
from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._data import STORE_HASH
from b2b_payments.sandbox._delivery import Answered, MayMix, Mixer, deliver, faulty, reset
from b2b_payments.sandbox._faults import Fault, Orders, SeenRequest
from b2b_payments.sandbox._rules import Rules
from b2b_payments.sandbox._service import NO_JSON, ROOT, answer, is_list
from b2b_payments.sandbox._store import Store

_REQUESTS_KEPT = 100_000
_HOST = "127.0.0.1"
_RESETS = frozenset({Fault.RESET_BEFORE, Fault.RESET_AFTER})
_HANGS = frozenset({Fault.HANG_BEFORE, Fault.HANG})

BeforeList = Callable[[Store, SeenRequest], object]
AnswerWith = Callable[[SeenRequest], web.Response | None]


class Sandbox:
    """The invoice-payments API with its own store, on loopback.

    ::

        async with Sandbox(payments=1000, channels=(1, 2, 3), seed=7) as sandbox:
            sandbox.base_url, sandbox.auth

    `payments` is the number of payments, or their creation times in epoch seconds, oldest first. `channels`
    are the BigCommerce channel ids, and `rules` how the service behaves. The same `seed` generates the same
    store. `port` is the port to listen on (0: any free one). The answers' `Date` is the store's clock, which
    advances as the store is changed (see `Rules.date_header`).

    `before_list(store, seen)` is called before each list of payments is answered; tests use it to change the
    store. `may_mix(asked, other)` decides whether a request may get the answer to another, if a fault mixes
    up answers; None allows any. `mixed_up` counts the misdirected ones. `requests` holds the last 100,000
    requests, and `request_count` counts all of them.

    Raises `ConfigurationError` for invalid arguments, and `OSError` if the port is taken.
    """

    def __init__(
        self,
        payments: int | Sequence[int] = 1000,
        channels: Sequence[int] = (1, 2, 3),
        seed: int = 7,
        rules: Rules | None = None,
        port: int = 0,
    ) -> None:
        whole("port", port, least=0)
        self.store: Store = Store(payments, channels, seed, rules, self._time)
        self._rules = self.store.rules
        self.requests: deque[SeenRequest] = deque(maxlen=_REQUESTS_KEPT)
        self.request_count: int = 0
        self.before_list: BeforeList | None = None
        self._answer_with: AnswerWith | None = None
        self._orders = Orders(seed)
        self.may_mix: MayMix | None = None
        self._mixer = Mixer(lambda asked, other: self.may_mix is None or self.may_mix(asked, other))
        self._admission = Admission(self._rules, 0.0)
        self._port = port
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[Any]] = set()
        self._in_service = 0

    async def start(self) -> None:
        """Start serving. Raises `OSError` if the port is taken."""
        if self._server is not None:
            raise ConfigurationError("This sandbox is already running.")
        server = web.Server(self._handle, access_log=None, lingering_time=0)
        await self._listen(server)
        self._server = server
        self._admission.open_window(self._rules, self._time())

    async def stop(self) -> None:
        """Stop immediately, without completing requests in progress. Does nothing if it is not running."""
        if self._server is not None:
            await self.pause_listening()
            self._server = None

    async def pause_listening(self) -> None:
        """Drop every connection and refuse new ones, until `resume_listening`."""
        if self._listener is None or self._server is None:
            return
        listener, self._listener = self._listener, None
        loop = asyncio.get_running_loop()
        for listening in listener.sockets:
            loop.remove_reader(listening)
        # asyncio registers an accepted connection only after two turns of the loop, and loses it if the
        # listener closes before that.
        for _ in range(2):
            await asyncio.sleep(0)
        listener.close()
        transports = [connection.transport for connection in self._server.connections]
        handlers = tuple(self._handlers)
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        self._server.pre_shutdown()
        await self._server.shutdown(timeout=0.1)
        for transport in transports:
            if transport is not None:
                # close() would wait for a client that does not read.
                transport.abort()
        # The event loop closes the sockets in its next turn.
        await asyncio.sleep(0)

    async def resume_listening(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            raise ConfigurationError("This sandbox is not running; await start() first.")
        if self._listener is None:
            await self._listen(self._server)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._port == 0:
            raise ConfigurationError("This sandbox has no port until it is started.")
        return self._port

    @property
    def base_url(self) -> str:
        """The base URL for a client."""
        return f"http://{_HOST}:{self.port}{ROOT}"

    @property
    def auth(self) -> StoreAuth:
        """The currently valid credential."""
        return StoreAuth(store_hash=STORE_HASH, access_token=self._admission.access_token)

    @property
    def legacy_auth(self) -> LegacyAuth:
        """The currently valid credential of the older kind."""
        return LegacyAuth(auth_token=self._admission.auth_token)

    @property
    def headers(self) -> dict[str, str]:
        """The credential of `auth` as headers, for requests that do not use this library."""
        return {"X-Auth-Token": self._admission.access_token, "X-Store-Hash": STORE_HASH}

    def rotate_token(self) -> StoreAuth:
        """Invalidate both tokens and return the new credential."""
        self._admission.token_number += 1
        return self.auth

    @property
    def rules(self) -> Rules:
        """The current rules; assign others at any time. New quota rules start with an empty window."""
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        before, self._rules = self._rules, rules
        self.store.rules = rules
        if self._server is not None and _quota_rules(before) != _quota_rules(rules):
            self._admission.open_window(rules, self._time())

    def order(
        self,
        fault: Fault,
        *,
        share: float = 1 / 3,
        times: int | None = None,
        methods: Collection[str] | None = None,
        path: str | None = None,
    ) -> None:
        """Inject a fault into a random share of the requests, or into the next `times` ones.

        `methods` and the regular expression `path`, which is searched in the path, restrict the requests. If
        several active faults apply to a request, the one that was ordered first affects it.
        Raises `ConfigurationError` for an invalid share or number of times.
        """
        self._orders.add(fault, share=share, times=times, methods=methods, path=path)

    def clear_faults(self) -> None:
        """Deactivate all faults."""
        self._orders.clear()

    @property
    def mixed_up(self) -> int:
        """The number of answers that went to another request, or to none."""
        return self._mixer.mixed

    def answer_with(self, answers: AnswerWith | None) -> None:
        """Let a callable answer requests; None removes it.

        If it returns a response, that is sent: the request is not carried out, and no fault affects it. If it
        returns None, the service answers.
        """
        self._answer_with = answers

    async def _listen(self, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(server, _HOST, self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # aiohttp runs each request in a task
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        try:
            return await self._respond(request)
        except ConnectionError:
            # The client disconnected, or a fault disconnected it.
            return reset(request)

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = self._record(request)
        request_id = f"{self.request_count:08x}-5a4d-4b0c-8f00-{self._port:012x}"
        fault = seen.fault = self._orders.draw(seen.method, seen.path)
        if fault is Fault.REFUSE:
            return reset(request)
        # Before the first await: the quota counts requests when they arrive.
        refusal = self._admission.refusal(self._rules, seen.headers, seen.at, self._in_service, self._date())
        self._in_service += 1
        try:
            body = _decode(await request.read())
            seen.body = None if body is NO_JSON else body
            if self._answer_with is not None and (response := self._answer_with(seen)) is not None:
                seen.status = response.status
                response.headers.update(self._date_header())
                return response
            answered = self._carry_out(seen, body, refusal, fault)
            # From the arrival on: the time to carry it out is part of the latency, as in any service.
            await _pause(seen.at + self._rules.latency - self._time())
            seen.own_status = answered.status
            own = Answered(seen, answered)
            answered = await self._mixer.exchange(own, fault, self._rules.swap_within)
        finally:
            self._in_service -= 1
        if fault in _RESETS:
            return reset(request)
        if fault in _HANGS:
            await _pause(None)
        extra = self._mixer.extra_answer(own, fault)
        if fault is Fault.LATE:
            answered = Answer.gateway(504)
        if fault is not Fault.RESET_DURING:
            seen.status = answered.status
        headers = {"X-Request-Id": request_id} | self._date_header()
        headers |= self._admission.headers(self._rules, answered, self._time())
        self._mixer.send_held(request, seen)
        pause = partial(_pause, self._rules.drip_interval)
        delivered = await deliver(request, answered, headers, fault, pause)
        if extra is not None:
            await self._mixer.send_followed_by(request, delivered, extra, self._rules.stray_after)
        return delivered

    def _record(self, request: web.BaseRequest) -> SeenRequest:
        query = parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True)
        seen = SeenRequest(request.method, request.path, query, request.headers, self._time())
        self.requests.append(seen)
        self.request_count += 1
        return seen

    def _carry_out(self, seen: SeenRequest, body: Any, refusal: Answer | None, fault: Fault | None) -> Answer:
        answered = refusal
        if answered is None and (fault is None or fault.carried_out):
            if self.before_list is not None and is_list(seen.method, seen.path):
                self.before_list(self.store, seen)
            answered = answer(self.store, seen.method, seen.path, seen.query, body)
        return faulty(fault, answered or Answer.gateway(504), self._rules, self._date())

    def _date(self) -> int:
        """Return an answer's time in epoch seconds; without `Date`, the real time, as a client assumes."""
        return self.store.clock if self._rules.date_header else math.ceil(time.time())

    def _date_header(self) -> dict[str, str]:
        return {"Date": formatdate(self._date(), usegmt=True)} if self._rules.date_header else {}

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()


async def _pause(seconds: float | None) -> None:
    """Wait `seconds`; None means until the sandbox stops."""
    if seconds is None:
        await asyncio.Event().wait()
    elif seconds > 0:
        await asyncio.sleep(seconds)


def _quota_rules(rules: Rules) -> tuple[object, ...]:
    return rules.requests, rules.per, rules.window, rules.others_per_window


def _decode(body: bytes) -> Any:
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return NO_JSON
