"""Copies of a store's payments, kept in sync: one full read, then only what changed."""

from __future__ import annotations

from b2b_payments.sync._report import SyncReport
from b2b_payments.sync._store import DuckDBStore, PostgresStore, SQLiteStore, Store, store_for
from b2b_payments.sync._stores import sync_stores
from b2b_payments.sync._sync import sync

__all__ = [
    "DuckDBStore",
    "PostgresStore",
    "SQLiteStore",
    "Store",
    "SyncReport",
    "store_for",
    "sync",
    "sync_stores",
]
