"""Exports: the payments of a walk, put away somewhere safe."""

from __future__ import annotations

from b2b_payments.export.account import Account
from b2b_payments.export.csv import CSVSink
from b2b_payments.export.duckdb import DuckDBSink
from b2b_payments.export.export import export, resume
from b2b_payments.export.file import ExportError
from b2b_payments.export.formats import sink_for
from b2b_payments.export.jsonl import JSONLSink
from b2b_payments.export.manifest import Manifest
from b2b_payments.export.parquet import ParquetSink
from b2b_payments.export.sink import Checkpoint, PlacedSink, Sink
from b2b_payments.export.sqlite import SQLiteSink
from b2b_payments.export.verification import VerificationError, verify

__all__ = [
    "Account",
    "CSVSink",
    "Checkpoint",
    "DuckDBSink",
    "ExportError",
    "JSONLSink",
    "Manifest",
    "ParquetSink",
    "PlacedSink",
    "SQLiteSink",
    "Sink",
    "VerificationError",
    "export",
    "resume",
    "sink_for",
    "verify",
]
