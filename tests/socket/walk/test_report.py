"""The counts of a walk's report, compared with the requests that the service received."""

from __future__ import annotations

from typing import Any

import pytest

from b2b_payments import PaymentsClient, ValidationError, WalkReport
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest, Store
from tests.support.clients import client_of


def counted(sandbox: Sandbox) -> tuple[int, int, int]:
    """Count the requests received: all, those of lists newest first, and those of one payment."""
    requests = list(sandbox.requests)
    from_other_end = sum(("orderBy", "DESC") in seen.query for seen in requests)
    by_id = sum(seen.path.rpartition("/")[2].isdigit() for seen in requests)
    return len(requests), from_other_end, by_id


async def read(client: PaymentsClient) -> WalkReport:
    """Walk over the whole store, and return the report."""
    walk = client.payments.list(page_size=50, concurrency=1)
    await walk.collect()
    return walk.report


async def test_a_quiet_list_is_read_once() -> None:
    """If nothing contradicts, a single request is from the other end, and nothing is read again."""
    async with Sandbox(200, rules=Rules(quota=False)) as sandbox, client_of(sandbox) as client:
        report = await read(client)
        assert (report.requests, report.from_other_end, report.looked_up) == counted(sandbox)
        assert (report.from_other_end, report.reread, report.looked_up, report.gaps) == (1, 0, 0, 0)
        assert report.pages == report.requests == 5


async def test_a_window_is_read_from_the_other_end() -> None:
    """The pages beyond a window are read from the other end; retries at its edge are counted separately."""
    rules = Rules(quota=False, paging_window=300, max_limit=50)
    async with Sandbox(500, rules=rules) as sandbox, client_of(sandbox) as client:
        report = await read(client)
        assert (report.requests, report.from_other_end, report.looked_up) == counted(sandbox)
        assert report.complete
        assert report.from_other_end == 5
        assert report.reread == 4


@pytest.mark.parametrize("beyond_window", [400, 404, 422])
async def test_a_refused_window_is_read_from_the_other_end(beyond_window: Any) -> None:
    """Offsets beyond a window may be refused, as in search engines: no error if both ends meet."""
    rules = Rules(quota=False, paging_window=300, max_limit=50, beyond_window=beyond_window)
    async with Sandbox(500, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(page_size=50)
        assert sorted([payment.id async for payment in walk]) == sandbox.store.ids()
        assert walk.report.complete


async def test_a_stream_tells_why_it_is_not_complete() -> None:
    """The ending of a stream is that of the channels that are not complete."""
    rules = Rules(quota=False, paging_window=150, max_limit=50)
    async with Sandbox(500, rules=rules) as sandbox, client_of(sandbox) as client:
        for _ in range(400):
            sandbox.store.insert(channelId="1")
        stream = client.payments.stream(channel_ids=[1, 2], page_size=50)
        async for _ in stream:
            pass
        assert [report.complete for report in stream.reports.values()] == [False, True]
        assert not stream.report.complete
        assert stream.report.ending == stream.reports[1].ending


async def test_a_window_that_hides_payments_raises_its_refusal() -> None:
    """If neither end leads further, the refusal is raised, and the report says what is missing."""
    rules = Rules(quota=False, paging_window=200, max_limit=50, beyond_window=422)
    async with Sandbox(500, rules=rules) as sandbox, client_of(sandbox) as client:
        walk = client.payments.list(page_size=50)
        with pytest.raises(ValidationError, match="must not be more than 200"):
            await walk.collect()
        assert walk.report.rows > 380
        assert not walk.report.complete
        assert "stop before they meet" in str(walk.report.ending)
        with pytest.raises(ValidationError):
            await client.payments.list(page_size=50, offset=300).collect()


@pytest.mark.virtual_time
@pytest.mark.slow
async def test_lookups_and_rereads_are_counted_separately() -> None:
    """If the list says that payments are gone, some are looked up by id, and the list is read again."""
    async with Sandbox(200, rules=Rules(quota=False)) as sandbox, client_of(sandbox) as client:
        lists = 0

        def empty_the_third_to_fifth(_store: Store, _seen: SeenRequest) -> None:
            nonlocal lists
            lists += 1
            if lists == 3:
                sandbox.order(Fault.EMPTY_LIST, times=3)

        sandbox.before_list = empty_the_third_to_fifth
        report = await read(client)
        assert (report.requests, report.from_other_end, report.looked_up) == counted(sandbox)
        assert report.complete
        assert (report.rows, report.looked_up) == (200, 6)
        assert report.from_other_end == 3
