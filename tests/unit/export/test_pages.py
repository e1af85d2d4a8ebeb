"""Batches of payments for a sink."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from b2b_payments._errors import ExportError, ResponseDecodeError
from b2b_payments._protocol.json import encode
from b2b_payments._protocol.listing import Head, Listing
from b2b_payments._tables.columns import PAYMENTS
from b2b_payments._walk.reader import JoinedPage
from b2b_payments.export import CSVSink, JSONLSink, ParquetSink, PlacedSink, verify
from b2b_payments.export._account import UNREADABLE, Account, Sums, account_page, entry_of
from b2b_payments.export._pages import BATCH_ROWS, PageBatch
from b2b_payments.export._reading import read_payments
from tests.support.examples import LISTED_PAYMENT


def changed(**fields: Any) -> dict[str, Any]:
    """Return the example payment with changed fields."""
    return {**LISTED_PAYMENT, **fields}


def page(body: bytes, places: list[int]) -> JoinedPage:
    """Return a joined page of this body."""
    return JoinedPage(Listing([Head()] * len(places), body, 0, None, None), places, {}, 250)


def batch_of(*bodies: str) -> PageBatch:
    """Return a batch of pages with one row each, whose JSON is `bodies`."""
    return PageBatch([page(f'{{"code":200,"data":[{body}]}}'.encode(), [0]) for body in bodies])


@contextmanager
def open_sink(sink: PlacedSink) -> Iterator[PlacedSink]:
    """Open a sink, and close it as not complete."""
    sink.open()
    try:
        yield sink
    finally:
        sink.close(complete=False)


def test_a_batch_is_a_sequence_of_the_new_rows() -> None:
    """A batch is a sequence of its pages' new rows, in order: by index, slice and iteration."""
    body = json.dumps({"data": [{"id": 1}, {"id": 2}, {"id": 3}]}).encode()
    batch = PageBatch([page(body, [0, 2]), page(body, [1])])
    assert len(batch) == 3
    assert list(batch) == [{"id": 1}, {"id": 3}, {"id": 2}]
    assert batch[1] == {"id": 3}
    assert batch[1:] == [{"id": 3}, {"id": 2}]


def test_lines_are_what_the_service_wrote() -> None:
    """A line has the service's own bytes: numbers, escapes and the order of names stay."""
    first, second = '{"id":1,"a":1.50,"b":"\\u00fc"}', '{"b":"ü","id":2}'
    assert b"".join(batch_of(first, second).lines()) == f"{first}\n{second}\n".encode()


@pytest.mark.parametrize("space", ["\n", "\r\n", "\r"])
def test_a_row_over_several_lines_becomes_one(space: str) -> None:
    """Line breaks within an object are removed, with all white space, so that each payment is one line."""
    batch = PageBatch(
        [page(f'{{"data":[{{"id": 1,{space}"amount": 0.10}},{space}{{"id": 2}}]}}'.encode(), [0, 1])]
    )
    assert b"".join(batch.lines()) == b'{"id":1,"amount":0.10}\n{"id": 2}\n'


def test_invalid_utf8_is_refused() -> None:
    """Text that is not UTF-8 raises an error."""
    batch = PageBatch([page(b'{"data":[{"id":1},{"id":2,"payerName":"\xff"}]}', [0, 1])])
    with pytest.raises(ResponseDecodeError, match=r"payment 2: .*UTF-8"):
        batch.lines()


@pytest.mark.parametrize(
    "unusual",
    [
        changed(),
        changed(total={"code": "USD", "value": "1E+2"}),
        changed(total={"code": "USD", "value": 30.25}),
        changed(total={"code": None, "value": "1"}),
        changed(processingStatus="3"),
        changed(processingStatus=None),
        changed(total=None),
        changed(total=[]),
    ],
)
def test_entries_are_those_of_the_objects(unusual: dict[str, Any]) -> None:
    """Entries read from bytes equal those read from objects, in any format of the values."""
    batch = batch_of(json.dumps(changed()), json.dumps(unusual))
    expected = [entry_of(encode(changed())), entry_of(encode(unusual))]
    assert list(batch.entries()) == expected
    assert (list(batch), list(batch.entries()))[1] == expected


def test_entries_after_a_sink_refused_the_batch(tmp_path: Path) -> None:
    """If a sink refused a batch after it had read a part of it, the entries are those of all payments."""
    rows = [changed(), changed(id=10**25)]
    batch = PageBatch([page(b'{"data":[%b]}' % encode(row), [0]) for row in rows])
    with open_sink(ParquetSink(tmp_path / "p.parquet")) as sink, pytest.raises(ExportError, match="64 bits"):
        sink.write(batch)
    assert list(batch.entries()) == [entry_of(encode(row)) for row in rows]


@pytest.mark.parametrize(
    ("unusual", "problem"),
    [
        (changed(total={"code": "USD", "value": "1." + "1" * 20}), "does not fit into a decimal"),
        (changed(id=10**25), "does not fit into 64 bits"),
    ],
)
def test_a_batch_fits_each_sink_it_is_handed_to(
    unusual: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    """A batch that CSV accepted is refused by a sink that would round it, in either order."""
    batch = batch_of(json.dumps(unusual))
    for _ in range(2):
        with open_sink(CSVSink(tmp_path / "p.csv")) as sink:
            sink.write(batch)
        with (
            open_sink(ParquetSink(tmp_path / "p.parquet")) as sink,
            pytest.raises(ExportError, match=problem),
        ):
            sink.write(batch)


@pytest.mark.parametrize("field", LISTED_PAYMENT)
def test_a_line_is_read_as_it_was_counted(field: str, tmp_path: Path) -> None:
    """The account and the reading of an export agree on a payment, whichever of its fields is unreadable."""
    values = ("null", "true", "1.5", "1e400", "9" * 5_000, '""', '"x"', "[]", "{}", "[[1]]")
    for value, status in product(values, ("3", '"3"')):
        row = json.dumps(changed(processingStatus=0) | {field: 0})
        row = row.replace('"processingStatus": 0', f'"processingStatus": {status}')
        row = row.replace(f'"{field}": 0', f'"{field}": {value}')
        body = f'{{"code":200,"data":[{row}]}}'.encode()
        decoded = account_page(body, True)
        heads = [Head()] if decoded is None else decoded.data
        batch = PageBatch([JoinedPage(Listing(heads, body, 0, None, None), [0], {}, 250)])
        (tmp_path / "p.jsonl").write_bytes(b"".join(batch.lines()))
        (read,) = read_payments(tmp_path / "p.jsonl", "jsonl")
        counted, again = Sums(), Sums()
        counted.add(batch.entries())
        again.add([(read.status, read.currency, read.amount)])
        assert again == counted, value
        if status == "3" and field not in {"processingStatus", "total"} and len(value) < 100:
            assert read.amount == 30, value


def test_half_a_surrogate_pair_hides_no_field(tmp_path: Path) -> None:
    """A line from elsewhere with half a surrogate pair is read like any other."""
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(changed(note="\ud800")) + "\n" + json.dumps(changed(note="x")) + "\n")
    (odd, usual) = read_payments(path, "jsonl")
    assert odd == usual


def test_sums_are_exact() -> None:
    """Totals are exact, per currency; unreadable payments are counted separately."""
    sums, values = Sums(), ("1" + "0" * 39, "0." + "0" * 38 + "1", "-0.3")
    for value in values:
        sums.add([entry_of(encode(changed(total={"code": "USD", "value": value})))] * 2)
    sums.add([entry_of(encode(changed(total={"code": "EUR", "value": "2"}))), entry_of(b"{}")])
    assert sums.whole.rows == 8
    assert sums.whole.totals["EUR"] == 2
    assert Fraction(sums.whole.totals["USD"]) == 2 * sum(map(Fraction, values))
    assert sums.statuses[UNREADABLE].rows == 1
    assert sums.statuses[UNREADABLE].totals == {}


def test_batch_limit_in_bytes() -> None:
    """A batch has a limit in bytes, too, and ignores pages without new rows."""
    batch = PageBatch()
    for _ in range(100):
        batch.add(page(b" " * 2**20, []))
    assert not batch.is_full(BATCH_ROWS)
    for _ in range(32):
        batch.add(page(b" " * 2**20, [0]))
    assert batch.is_full(BATCH_ROWS)


def test_number_of_thousands_of_digits(tmp_path: Path) -> None:
    """A number of thousands of digits is exported unchanged and verified; columns have it as text."""
    rows = [changed(id=1), changed(id=2, processingStatus="3")]  # the second is in an unusual format
    sent = [json.dumps(row)[:-1] + f',"n":{"1" * 5_000}}}' for row in rows]
    sink, account = JSONLSink(tmp_path / "p.jsonl"), Account({})
    sink.open()
    sink.write(batch_of(*sent))
    account.sums.add(batch_of(*sent).entries())
    sink.commit({"account": account.pack()})
    sink.close(complete=True)
    assert verify(tmp_path / "p.jsonl").account.sums.whole.rows == 2
    for read in batch_of(*sent).rows(whole=True, decimal=True):
        assert f',"n":{"1" * 5_000}}}' in read.of(PAYMENTS)[0][-1]
