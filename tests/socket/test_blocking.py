"""The blocking client against a sandbox in another thread: complete, lazy, thread-safe, without leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import polars  # noqa: F401 - with it, Ctrl-C does not wake a thread that waits for a lock
import pytest
from aiohttp import web
from anyio.from_thread import start_blocking_portal

from b2b_payments import (
    ConfigurationError,
    NotFoundError,
    OfflineLineItem,
    OfflinePayment,
    OutcomeUnknownError,
    Payment,
    Quota,
    RequestTimeoutError,
    to_wire,
)
from b2b_payments.blocking import PaymentsClient
from b2b_payments.events import Event, RequestStarted
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from tests.support.clients import NEVER, QUICK
from tests.support.program import whole_environment


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Yield a sandbox of 600 payments, served from another thread."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(600, rules=Rules(quota=False))) as one,
    ):
        yield one


def client_of(sandbox: Sandbox, **settings: Any) -> PaymentsClient:
    """Return a blocking client of the sandbox."""
    given = {"base_url": sandbox.base_url, "quota": None, "retry": QUICK, "timeout": 5.0} | settings
    return PaymentsClient(sandbox.auth, **given)


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[PaymentsClient]:
    """Yield an open client of the sandbox."""
    with client_of(sandbox) as one:
        yield one


def ours() -> set[str]:
    """Return the names of the blocking clients' threads."""
    return {thread.name for thread in threading.enumerate() if thread.name == "b2b_payments"}


def test_whole_api_without_await(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Each kind of method returns what the async one returns."""
    wanted = list(sandbox.store.all_wire())
    walk = client.payments.list(page_size=100)
    assert [to_wire(payment) for payment in walk] == wanted
    assert walk.report.complete
    assert (walk.count(), walk.report.rows) == (600, 600)
    assert [row for page in client.payments.list().raw_pages() for row in page.items] == wanted
    assert list(client.payments.list().raw()) == wanted
    assert client.payments.list().to_pandas()["id"].to_list() == [row["id"] for row in wanted]
    assert client.payments.list().to_arrow().num_rows == client.payments.list().to_polars().height == 600
    assert [batch.num_rows for batch in client.payments.list().arrow_batches(rows=400)] == [400, 200]
    assert [to_wire(payment) for payment in client.payments.list(channel_ids=[1]).collect()] == [
        row for row in wanted if row["channelId"] == "1"
    ]
    stream = client.payments.stream(channel_ids=[1, 2, 3])
    assert {payment.id for payment in stream} == {row["id"] for row in wanted}
    assert sorted(channel or 0 for channel in stream.reports) == [1, 2, 3]
    first = client.payments.list().first()
    assert first is not None
    assert to_wire(client.payments.get(first.id)) == wanted[0]
    assert client.payments.look_up(999) is None
    assert client.payments.operations(1).allowed_statuses is not None
    assert client.payments.transactions(1) is not None
    assert not client.payments.recently_mixed_up
    assert [channel.channel_id for channel in client.channels.list()] == [1, 2, 3]
    assert client.channels.get(2).channel_id == 2
    client.ping()
    assert client.request("GET", "/ip/payments/7").data["id"] == 7
    client.payments.delete(7)
    with pytest.raises(NotFoundError):
        client.payments.get(7)


def test_writes(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A create can be repeated, and an unknown outcome settled."""
    payment = OfflinePayment("95000", "USD", [OfflineLineItem(13, Decimal(20))], external_id="A-1")
    assert [client.payments.create_offline(payment, unless_exists=True) for _ in range(2)] == [601, 601]
    assert client.payments.update_offline(601, payment) == 601
    client.payments.update_processing_status(601, 2)
    client.payments.perform_operation(601, 0)
    sandbox.order(Fault.RESET_AFTER, times=1, methods=["DELETE"])
    sandbox.order(Fault.ERROR_500, share=1)
    with pytest.raises(OutcomeUnknownError) as caught:
        client.with_options(retry=NEVER).payments.delete(601)
    sandbox.clear_faults()
    assert client.payments.settle(caught.value) == 601


def test_iterators_are_lazy_and_can_be_left_early(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Nothing is requested before the first payment is, and little after a loop was left."""
    walk = client.payments.list(page_size=50, concurrency=2)
    pages = walk.pages()
    assert sandbox.request_count == 0
    for _ in walk:
        break
    page = next(pages)
    assert (len(page.items), pages.report.rows) == (50, 50)
    place = page.checkpoint
    pages.close()
    pages.close()
    assert next(pages, None) is None
    client.payments.get(1)
    assert 2 <= sandbox.request_count < 12  # what two whole walks would take at the least
    again = client.payments.list(checkpoint=place)
    assert again.checkpoint()["place"] == place["place"]
    rest = again.collect()
    assert len(rest) == 550
    assert pages.checkpoint() != {}


def test_changes_are_followed(sandbox: Sandbox, client: PaymentsClient) -> None:
    """A feed of changes yields what changed, can be left, and resumes from a checkpoint."""
    changes = client.payments.changes()
    assert list(changes) == []
    kept = changes.checkpoint()
    sandbox.store.insert(externalId="A-1")
    following = client.payments.changes(since=kept, follow=True, interval=0.01)
    change = next(following)
    assert (change.payment.external_id, following.report.changes) == ("A-1", 1)
    sandbox.store.insert(externalId="A-2")
    assert next(following).payment.external_id == "A-2"
    following.close()
    since = client.payments.changes(since=change.checkpoint)
    assert [one.payment.external_id for one in since] == ["A-2"]


def test_iterator_ends_with_its_client(sandbox: Sandbox) -> None:
    """Continuing a walk after its client was closed is a clear error."""
    with client_of(sandbox) as client:
        payments = iter(client.payments.list(page_size=50))
        next(payments)
    with pytest.raises(ConfigurationError, match=r"not open: use it inside `with PaymentsClient"):
        list(payments)
    walk = iter(client.payments.list())
    with pytest.raises(ConfigurationError, match="not open"):
        next(walk)
    with pytest.raises(ConfigurationError, match="not open"):
        client.payments.get(1)


@pytest.mark.slow
def test_twenty_threads_at_once(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Twenty threads read, walk and write concurrently on one client, and each gets its own answers."""

    def work(number: int) -> tuple[int, int, int]:
        payment: Payment = client.payments.get(number + 1)
        walk = client.payments.list(page_size=100, processing_status=number % 5)
        client.payments.delete(500 + number)
        return payment.id, sum(1 for _ in walk), walk.report.rows

    with ThreadPoolExecutor(20) as pool:
        for number, (payment_id, counted, rows) in enumerate(pool.map(work, range(20))):
            assert (payment_id, counted) == (number + 1, rows)
    assert sandbox.store.payments == 580


def test_nothing_is_left_after_close(sandbox: Sandbox) -> None:
    """After each of twenty clients no thread and no loop is left, however it was used."""
    before = threading.active_count()
    for number in range(20):
        with client_of(sandbox) as client:
            if number % 2:
                next(iter(client.payments.list(page_size=10)))
        client.close()
        assert threading.active_count() == before
    gc.collect()
    # By their types: some objects of Django are asked for their class in vain.
    loops = [one for one in gc.get_objects() if issubclass(type(one), asyncio.BaseEventLoop)]
    assert sum(not loop.is_closed() for loop in loops) <= 1  # the sandbox's own
    assert ours() == set()


_LEFT_OPEN = """
from b2b_payments.blocking import PaymentsClient

client = PaymentsClient.from_env(quota=None).open()
payments = iter(client.payments.list(page_size=10))
print(next(payments).id)
"""


@pytest.mark.slow
def test_program_with_an_open_client_ends(sandbox: Sandbox) -> None:
    """When a program exits, an open client is closed: the program neither hangs nor warns."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", _LEFT_OPEN],
        env=whole_environment(sandbox),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # On a busy machine, asyncio's debug mode reports steps that took long.
    warned = [one for one in ended.stderr.splitlines() if not one.startswith("Executing <")]
    assert (ended.returncode, ended.stdout, warned) == (0, "1\n", [])


def test_client_is_opened_once(sandbox: Sandbox) -> None:
    """A second `open` is refused without harm; a closed client says so, and leaves no thread."""
    client = client_of(sandbox)
    assert client.open() is client
    with pytest.raises(ConfigurationError, match="open already; use one `with`"):
        client.open()
    assert client.payments.get(1).id == 1
    client.close()
    with pytest.raises(ConfigurationError, match="was closed; make a new one"):
        client.open()
    assert ours() == set()


def test_other_options_share_the_loop(sandbox: Sandbox, client: PaymentsClient) -> None:
    """`with_options` returns a client in the same thread; the first one stays open."""
    sandbox.order(Fault.HANG, times=1)
    with client.with_options(deadline=0.05) as other, pytest.raises(RequestTimeoutError):
        other.payments.get(1)
    other.close()
    assert len(ours()) == 1
    assert client.payments.get(1).id == 1
    assert other.payments.get(1).id == 1


def test_from_env(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is read as by the async client."""
    monkeypatch.setenv("B2B_PAYMENTS_STORE_HASH", sandbox.auth.store_hash)
    monkeypatch.setenv("B2B_PAYMENTS_ACCESS_TOKEN", str(sandbox.auth.access_token))
    monkeypatch.setenv("B2B_PAYMENTS_BASE_URL", sandbox.base_url)
    with PaymentsClient.from_env(quota=Quota(10, 1)) as client:
        assert client.payments.get(1).id == 1


def test_ctrl_c_ends_a_call(sandbox: Sandbox, client: PaymentsClient) -> None:
    """Ctrl-C during a call raises KeyboardInterrupt; the call is cancelled, and the client keeps working."""
    sandbox.order(Fault.HANG, times=1)
    sandbox.answer_with(_once(lambda: os.kill(os.getpid(), signal.SIGINT)))
    patient = client.with_options(timeout=3600.0)
    with pytest.raises(KeyboardInterrupt):
        patient.payments.get(1)
    assert client.payments.get(1).id == 1


def test_ctrl_c_ends_a_walk(sandbox: Sandbox) -> None:
    """Ctrl-C in the middle of a loop ends the loop and the client, and leaves no thread."""

    def walk() -> None:
        with client_of(sandbox) as client:
            for number, _ in enumerate(client.payments.list(page_size=50)):
                if number == 60:
                    os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        walk()
    assert ours() == set()


def _once(act: Callable[[], object]) -> Callable[[SeenRequest], web.Response | None]:
    acts = iter([act])

    def answer(_: SeenRequest) -> web.Response | None:
        for one in acts:
            one()
        return None

    return answer


def test_close_ends_calls_in_other_threads(sandbox: Sandbox) -> None:
    """A call in another thread ends when the client is closed, with an error that says so."""
    sandbox.order(Fault.HANG, share=1)
    arrived = threading.Event()
    sandbox.answer_with(_once(arrived.set))
    client = client_of(sandbox).open()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client.payments.get, 1)
        arrived.wait()
        client.close()
        assert asking.exception() is not None
    assert ours() == set()


def test_callback_cannot_use_the_client(sandbox: Sandbox) -> None:
    """A listener runs in the client's own thread: a call from there is refused, and does not hang."""
    refused: list[Exception] = []
    made: list[PaymentsClient] = []

    def listen(event: Event) -> None:
        if isinstance(event, RequestStarted) and not refused:
            try:
                made[0].payments.get(2)
            except ConfigurationError as error:
                refused.append(error)

    with client_of(sandbox, on_event=listen) as client:
        made.append(client)
        assert client.payments.get(1).id == 1
    assert "cannot be used in its own callbacks" in str(refused[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_needs_its_own_client(client: PaymentsClient) -> None:
    """In a forked child, without the client's thread, a call is refused instead of waiting forever."""
    if (child := os.fork()) == 0:
        code = 1
        try:
            client.payments.get(1)
        except ConfigurationError as error:
            code = 0 if "before this process was forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
