"""The tests: unit (no socket), socket (a real local server), property (hypothesis).

What has to be set before anything else is imported is set here.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Tests start hundreds of processes. If no bytecode may be written beside the sources, it goes elsewhere:
# otherwise each process would compile all that it imports.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
