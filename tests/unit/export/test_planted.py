"""Forged objects from others who may write to a bucket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from b2b_payments.export import ExportError, sink_for, verify
from b2b_payments.export._bucket import Bucket
from tests.support.exporting import ROWS, exported, written

URL = "memory://bucket/exports/p.csv"
MANIFEST = "exports/p.csv.manifest.json"
SEGMENT = "exports/p.csv/_log/00000001.00000003"
FOLDER = "p.csv/00000001-5f2c9a1b7d3e4f60"


@pytest.mark.parametrize(
    "planted",
    [
        {"sha256": {"../../etc/passwd": "0"}},
        {"sha256": {"/etc/passwd": "0"}},
        {"sha256": {"": "0"}},
        {"sha256": {"..": "0"}},
        {"sha256": {"p.csv\0": "0"}},
        {"sha256": {"p.csv": 5}},
        {"sha256": [["p.csv", "0"]]},
        {"files": ["../00000001-5f2c9a1b7d3e4f60/p.csv"]},
        {"files": [f"{FOLDER}/.."]},
        {"files": [f"{FOLDER}/p.csv\0"]},
        {"files": [f"{FOLDER}/../p.csv"]},
        {"files": ["p.csv/../p.csv"]},
        {"files": [FOLDER]},
        {"totals": {"USD": "NaN"}},
        {"statuses": {"3": {"rows": 1, "totals": {"USD": "Infinity"}}}},
        {"format": ["csv"]},
        {"format": None},
        {"number": -5},
        {"number": "1"},
        {"number": 1.5},
    ],
)
def test_planted_manifest(bucket: Bucket, planted: Mapping[str, Any]) -> None:
    """A manifest with an invalid value is refused with one error, and no file that it names is read."""
    exported(sink_for(URL))
    manifest = msgspec.json.decode(bucket.get(MANIFEST)[0])
    bucket.replace(MANIFEST, msgspec.json.encode(manifest | planted))
    with pytest.raises(ExportError, match=r"p\.csv\.manifest\.json is damaged"):
        verify(URL)


@pytest.mark.parametrize(
    "planted",
    [
        {"sizes": []},
        {"sizes": [-1, 5]},
        {"sizes": [5] * 11},
        {"since": -(10**12)},
        {"since": 10**12},
        {"without": [1, 2, 3]},
        {"without": [3]},
        {"checkpoint": []},
    ],
)
def test_planted_segment(bucket: Bucket, planted: Mapping[str, Any]) -> None:
    """A segment with invalid values is refused with one error, at once."""
    written(sink_for(URL), ROWS[:8])
    head, _, lines = bucket.get(SEGMENT)[0].partition(b"\n")
    header = msgspec.json.decode(head)
    del header["own_crc32"]
    changed = msgspec.json.encode(header | planted)
    bucket.replace(SEGMENT, changed + b"\n" + lines)
    sink = sink_for(URL)
    with pytest.raises(ExportError, match=r"The log of the export to .* cannot be used"):
        sink.resume()
    sink.close(complete=False)


@pytest.mark.parametrize("segment", ["00000001.99999999", "99999999.00000001"])
def test_planted_numbers(bucket: Bucket, segment: str) -> None:
    """Numbers after the largest with eight digits have nine: their segments are resumed and removed."""
    bucket.replace(f"exports/p.csv/_log/{segment}", b"planted")
    exported(sink_for(URL))
    manifest = msgspec.json.decode(bucket.get(MANIFEST)[0])
    bucket.replace(MANIFEST, msgspec.json.encode(manifest | {"number": 99_999_999}))
    first = sink_for(URL)
    written(first, ROWS[:8])
    first.close(complete=False)
    exported(sink_for(URL), resume=True)
    assert verify(URL).number == 100_000_000
    assert not [name for name in bucket.sizes("exports/p.csv") if name.startswith("_log")]
