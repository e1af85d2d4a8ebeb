"""Decisions about answers that may belong to another request, on virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from b2b_payments import (
    AnswerMismatchError,
    AuthenticationError,
    B2BPaymentsError,
    BadRequestError,
    NotFoundError,
    RateLimitError,
    TransportError,
)
from b2b_payments._mixups import AnswerCheck, MixUps
from b2b_payments._protocol.answer import Envelope
from b2b_payments._protocol.belonging import OF_PAGE as OFFSET
from b2b_payments._protocol.belonging import OF_ROWS, OF_TOTAL
from b2b_payments._protocol.listing import Listing
from b2b_payments._protocol.request import (
    Request,
    create_offline,
    delete_payment,
    get_operations,
    get_payment,
    get_transactions,
    list_payments,
    perform_operation,
)
from b2b_payments._retry import outcome_of
from tests.support.virtual_time import run

LIST = list_payments(())
GET = get_payment(70)
DELETE = delete_payment(70)
POST = perform_operation(70, 0)
ABOUT: dict[str, Any] = {"method": "GET", "url": "https://service.example"}


def elsewhere(said: str | None = "0", place: str = OFFSET) -> AnswerMismatchError:
    """Return the error for an answer that names something else."""
    return AnswerMismatchError("It is to another request.", paths=[place], said=said)


STATUS = f"{OF_ROWS}.processingStatus"


def page(*named: str) -> Listing:
    """Return a page that names what was requested in these places."""
    return Listing(heads=[], body=b"", offset=0, limit=None, total_count=None, named=frozenset(named))


def gone(message: str = "gone") -> NotFoundError:
    """Return a 404."""
    return NotFoundError(message, status=404, **ABOUT)


def on_kept(mixups: MixUps, request: Request) -> AnswerCheck:
    """Return the check of a call whose answer arrived on a kept connection."""
    check = mixups.check_for(request)
    check.reused = True
    return check


def resends(check: AnswerCheck, failure: B2BPaymentsError, *, may_retry: bool = True) -> bool:
    """Return whether the request is sent again at once."""
    return check.should_resend(failure, outcome_of(failure), may_retry=may_retry)


def played(play: Callable[[MixUps], None]) -> None:
    """Run a play in an event loop with virtual time."""

    async def main() -> None:
        play(MixUps())

    run(main())


def test_mixup_is_remembered_for_five_minutes() -> None:
    """After a mix-up, `recent` is true for 300 seconds."""

    async def main() -> None:
        mixups = MixUps()
        mixups.record()
        readings = []
        for seconds in (0, 290, 20):
            await anyio.sleep(seconds)
            readings.append(mixups.recent)
        assert readings == [True, True, False]

    run(main())


def test_read_is_sent_again_at_once_up_to_twice() -> None:
    """A read whose answer names something else is sent three times in all."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(GET)
        assert [resends(check, elsewhere(None)) for _ in range(3)] == [True, True, False]
        assert mixups.recent
        assert not resends(mixups.check_for(GET), elsewhere(None), may_retry=False)

    played(play)


def test_constant_claim_is_ignored() -> None:
    """If all three answers claim the same, that place is ignored by all calls, and nothing is suspected."""

    def play(mixups: MixUps) -> None:
        check, other = mixups.check_for(LIST), mixups.check_for(LIST)
        assert resends(other, elsewhere())
        assert [resends(check, elsewhere(), may_retry=False) for _ in range(3)] == [True, True, True]
        assert check.request.ignored == {OFFSET}
        assert resends(other, elsewhere())
        assert other.request.ignored == {OFFSET}
        assert mixups.check_for(LIST).request.ignored == {OFFSET}
        assert not mixups.check_for(get_transactions(70)).request.ignored

    played(play)


def test_constant_payment_id_needs_a_second_request() -> None:
    """Two requests may swap answers repeatedly; a claim is constant only if a second request gets it."""

    def play(mixups: MixUps) -> None:
        named = elsewhere("$.data.id: 8", "$.data.id")
        for payment_id, expected in ((70, False), (70, False), (71, True)):
            check = mixups.check_for(get_operations(payment_id))
            assert [resends(check, named) for _ in range(3)] == [True, True, expected]
            assert mixups.recent
        assert mixups.check_for(get_operations(72)).request.ignored == {"$.data.id"}

    played(play)


def test_only_one_place_is_ignored() -> None:
    """Another mismatch in the answers to the same call still counts."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        assert [resends(check, elsewhere()) for _ in range(3)] == [True, True, True]
        check = mixups.check_for(LIST)
        assert [resends(check, elsewhere(None, "$.data[0].id")) for _ in range(3)] == [True, True, False]
        assert check.request.ignored == {OFFSET}

    played(play)


def test_place_that_proves_right_is_no_longer_ignored() -> None:
    """Once a page names its own offset, or operations their own payment, the place is checked again."""

    def play(mixups: MixUps) -> None:
        for payment_id in (70, 71):
            check = mixups.check_for(get_operations(payment_id))
            for _ in range(3):
                resends(check, elsewhere("$.data.id: 8", "$.data.id"))
        check = mixups.check_for(LIST)
        for _ in range(3):
            resends(check, elsewhere())
        asked = mixups.check_for(get_operations(72)).request
        for data, ignored in (({"id": 8, "allowedOperations": []}, {"$.data.id"}), ({"id": 72}, set())):
            mixups.learn_from(asked, Envelope({"allowedOperations": [], **data}, {}))
            assert mixups.check_for(get_operations(72)).request.ignored == ignored
        mixups.learn_from(LIST, page())
        assert mixups.check_for(LIST).request.ignored
        mixups.learn_from(LIST, page(OFFSET))
        assert not mixups.check_for(LIST).request.ignored

    played(play)


def test_constant_claim_clears_no_earlier_suspicion() -> None:
    """A mix-up noticed before a constant claim was learned stays noticed."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        for _ in range(3):
            assert resends(check, elsewhere())
        assert not mixups.recent
        mixups.record()
        check = mixups.check_for(get_transactions(70))
        for _ in range(3):
            assert resends(check, elsewhere())
        assert mixups.recent

    played(play)


@pytest.mark.parametrize("said", [["0", "250", "0"], [None, None, None]])
def test_differing_claims_are_not_constant(said: list[str | None]) -> None:
    """Different claims, or answers without a claim, are never ignored."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        assert not [resends(check, elsewhere(one)) for one in said][-1]
        assert not check.request.ignored
        assert mixups.recent

    played(play)


def test_place_that_was_right_once_stays_reliable() -> None:
    """If a service once named a requested offset other than 0, the offset is never ignored."""

    def play(mixups: MixUps) -> None:
        mixups.learn_from(LIST, page())
        mixups.learn_from(GET, "anything else")
        assert mixups.may_be_constant(LIST, elsewhere())
        mixups.learn_from(LIST, page(OFFSET))
        check = mixups.check_for(LIST)
        assert [resends(check, elsewhere()) for _ in range(3)] == [True, True, False]
        assert not check.request.ignored

    played(play)


def test_unfitting_rows_are_accepted_if_repeated() -> None:
    """A filter that never matched is ignored from then on; one that did match, for this page only."""

    def play(mixups: MixUps) -> None:
        others = elsewhere(f"{STATUS}: 7", STATUS)
        mixups.learn_from(LIST, page(STATUS))
        check = mixups.check_for(LIST)
        assert [resends(check, others) for _ in range(3)] == [True, True, True]
        assert check.request.ignored == {STATUS}
        assert not mixups.recent
        assert not mixups.check_for(LIST).request.ignored

    played(play)


def test_unfitting_rows_that_differ_are_not_accepted() -> None:
    """Rows that do not fit and differ with each answer are not accepted as the list's own."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        said = [f"{STATUS}: {one}" for one in (7, 8, 8)]
        assert [resends(check, elsewhere(one, STATUS)) for one in said] == [True, True, False]
        assert resends(check, elsewhere(said[-1], STATUS))
        assert check.request.ignored == {STATUS}

    played(play)


def test_second_resend_waits_a_little() -> None:
    """Two requests that got each other's answers must not meet a third time."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        apart = []
        for _ in range(3):
            resends(check, elsewhere())
            apart.append(check.needs_pause)
        assert apart == [False, True, True]

    played(play)


def test_refusal_on_a_kept_connection_is_verified() -> None:
    """A refusal names no request: on a kept connection, the read is sent again on a new one."""

    def play(mixups: MixUps) -> None:
        check = on_kept(mixups, GET)
        assert resends(check, gone())
        assert not check.request.reuse
        check.reused = False
        assert not resends(check, gone("another text"))
        assert not resends(on_kept(mixups, GET), gone(), may_retry=False)
        assert not resends(mixups.check_for(GET), gone())
        unauthorised = AuthenticationError("no", status=401, **ABOUT)
        assert not resends(on_kept(mixups, GET), unauthorised)

    played(play)


def test_repeated_refusal_is_believed() -> None:
    """While answers get mixed up, a read's refusal counts if it is repeated, or after three in all."""

    def play(mixups: MixUps) -> None:
        mixups.record()
        check = mixups.check_for(GET)
        assert [resends(check, gone(one), may_retry=False) for one in ("a", "a")] == [True, False]
        check = mixups.check_for(GET)
        assert [resends(check, gone(one)) for one in ("a", "b", "c")] == [True, True, False]
        assert not resends(mixups.check_for(GET), TransportError("broken"))

    played(play)


def test_write_is_not_resent_at_once() -> None:
    """A write is never resent at once; a PUT or DELETE is retried, but not after a second mismatch."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(DELETE)
        assert not resends(check, elsewhere(None))
        assert not check.forbids_resend(elsewhere(None))
        assert not resends(check, elsewhere(None))
        assert check.forbids_resend(elsewhere(None))

    played(play)


def test_refused_write_is_unproven_during_mixups() -> None:
    """A refused write's outcome is unknown then, and a POST is not sent again even after a 429."""
    refusals: list[B2BPaymentsError] = [
        BadRequestError("no", status=400, **ABOUT),
        RateLimitError("wait", status=429, **ABOUT),
    ]

    def play(mixups: MixUps) -> None:
        for refusal in refusals:
            assert not mixups.check_for(POST).outcome_unknown(refusal)
            assert not mixups.check_for(POST).forbids_resend(refusal)
        mixups.record()
        for refusal in refusals:
            for request in (POST, DELETE, create_offline({})):
                assert mixups.check_for(request).outcome_unknown(refusal)
            assert mixups.check_for(POST).forbids_resend(refusal)
            assert not mixups.check_for(DELETE).forbids_resend(refusal)
            assert not mixups.check_for(GET).outcome_unknown(refusal)
        unsent = TransportError("no connection", sent=False)
        assert not mixups.check_for(POST).outcome_unknown(unsent)
        assert not mixups.check_for(POST).forbids_resend(unsent)

    played(play)


def test_write_without_id_is_unproven_during_mixups() -> None:
    """A write's answer without an id is accepted, but not after answers were mixed up."""

    def play(mixups: MixUps) -> None:
        mixups.learn_from(DELETE, Envelope({}, {}))
        mixups.record()
        mixups.learn_from(DELETE, Envelope({"id": 70}, {}))
        mixups.learn_from(GET, Envelope({}, {}))
        with pytest.raises(AnswerMismatchError):
            mixups.learn_from(DELETE, Envelope({}, {}))

    played(play)


def test_offset_beyond_the_total_stays_reliable() -> None:
    """A service that once named an offset beyond its total does not clamp: a clamped one is a mismatch."""

    def play(mixups: MixUps) -> None:
        mixups.learn_from(LIST, page(OFFSET))
        check = mixups.check_for(LIST)
        assert [resends(check, elsewhere("500", OF_TOTAL)) for _ in range(3)] == [True, True, True]
        mixups.learn_from(LIST, page(OFFSET, OF_TOTAL))
        check = mixups.check_for(LIST)
        assert [resends(check, elsewhere("500", OF_TOTAL)) for _ in range(3)] == [True, True, False]

    played(play)
