"""Fixtures: a real S3 server for exports."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3_server import S3Server, variables


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Yield an S3 server, started once."""
    with S3Server() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty bucket, and set the environment variables for it."""
    for name, value in variables(s3_server.port).items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.new_bucket()}"
