"""Exports: write the payments of a walk to a file, a database or an object store."""

from __future__ import annotations

from b2b_payments._errors import ExportError, VerificationError
from b2b_payments.export._account import Account
from b2b_payments.export._csv import CSVSink
from b2b_payments.export._duckdb import DuckDBSink
from b2b_payments.export._export import export, resume
from b2b_payments.export._jsonl import JSONLSink
from b2b_payments.export._manifest import Manifest
from b2b_payments.export._parquet import ParquetSink
from b2b_payments.export._placed import PlacedSink, sink_for
from b2b_payments.export._sink import Checkpoint, Sink
from b2b_payments.export._sqlite import SQLiteSink
from b2b_payments.export._stores.file import read_stores
from b2b_payments.export._stores.fleet import export_stores
from b2b_payments.export._stores.report import StoreReport, StoresReport, StoreState
from b2b_payments.export._stores.store import Store, TokenFromEnv
from b2b_payments.export._verification import verify

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
    "Store",
    "StoreReport",
    "StoreState",
    "StoresReport",
    "TokenFromEnv",
    "VerificationError",
    "export",
    "export_stores",
    "read_stores",
    "resume",
    "sink_for",
    "verify",
]
