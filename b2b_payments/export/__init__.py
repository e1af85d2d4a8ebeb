"""Exports: the payments of a walk, put away somewhere safe."""

from __future__ import annotations

from b2b_payments.export.export import export
from b2b_payments.export.file import ExportError, NewFile
from b2b_payments.export.jsonl import JSONLSink
from b2b_payments.export.sink import Checkpoint, Sink

__all__ = ["Checkpoint", "ExportError", "JSONLSink", "NewFile", "Sink", "export"]
