"""The answers suite: random schedules of stray, swapped, duplicated and late answers on reused connections.

Run with ``uv run python -m benchmarks.answers``. A client reads and writes concurrently over real sockets,
while a proxy mixes up its answers. Exit code 1 if a result belonged to another request, or if a write was
carried out twice or reported wrongly.

Answers that cannot be told apart are not swapped: those of two creates, or a refusal and a success, before a
mix-up was noticed; operations or transactions of two payments; anything about the same payment. Pages are
swapped, whatever their lists and offsets, while walks over several lists and a sweep are running.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time

import aiohttp
import attrs

from b2b_payments import PaymentsClient, RetryPolicy
from b2b_payments.sandbox import Fault, Rules, Sandbox, SeenRequest
from benchmarks.answers_work import PAYMENTS, Account, work
from tests.support.virtual_time import run

SCHEDULES = 550
_RETRY = RetryPolicy(attempts=5, base_delay=0.01, max_delay=0.05)
_HEAD = """\
| what goes wrong | schedules | requests | misdirected answers | reads: right | failed | wrong \
| writes: done | failed | unknown | wrong |"""


@attrs.frozen
class MixUp:
    """One way to mix up answers. None as `stray_after` holds them back until the next request on the
    connection. `path` is a pattern of the affected paths, None for all.
    """

    name: str
    faults: tuple[Fault, ...]
    stray_after: float | None = 0.0
    path: str | None = None


_UNASKED = (Fault.STRAY, Fault.DOUBLED, Fault.LATE)
MIX_UPS = (
    MixUp("a stray answer after another", (Fault.STRAY,)),
    MixUp("a stray answer on an idle connection", (Fault.STRAY,), 0.002),
    MixUp("a stray answer before the next", (Fault.STRAY,), None),
    MixUp("an answer twice", (Fault.DOUBLED,)),
    MixUp("an answer twice, before the next", (Fault.DOUBLED,), None),
    MixUp("a late answer", (Fault.LATE,)),
    MixUp("a late answer, before the next", (Fault.LATE,), None),
    MixUp("answers swapped", (Fault.SWAPPED,)),
    MixUp("pages swapped", (Fault.SWAPPED,), path="/ip/payments$"),
    MixUp("all of these", (*_UNASKED, Fault.SWAPPED), 0.002),
    MixUp("all of these, before the next", (*_UNASKED, Fault.SWAPPED), None),
)


async def schedule(mix_up: MixUp, seed: int) -> Account:
    """Run one schedule."""
    draw = random.Random(f"schedule {seed}")
    rules = Rules(
        quota=False,
        stray_after=mix_up.stray_after,
        swap_within=0.02,
        # If stray answers are delayed, answers must take some time.
        latency=0.001 if mix_up.stray_after else 0.0,
        ids_as=draw.choice(["number", "string"]),
        written_ids=draw.choice(["right", "right", "absent"]),
    )
    async with Sandbox(PAYMENTS, seed=seed, rules=rules) as sandbox, aiohttp.ClientSession() as lent:
        for fault in mix_up.faults:
            sandbox.order(fault, share=draw.uniform(0.02, 0.4 / len(mix_up.faults)), path=mix_up.path)
        async with PaymentsClient(
            sandbox.auth,
            base_url=sandbox.base_url,
            quota=None,
            retry=_RETRY,
            timeout=5.0,
            session=draw.choice([None, lent]),
        ) as client:
            sandbox.may_mix = _Distinguishable(client)
            return await work(sandbox, client, seed)


class _Distinguishable:
    """Decides which answers can be told apart from a request's own."""

    def __init__(self, client: PaymentsClient) -> None:
        self._mixups = client._transport.mixups  # noqa: SLF001 - to know what the client knows
        self._refused: set[str] = set()

    def __call__(self, asked: SeenRequest, other: SeenRequest) -> bool:
        pair = {kind(asked), kind(other)}
        if pair == {"create"}:
            return self._mixups.recent
        if pair <= {"operations", "transactions"} or same_payment(asked, other):
            return False
        if pair == {"list"}:
            return _page_of(asked) != _page_of(other)
        if any(400 <= (one.own_status or 0) < 500 for one in (asked, other)):
            return self._mixups.recent and not self._again(asked) and not self._again(other)
        return True

    def _again(self, asked: SeenRequest) -> bool:
        """Whether it got another request's refusal before: the client would believe a second one."""
        if asked.path in self._refused:
            return True
        self._refused.add(asked.path)
        return False


def _page_of(seen: SeenRequest) -> set[tuple[str, str]]:
    """Return what identifies a page: its list, its order and its offset."""
    return {pair for pair in seen.query if pair[0] != "limit"}


def kind(seen: SeenRequest) -> str:
    """Return the name of the endpoint."""
    last = re.sub(r"\d+", "", seen.path.rpartition("/")[2])
    return "create" if seen.method == "POST" and last == "offline" else {"payments": "list"}.get(last, last)


def same_payment(one: SeenRequest, other: SeenRequest) -> bool:
    """Whether two requests are about the same payment."""
    ids = re.findall(r"\d{1,}(?=/|$)", one.path.partition("/io/")[2])
    return bool(ids) and ids == re.findall(r"\d{1,}(?=/|$)", other.path.partition("/io/")[2])


def main() -> int:
    """Run the schedules and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=SCHEDULES, metavar="N", help="in total")
    options = parser.parse_args()
    begun = time.perf_counter()
    print(_HEAD)
    print("|" + " --- |" * (_HEAD.count("|") - 1))
    wrong = 0
    for place, mix_up in enumerate(MIX_UPS):
        total, count = Account(), 0
        for seed in range(place, options.schedules, len(MIX_UPS)):
            account = run(schedule(mix_up, seed))
            if account.wrong:
                print(f"schedule {seed}: {account}", file=sys.stderr)
            total.add(account)
            count += 1
        wrong += total.wrong
        print(_row(mix_up.name, count, total), flush=True)
    print(f"\n{options.schedules} schedules in {time.perf_counter() - begun:.0f} s; {wrong} wrong.")
    return 1 if wrong else 0


def _row(name: str, count: int, account: Account) -> str:
    reads, writes = account.reads, account.writes
    cells = [count, account.requests, account.mixed_up, reads.right, reads.failed, reads.wrong]
    cells += [writes.done, writes.failed, writes.unknown, writes.wrong]
    return f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
