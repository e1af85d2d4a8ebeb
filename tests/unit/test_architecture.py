"""The structure of the package: which module may import which, and what is exported."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import b2b_payments

PACKAGE = Path(b2b_payments.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Low to high: a module imports from layers below its own, or from its own package.
LAYERS = (
    {"printable"},
    {"formats", "regular", "secret", "version"},
    {"errors"},
    {"auth", "background", "events", "models", "quota", "retry", "tasks"},
    {"arguments"},
    {"protocol", "tracing"},
    {"mixups"},
    {"converter", "transport"},
    {"call", "tables"},
    {"walk"},
    {"changes"},
    {"resources"},
    {"client"},
    {"blocking", "testing"},
    {"pytest_plugin"},
    {"doctor"},
    {"export"},
    {"sync"},
    {"reporting"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MAY_IMPORT = {
    "sandbox": {"arguments", "auth", "errors", "models", "printable"},
    "cli": {"sandbox"},
    "pytest_plugin": {"sandbox"},
}

# The only modules that may import these.
HOMES = {
    "aiohttp": {"client", "pytest_plugin", "sandbox", "transport"},
    "asyncio": {"cli", "quota", "sandbox", "tasks"},
    "cattrs": {"converter", "export"},
    "click": {"cli"},
    "distributed": {"export"},
    "duckdb": {"export"},
    "filelock": {"export"},
    "obstore": {"_bucket"},
    "opentelemetry": {"tracing"},
    "pytest": {"pytest_plugin"},
    "psycopg": {"export"},
    "pandas": {"tables"},
    "polars": {"tables"},
    "pyarrow": {"tables"},
    "redis": {"quota"},
    "rich": {"cli"},
    "yarl": {"transport"},
}

SURFACE = {
    "APIError",
    "AuthenticationError",
    "B2BPaymentsError",
    "BadRequestError",
    "Card",
    "Change",
    "Channel",
    "ConfigurationError",
    "ConflictError",
    "Fee",
    "LegacyAuth",
    "LineItem",
    "Money",
    "NotFoundError",
    "OfflineLineItem",
    "OfflinePayment",
    "Operation",
    "OrderBy",
    "OutcomeUnknownError",
    "Page",
    "PaginationError",
    "PayloadTooLargeError",
    "Payment",
    "PaymentOperations",
    "PaymentsClient",
    "PermissionDeniedError",
    "ProcessingStatus",
    "Quota",
    "RateLimitError",
    "RequestTimeoutError",
    "ResponseDecodeError",
    "RetryPolicy",
    "SearchBy",
    "ServerError",
    "SortBy",
    "StoreAuth",
    "Transaction",
    "TransportError",
    "ValidationError",
    "from_wire",
    "to_dict",
    "to_wire",
}


def named(path: Path) -> str:
    """Return a file's path for an assertion's message."""
    return str(path.relative_to(PACKAGE.parent))


@cache
def imports(path: Path) -> list[str]:
    """Return the dotted names that a file imports."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}: imports are written in full"
            assert node.module is not None
            names += (f"{node.module}.{alias.name}" for alias in node.names)
    return names


def home(path: Path) -> str:
    """Return the top-level module that a file belongs to, without a leading underscore."""
    return bare(path.relative_to(PACKAGE).parts[0].removesuffix(".py"))


def bare(module: str) -> str:
    """Return a module's name without a leading underscore."""
    return module if module.startswith("__") else module.removeprefix("_")


def test_imports_point_one_way() -> None:
    """A module imports only from layers below its own, or what `MAY_IMPORT` lists for it."""
    for path in FILES:
        here = home(path)
        if here == "__init__":
            continue
        assert here in RANK or here in MAY_IMPORT, f"{here} has no place among the layers"
        for name in imports(path):
            root, _, rest = name.partition(".")
            if root != "b2b_payments":
                continue
            there = bare(rest.partition(".")[0])
            below = here in RANK and there in RANK and RANK[there] < RANK[here]
            allowed = there == here or below or there in MAY_IMPORT.get(here, set())
            assert allowed, f"{named(path)} imports {there}"


def module_of(path: Path) -> str:
    """Return the dotted name by which a file is imported."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_import_cycles() -> None:
    """No file imports itself through others, not even inside a package."""
    modules = {module_of(path): path for path in FILES}
    sorter = TopologicalSorter[str]()
    for module, path in modules.items():
        for name in imports(path):
            there = name if name in modules else name.rpartition(".")[0]
            sorter.add(module, *({there} & modules.keys()))
    sorter.prepare()  # raises CycleError, which names the circle


def test_each_library_is_imported_only_in_its_home() -> None:
    """Libraries are imported only by the modules in `HOMES`: cattrs in the converter, and so on."""
    for path in FILES:
        here = {home(path), path.stem}
        for name in imports(path):
            root = name.partition(".")[0]
            assert here & HOMES.get(root, here), f"{root} is imported in {named(path)}"


def test_every_file_is_short_and_postpones_annotations() -> None:
    """No file is longer than 400 lines, and each that imports anything postpones its annotations."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, named(path)
        if path.name != "__init__.py" and "import " in text:
            assert "from __future__ import annotations" in text, named(path)


def test_exports_are_exact() -> None:
    """`__all__` is sorted and names every public object of the package, and nothing else."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen_by_checkers = {
        alias.name: statement.module
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert b2b_payments.__all__ == sorted([*seen_by_checkers, "__version__"])
    assert set(b2b_payments.__all__) <= set(dir(b2b_payments))
    for name, module in seen_by_checkers.items():
        assert module is not None
        assert getattr(b2b_payments, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="has no attribute 'Paymentz'"):
        getattr(b2b_payments, "Paymentz")  # noqa: B009


def test_fixed_surface_is_exported() -> None:
    """Every name that other programs rely on is exported at the top level."""
    assert set(b2b_payments.__all__) >= SURFACE


def test_all_of_every_module_exists() -> None:
    """Each `__all__` in the package is sorted, and every name in it exists."""
    for found in pkgutil.walk_packages([str(PACKAGE)], "b2b_payments."):
        if found.name.rpartition(".")[2] == "__main__":
            continue
        module = importlib.import_module(found.name)
        exported = getattr(module, "__all__", [])
        assert list(exported) == sorted(exported), found.name
        assert all(hasattr(module, name) for name in exported), found.name


def test_every_error_is_exported() -> None:
    """Every error of the library is exported at its top level."""
    errors = vars(importlib.import_module("b2b_payments._errors")).values()
    raised = {one.__name__ for one in errors if isinstance(one, type) and issubclass(one, Exception)}
    assert raised <= set(b2b_payments.__all__)


def test_importing_the_package_is_light() -> None:
    """`import b2b_payments` loads no command line, no sandbox, no export and no sink's library."""
    script = "import sys, b2b_payments; print(*sys.modules)"
    # Under coverage, the process would import what coverage needs.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    loaded = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
        env=environment,
    ).stdout.split()
    # Heavy modules are imported with the first name that needs them.
    unwanted = (
        "aiohttp",
        "cattrs",
        "click",
        "rich",
        "pyarrow",
        "duckdb",
        "obstore",
        "sqlite3",
        "aiohttp.web",
        "opentelemetry",
    )
    ours = {f"b2b_payments.{name}" for name in ("_cli", "export", "sandbox")}
    assert not [name for name in loaded if name in unwanted or ".".join(name.split(".")[:2]) in ours]
