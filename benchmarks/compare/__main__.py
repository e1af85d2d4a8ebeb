"""The library compared with other clients, in one run.

Run with ``uv run --group bench python -m benchmarks.compare``. The service is the sandbox in its own process,
every measurement runs in a fresh process, and contenders take turns, so that other work on the machine
affects all alike. Contenders that cannot be installed or run are listed. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from benchmarks.compare import exactness, speed, start
from benchmarks.compare.chart import svg
from benchmarks.compare.rivals.generated import PACKAGE
from benchmarks.compare.table import Table, bars_text

_PACKAGES = (
    "aiohttp", "orjson", "msgspec", "attrs", "cattrs", "httpx", "pydantic", "requests", "dlt",
    "openapi-python-client",
)  # fmt: skip


def generate(folder: Path) -> None:
    """Generate the generated client; if that fails, its figures are missing."""
    config = folder / "config.yaml"
    config.write_text(f"post_hooks: []\npackage_name_override: {PACKAGE}\n", encoding="utf-8")
    page = Path(__file__).with_name("openapi.yaml")
    subprocess.run(
        [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--path", str(page)),
            *("--meta", "none", "--config", str(config), "--output-path", str(folder / PACKAGE)),
        ],
        check=False,
        capture_output=True,
    )


def measured(size: speed.Size, generated: str) -> Iterator[Table]:
    """Measure everything, table by table."""
    yield from speed.cpu(size, generated)
    yield from speed.latency(size, generated)
    yield from speed.quota(size, generated)
    yield exactness.lost(generated)
    yield speed.exports(size, generated)
    yield start.imports(size)
    yield start.first(size, generated)
    yield speed.memory(size, generated)


def versions() -> dict[str, str]:
    """Return the versions of Python and of all libraries."""
    found = {"Python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def main() -> int:
    """Measure everything and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer payments and rounds, no 10^6 payments")
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to this file")
    parser.add_argument("--chart", metavar="FILE.svg", type=Path, help="draw the CPU time and the lost rows")
    options = parser.parse_args()
    begun = time.perf_counter()
    tables: list[Table] = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        for table in measured(speed.QUICK if options.quick else speed.FULL, folder):
            print(table, flush=True)
            tables.append(table)
    bars = [bar for table in tables for bar in table.bars]
    print(bars_text(bars))
    about = ", ".join(f"{name} {version}" for name, version in versions().items())
    print(f"\n{about}. {time.perf_counter() - begun:.0f} s.")
    if options.json is not None:
        figures = [attrs.asdict(table) for table in tables]
        options.json.write_text(json.dumps({"versions": versions(), "tables": figures}, indent=2) + "\n")
    if options.chart is not None:
        options.chart.write_text(svg(tables), encoding="utf-8")
    return 1 if any(bar.kept is False for bar in bars) else 0


if __name__ == "__main__":
    sys.exit(main())
