"""What is made of answers that may be another's: pure decisions, on virtual time."""

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
    """Return the error of an answer that names something else."""
    return AnswerMismatchError("It is to another request.", paths=[place], said=said)


STATUS = f"{OF_ROWS}.processingStatus"


def page(*named: str) -> Listing:
    """Return a page that names, in these places, what was asked for."""
    return Listing(heads=[], body=b"", offset=0, limit=None, total_count=None, named=frozenset(named))


def gone(message: str = "gone") -> NotFoundError:
    """Return a 404."""
    return NotFoundError(message, status=404, **ABOUT)


def on_kept(mixups: MixUps, request: Request) -> AnswerCheck:
    """Return the check of a call whose answer came on a kept connection."""
    check = mixups.check_for(request)
    check.reused = True
    return check


def again(check: AnswerCheck, failure: B2BPaymentsError, *, may_retry: bool = True) -> bool:
    """Ask whether the request goes out again at once."""
    return check.should_resend(failure, outcome_of(failure), may_retry=may_retry)


def played(play: Callable[[MixUps], None]) -> None:
    """Run a play in an event loop, whose clock counts."""

    async def main() -> None:
        play(MixUps())

    run(main())


def test_a_mix_up_is_remembered_for_minutes() -> None:
    """What was noticed is lately, and later it is not."""

    async def main() -> None:
        mixups = MixUps()
        mixups.noticed()
        lately = []
        for seconds in (0, 290, 20):
            await anyio.sleep(seconds)
            lately.append(mixups.lately)
        assert lately == [True, True, False]

    run(main())


def test_a_read_is_sent_again_at_once_up_to_twice() -> None:
    """What names something else is asked for three times in all, whatever it then names."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(GET)
        assert [again(check, elsewhere(None)) for _ in range(3)] == [True, True, False]
        assert mixups.lately
        assert not again(mixups.check_for(GET), elsewhere(None), may_retry=False)

    played(play)


def test_what_is_always_said_is_left_alone() -> None:
    """The same thrice is the service's habit: it is read as it is, by all, and nothing is suspected."""

    def play(mixups: MixUps) -> None:
        check, other = mixups.check_for(LIST), mixups.check_for(LIST)
        assert again(other, elsewhere())
        assert [again(check, elsewhere(), may_retry=False) for _ in range(3)] == [True, True, True]
        assert check.request.ignored == {OFFSET}
        assert again(other, elsewhere())
        assert other.request.ignored == {OFFSET}
        assert mixups.check_for(LIST).request.ignored == {OFFSET}
        assert not mixups.check_for(get_transactions(70)).request.ignored

    played(play)


def test_another_payment_named_thrice_is_an_exchange_until_a_second_request_gets_it() -> None:
    """Two requests whose answers are exchanged again and again get one another's; a habit meets all."""

    def play(mixups: MixUps) -> None:
        named = elsewhere("$.data.id: 8", "$.data.id")
        for payment_id, expected in ((70, False), (70, False), (71, True)):
            check = mixups.check_for(get_operations(payment_id))
            assert [again(check, named) for _ in range(3)] == [True, True, expected]
            assert mixups.lately
        assert mixups.check_for(get_operations(72)).request.ignored == {"$.data.id"}

    played(play)


def test_what_is_left_alone_is_one_place_of_the_answer() -> None:
    """Another mismatch in the answers to the same call is one, whatever is ignored; so is it afterwards."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        assert [again(check, elsewhere()) for _ in range(3)] == [True, True, True]
        check = mixups.check_for(LIST)
        assert [again(check, elsewhere(None, "$.data[0].id")) for _ in range(3)] == [True, True, False]
        assert check.request.ignored == {OFFSET}

    played(play)


def test_what_turns_out_to_be_evidence_is_ignored_no_more() -> None:
    """A page that names its own offset, or operations that name their own payment, end what was learned."""

    def play(mixups: MixUps) -> None:
        for payment_id in (70, 71):
            check = mixups.check_for(get_operations(payment_id))
            for _ in range(3):
                again(check, elsewhere("$.data.id: 8", "$.data.id"))
        check = mixups.check_for(LIST)
        for _ in range(3):
            again(check, elsewhere())
        asked = mixups.check_for(get_operations(72)).request
        for data, ignored in (({"id": 8, "allowedOperations": []}, {"$.data.id"}), ({"id": 72}, set())):
            mixups.verify(asked, Envelope({"allowedOperations": [], **data}, {}))
            assert mixups.check_for(get_operations(72)).request.ignored == ignored
        mixups.verify(LIST, page())
        assert mixups.check_for(LIST).request.ignored
        mixups.verify(LIST, page(OFFSET))
        assert not mixups.check_for(LIST).request.ignored

    played(play)


def test_a_habit_takes_back_no_other_suspicion() -> None:
    """What was noticed before a habit was learned stays noticed."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        for _ in range(3):
            assert again(check, elsewhere())
        assert not mixups.lately
        mixups.noticed()
        check = mixups.check_for(get_transactions(70))
        for _ in range(3):
            assert again(check, elsewhere())
        assert mixups.lately

    played(play)


@pytest.mark.parametrize("said", [["0", "250", "0"], [None, None, None]])
def test_what_differs_is_no_habit(said: list[str | None]) -> None:
    """Different claims, or none that could be a habit, are never left alone."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        assert not [again(check, elsewhere(one)) for one in said][-1]
        assert not check.request.ignored
        assert mixups.lately

    played(play)


def test_what_was_right_before_is_evidence_for_good() -> None:
    """A service that has named the offset asked for, other than 0, is never said to name the same always."""

    def play(mixups: MixUps) -> None:
        mixups.verify(LIST, page())
        mixups.verify(GET, "anything else")
        assert mixups.may_be_constant(LIST, elsewhere())
        mixups.verify(LIST, page(OFFSET))
        check = mixups.check_for(LIST)
        assert [again(check, elsewhere()) for _ in range(3)] == [True, True, False]
        assert not check.request.ignored

    played(play)


def test_rows_that_do_not_fit_are_taken_where_they_come_again_and_again() -> None:
    """A filter that was never kept is ignored from then on; one that was, for this page alone."""

    def play(mixups: MixUps) -> None:
        others = elsewhere(f"{STATUS}: 7", STATUS)
        mixups.verify(LIST, page(STATUS))
        check = mixups.check_for(LIST)
        assert [again(check, others) for _ in range(3)] == [True, True, True]
        assert check.request.ignored == {STATUS}
        assert not mixups.lately
        assert not mixups.check_for(LIST).request.ignored

    played(play)


def test_rows_that_differ_each_time_are_others() -> None:
    """Rows that do not fit, and are others at each answer, are never taken for the list's own."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        said = [f"{STATUS}: {one}" for one in (7, 8, 8)]
        assert [again(check, elsewhere(one, STATUS)) for one in said] == [True, True, False]
        assert again(check, elsewhere(said[-1], STATUS))
        assert check.request.ignored == {STATUS}

    played(play)


def test_the_second_time_it_is_asked_again_a_little_later() -> None:
    """Two requests that got one another's answers do not come together a third time."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(LIST)
        apart = []
        for _ in range(3):
            again(check, elsewhere())
            apart.append(check.needs_pause)
        assert apart == [False, True, True]

    played(play)


def test_a_refusal_on_a_kept_connection_is_looked_at_again() -> None:
    """A refusal names nothing: after one on a kept connection, the read goes out once more on a new one."""

    def play(mixups: MixUps) -> None:
        check = on_kept(mixups, GET)
        assert again(check, gone())
        assert not check.request.reuse
        check.reused = False
        assert not again(check, gone("another text"))
        assert not again(on_kept(mixups, GET), gone(), may_retry=False)
        assert not again(mixups.check_for(GET), gone())
        unauthorised = AuthenticationError("no", status=401, **ABOUT)
        assert not again(on_kept(mixups, GET), unauthorised)

    played(play)


def test_a_refusal_is_believed_where_it_comes_again() -> None:
    """While answers get mixed up, a read's refusal counts once it has come twice alike, or three times."""

    def play(mixups: MixUps) -> None:
        mixups.noticed()
        check = mixups.check_for(GET)
        assert [again(check, gone(one), may_retry=False) for one in ("a", "a")] == [True, False]
        check = mixups.check_for(GET)
        assert [again(check, gone(one)) for one in ("a", "b", "c")] == [True, True, False]
        assert not again(mixups.check_for(GET), TransportError("broken"))

    played(play)


def test_a_write_is_left_to_its_payment() -> None:
    """A write is never sent again at once; a PUT or DELETE by the policy, but not after a second mismatch."""

    def play(mixups: MixUps) -> None:
        check = mixups.check_for(DELETE)
        assert not again(check, elsewhere(None))
        assert not check.forbids_resend(elsewhere(None))
        assert not again(check, elsewhere(None))
        assert check.forbids_resend(elsewhere(None))

    played(play)


def test_a_writes_refusal_proves_nothing_while_answers_get_mixed_up() -> None:
    """A refusal leaves a write open then, and a POST is not sent again even after a 429."""
    refusals: list[B2BPaymentsError] = [
        BadRequestError("no", status=400, **ABOUT),
        RateLimitError("wait", status=429, **ABOUT),
    ]

    def play(mixups: MixUps) -> None:
        for refusal in refusals:
            assert not mixups.check_for(POST).outcome_unknown(refusal)
            assert not mixups.check_for(POST).forbids_resend(refusal)
        mixups.noticed()
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


def test_a_bare_success_proves_nothing_while_answers_get_mixed_up() -> None:
    """A write's answer without an id is taken, and no longer once answers were mixed up."""

    def play(mixups: MixUps) -> None:
        mixups.verify(DELETE, Envelope({}, {}))
        mixups.noticed()
        mixups.verify(DELETE, Envelope({"id": 70}, {}))
        mixups.verify(GET, Envelope({}, {}))
        with pytest.raises(AnswerMismatchError):
            mixups.verify(DELETE, Envelope({}, {}))

    played(play)


def test_what_named_an_offset_beyond_its_total_once_is_held_to_it() -> None:
    """A service that names offsets beyond its total does not clamp them: such an answer is another's."""

    def play(mixups: MixUps) -> None:
        mixups.verify(LIST, page(OFFSET))
        check = mixups.check_for(LIST)
        assert [again(check, elsewhere("500", OF_TOTAL)) for _ in range(3)] == [True, True, True]
        mixups.verify(LIST, page(OFFSET, OF_TOTAL))
        check = mixups.check_for(LIST)
        assert [again(check, elsewhere("500", OF_TOTAL)) for _ in range(3)] == [True, True, False]

    played(play)
