"""Object stores, accessed with obstore (extra `cloud`), which no other module imports.

A bucket raises what a file system does: FileNotFoundError, FileExistsError, otherwise OSError with the reason
in `strerror`. obstore's own messages are never shown, since they may contain a signed URL.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from time import monotonic
from typing import Any

from anyio import from_thread

from b2b_payments._errors import ConfigurationError, shown

Version = Mapping[str, str]
"""Identifies one version of an object: its ETag and, if the store has one, its version id."""

_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_SCHEMES = (*_VARIABLES, "memory")
_URL = re.compile(r"(?P<root>(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<bucket>[^/]*))/?(?P<name>.*)", re.DOTALL)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_is_metadata_request = re.compile("/latest/(api/token|meta-data)|/computeMetadata/|/metadata/identity").search
"""Matches errors from metadata endpoints, which obstore asks if the environment has no credentials."""
_STATUS = re.compile(r"status code: (\d{3})|<Code>(\w+)</Code>")
_REASONS = {
    "builder error": "its endpoint is not https, and AWS_ALLOW_HTTP is not true",
    "redirect": "the bucket is in another region than AWS_REGION says",
}
_NO_ANSWER = "the object store did not answer"
_PART = 5 * 2**20
_MAX_PARTS = 9_000
"""S3 accepts 10,000."""
_PARTS_AT_ONCE = 4
_FIRST_PAUSE = 0.1  # seconds
_RETRIES: dict[str, Any] = {
    "max_retries": 100,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(seconds=_FIRST_PAUSE),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
_FAST_RETRIES = {**_RETRIES, "max_retries": 4, "retry_timeout": timedelta(seconds=1)}
_FIRST_ANSWER_WITHIN = 9.0
"""Seconds during which the first request to a store is repeated, since the store may be restarting.

If there are no credentials, it is not repeated.
"""
_TIMEOUT = "5 s"
"""Timeout of the first request, whose response is short. Later requests may transfer much data."""
_CLIENT_OPTIONS = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only"),
    *("proxy_url", "proxy_ca_certificate", "proxy_excludes", "timeout", "user_agent"),
)
"""The client options that the environment may set, in variables prefixed AWS_, GOOGLE_ or AZURE_."""
_NO_REQUEST_FOR = 5.0
"""Seconds during which a store that did not answer, or a machine without credentials, is not asked again.

Many exports may use the same store.
"""
_CHECK_EVERY = 0.2
"""Seconds between two checks whether the waiting task was cancelled."""
_PROBE = "b2b-payments"
_CHECKS = 3
_waits: dict[object, tuple[float, str]] = {}


def longest_wait(least: float) -> tuple[str, float] | None:
    """Return the bucket that this process has waited for longest, and the seconds, if at least `least`."""
    began, root = min(list(_waits.values()), default=(monotonic(), ""))
    waited = monotonic() - began
    return (root, waited) if waited >= least else None


def is_url(path: object) -> bool:
    """Whether a path is a URL of any scheme except ``file``, which names a local path."""
    return isinstance(path, str) and "://" in path and not path.startswith("file:")


def bucket_and_name(url: str, *, folder: bool = False) -> tuple[Bucket, str]:
    """Return the bucket of an object, and the object's name, which may be empty for a `folder`.

    Raises ConfigurationError.
    """
    found = _URL.fullmatch(url)
    if found is None or found["scheme"] not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in (*_SCHEMES, "file"))
        subject = "This URL" if found is None else f"{found['scheme']}://"
        raise ConfigurationError(f"{subject} is not an object store: give {known}.")
    if re.search(r"[@?#]", found["root"]) or re.search(r"[?#]|:.*@", found["name"]):
        raise ConfigurationError(
            "The URL of an object store must not have a user, query or fragment: give s3://bucket/name, and "
            "set credentials by environment variables, such as AWS_ACCESS_KEY_ID."
        )
    name = found["name"].removesuffix("/")
    parts = {*name.split("/")} if name or not folder else set()
    nowhere = not found["bucket"] and found["scheme"] != "memory"
    if nowhere or {"", ".", ".."} & parts or not url.isprintable():
        raise ConfigurationError(f"{shown(url)} does not name an object: give s3://bucket/name.")
    return _opened(found["root"], _settings()), name


def _settings() -> bytes:
    """Hash the environment's settings. Only a hash, so that no traceback's variables hold credentials."""
    settings = sorted(item for item in os.environ.items() if item[0].startswith((*_VARIABLES.values(),)))
    return hashlib.sha256(repr(settings).encode()).digest()


@cache
def _opened(root: str, _settings: bytes) -> Bucket:
    return Bucket(root)


def _import_obstore() -> Any:
    try:
        import obstore  # noqa: PLC0415 - an extra
        from obstore import exceptions, store  # noqa: F401, PLC0415
    except ImportError:
        raise ConfigurationError("Object stores need obstore: pip install 'b2b-payments[cloud]'.") from None
    return obstore


class Bucket:
    """A bucket or container, or a store in this process's memory.

    obstore reads credentials, region and endpoint from the environment.

    Raises ConfigurationError if the extra is missing or the settings are invalid.
    """

    def __init__(self, root: str) -> None:
        self._obstore = _import_obstore()
        self._root = root
        self._checked = False
        self._answered = root.startswith("memory:")
        self._unreachable_until = 0.0
        self._has_credentials = True
        if self._answered:
            self._retrying_store = self._fast_store = self._obstore.store.MemoryStore()
            return
        try:
            make = partial(self._obstore.store.from_url, root)
            self._retrying_store = make(retry_config=_RETRIES)
            self._fast_store = make(retry_config=_FAST_RETRIES, client_options=self._first_options)
        except self._obstore.exceptions.BaseError as error:
            reason = str(error).splitlines()[0].partition(" error: ")[2]
            reason = reason if re.fullmatch(r"[\w ,.'-]{1,100}", reason) else "its settings are invalid"
            raise ConfigurationError(f"{root} cannot be reached: {reason}. {self._remedy}") from None

    @property
    def _first_options(self) -> Mapping[str, str]:
        """The environment's options (obstore ignores them if any are passed), or else a short timeout."""
        prefix = _VARIABLES[self._root.partition(":")[0]]
        env = {name: os.environ.get(f"{prefix}{name.upper()}") for name in _CLIENT_OPTIONS}
        return {"timeout": _TIMEOUT} | {name: value for name, value in env.items() if value is not None}

    @property
    def _store(self) -> Any:
        """The store. Checks first that it answers at all, before any request with long retries."""
        if not self._answered:
            self._ensure_answered()
        return self._retrying_store

    def _ensure_answered(self) -> None:
        if monotonic() >= self._unreachable_until:
            self._request_first_answer()
        if not self._has_credentials:
            raise ConfigurationError(
                f"{self._root} cannot be reached: there are no credentials, neither in the environment "
                f"nor from this machine. {self._remedy}"
            )
        if not self._answered:
            raise OSError(errno.EIO, _NO_ANSWER)

    def _request_first_answer(self) -> None:
        until = monotonic() + _FIRST_ANSWER_WITHIN
        while not self._answered:
            began = monotonic()
            try:
                with suppress(FileNotFoundError):
                    _call(self._obstore.head, self._fast_store, _PROBE)
                self._answered = self._has_credentials = True
            except (self._obstore.exceptions.BaseError, OSError) as error:
                stopped = isinstance(error, OSError) and error.errno == errno.ECANCELED
                # An error that obstore does not retry arrives faster than its first pause.
                final = stopped or monotonic() - began < _FIRST_PAUSE or monotonic() >= until
                self._has_credentials = not _is_metadata_request(str(error))
                self._answered = self._has_credentials and _reason(error) != _NO_ANSWER
                if not self._answered and (final or not self._has_credentials):
                    self._unreachable_until = monotonic() + _NO_REQUEST_FOR
                    return

    @property
    def _remedy(self) -> str:
        return f"Set {_CREDENTIALS[self._root.partition(':')[0]]}."

    def get(self, name: str) -> tuple[bytes, Version]:
        with self._as_os_errors():
            found = _call(self._obstore.get, self._store, name)
            return bytes(_call(found.bytes)), _version_of(found.meta)

    def version(self, name: str) -> Version | None:
        """Return an object's version, or None if it does not exist."""
        with suppress(FileNotFoundError), self._as_os_errors():
            return _version_of(_call(self._obstore.head, self._store, name))
        return None

    def put(self, name: str, data: bytes, over: Version | None = None) -> Version:
        """Create an object, or replace the version `over` of it.

        Raises FileExistsError if another object exists. An equal one counts as written by this call: the
        response to its first attempt may have been lost.
        """
        try:
            return self._put(name, data, mode="create" if over is None else dict(over))
        except FileExistsError as refused:
            with suppress(FileNotFoundError):
                existing, version = self.get(name)
                if existing == data:
                    return version
            raise refused from None

    def replace(self, name: str, data: bytes) -> None:
        self._put(name, data)

    def upload(self, name: str, path: Path) -> None:
        """Upload a file in parts. The object appears once all parts are uploaded."""
        part = max(_PART, path.stat().st_size // _MAX_PARTS)
        self._put(name, path, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)

    def _put(self, name: str, data: bytes | Path, **settings: Any) -> Version:
        with self._as_os_errors():
            return _version_of(_call(self._obstore.put, self._store, name, data, **settings))

    def download(self, name: str, path: Path) -> None:
        with self._as_os_errors() as waiting, path.open("wb") as file:
            for chunk in self._obstore.get(self._store, name).stream(min_chunk_size=_PART):
                file.write(chunk)
                _waits[waiting] = (monotonic(), self._root)

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Return the size of each object in a folder and below it, by its name relative to the folder."""
        with self._as_os_errors():
            found = _call(self._obstore.list(self._store, folder).collect)
        return {one["path"].removeprefix(folder).removeprefix("/"): one["size"] for one in found}

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects. Those that do not exist are ignored."""
        try:
            with self._as_os_errors():
                _call(self._obstore.delete, self._store, list(names))
        except FileNotFoundError:
            for name in names if len(names) > 1 else ():
                self.remove([name])

    def check_conditions(self, name: str) -> None:
        """Check, once, that the store honors conditional puts, by writing and removing the object `name`.

        Raises ConfigurationError if it does not.
        """
        if self._checked:
            return
        # Several times if it fails: another export that ends, or a cleaning, may remove the object meanwhile.
        self._checked = any(self._honors_conditions(name) for _ in range(_CHECKS))
        if not self._checked:
            raise ConfigurationError(
                "This object store does not support conditional puts (If-None-Match, If-Match), so an export "
                "could overwrite another one: use a store that does, or export to a file and upload that."
            )

    def _honors_conditions(self, name: str) -> bool:
        try:
            first = self.put(name, b"first")
            second = self.put(name, b"second", over=first)
            return first != second and all(self._refuses(name, over) for over in (None, first))
        except OSError as error:
            if error.errno != errno.EEXIST and not re.search("501|no such object", error.strerror or ""):
                raise
            return False
        finally:
            with suppress(OSError):
                self.remove([name])

    def _refuses(self, name: str, over: Version | None) -> bool:
        try:
            self.put(name, b"third", over)
        except FileExistsError:
            return True
        return False

    @contextmanager
    def _as_os_errors(self) -> Iterator[object]:
        errors, this = self._obstore.exceptions, object()
        _waits[this] = (monotonic(), self._root)
        try:
            yield this
        except (errors.AlreadyExistsError, errors.PreconditionError):
            raise FileExistsError(errno.EEXIST, "another object exists") from None
        except FileNotFoundError as error:
            missing = "no such bucket" if "NoSuchBucket" in str(error) else "no such object"
            raise FileNotFoundError(errno.ENOENT, missing) from None
        except errors.BaseError as error:
            raise OSError(errno.EIO, _reason(error)) from None
        finally:
            del _waits[this]


def _call(function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Call obstore. In a worker thread of a task, raises OSError soon after the task is cancelled.

    The request goes on in its own thread, and may still succeed.
    """
    try:
        _check_cancelled()
    except RuntimeError:  # not a worker thread of a task
        return function(*args, **settings)
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(function(*args, **settings))
        except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    while not wait([done], _CHECK_EVERY).done:
        _check_cancelled()
    return done.result()


def _check_cancelled() -> None:
    try:
        from_thread.check_cancelled()
    except RuntimeError:
        raise
    except BaseException:  # noqa: BLE001 - the event loop's cancellation
        raise OSError(errno.ECANCELED, "it was stopped") from None


def _reason(error: Exception) -> str:
    codes = [code for pair in _STATUS.findall(str(error)) for code in pair if code]
    for sign, reason in _REASONS.items():
        if sign in str(error):
            return reason
    if not codes:
        return _NO_ANSWER
    verb = "denied access with these credentials:" if codes[0] in {"401", "403"} else "answered"
    return f"the object store {verb} {' '.join(dict.fromkeys(codes))}"


def _version_of(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}
