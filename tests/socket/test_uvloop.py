"""Under uvloop, where a wrong event loop can end the process, misuse is refused as well."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no uvloop for Windows")
def test_misuse_is_refused_under_uvloop() -> None:
    """The tests of clients used in other loops, threads and processes pass on uvloop."""
    command = [
        *(sys.executable, "-m", "pytest", "tests/socket/test_elsewhere.py", "-p", "tests.support.on_uvloop"),
        *("-n", "0", "-p", "no:cacheprovider"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "event loop: uvloop" in done.stdout
    assert " passed" in done.stdout
