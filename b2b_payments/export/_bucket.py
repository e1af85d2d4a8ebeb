"""Object stores, by obstore (extra `cloud`), which no other module names.

A bucket raises what a file system does: FileNotFoundError, FileExistsError, else OSError with the reason in
`strerror`. obstore's own texts are not shown, since an address in them may be signed.
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
"""What tells an object from the one that was there before."""

_VARIABLES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
_SCHEMES = (*_VARIABLES, "memory")
_URL = re.compile(r"(?P<root>(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<bucket>[^/]*))/?(?P<name>.*)", re.DOTALL)
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
_ASKS_MACHINE = re.compile("/latest/(api/token|meta-data)|/computeMetadata/|/metadata/identity").search
"""What machines in a cloud are asked for: credentials, where the environment has none."""
_STATUS = re.compile(r"status code: (\d{3})|<Code>(\w+)</Code>")
_SIGNS = {
    "builder error": "its endpoint is not https, and AWS_ALLOW_HTTP is not true",
    "redirect": "the bucket is in another region than AWS_REGION says",
}
_NO_ANSWER = "the object store did not answer"
_PART = 5 * 2**20
_MOST_PARTS = 9_000
"""S3 takes 10,000."""
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
_HASTE = {**_RETRIES, "max_retries": 4, "retry_timeout": timedelta(seconds=1)}
_FIRST_WITHIN = 9.0
"""Seconds in which a store is asked again for a first answer, as it may be restarting.

A machine without credentials is asked once.
"""
_SOON = "5 s"
"""For the first answer of all, which is short. In a file's own time anything may be sent."""
_OF_REQUESTS = (
    *("allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only"),
    *("proxy_url", "proxy_ca_certificate", "proxy_excludes", "timeout", "user_agent"),
)
"""What the environment can say of requests, behind AWS_ and its like."""
_AWAY_FOR = 5.0
"""Seconds in which a store that gave no first answer is not asked again: there may be many exports to it.

So is a machine that has no credentials.
"""
_LOOK_EVERY = 0.2
"""Seconds between two looks whether an answer is still waited for."""
_PROBE = "b2b-payments"
_waits: dict[object, tuple[float, str]] = {}


def waited_for(least: float) -> tuple[str, float] | None:
    """Return the bucket that something in this process waits for, and how long: so many seconds or more."""
    began, root = min(list(_waits.values()), default=(monotonic(), ""))
    waited = monotonic() - began
    return (root, waited) if waited >= least else None


def is_url(path: object) -> bool:
    """Whether a path is the URL of an object, or of what is none; that of a file is a path, too."""
    return isinstance(path, str) and "://" in path and not path.startswith("file:")


def bucket_and_name(url: str, *, folder: bool = False) -> tuple[Bucket, str]:
    """Return the bucket of an object, and the object's name; of a `folder` it may be empty.

    Raises ConfigurationError.
    """
    found = _URL.fullmatch(url)
    if found is None or found["scheme"] not in _SCHEMES:
        known = ", ".join(f"{scheme}://" for scheme in (*_SCHEMES, "file"))
        what = "This URL" if found is None else f"{found['scheme']}://"
        raise ConfigurationError(f"{what} is no object store: give {known}.")
    if re.search(r"[@?#]", found["root"]) or re.search(r"[?#]|:.*@", found["name"]):
        raise ConfigurationError(
            "A URL of an object store has no user, query or fragment: give s3://bucket/name, and credentials "
            "by environment variables, such as AWS_ACCESS_KEY_ID."
        )
    name = found["name"].removesuffix("/")
    parts = {*name.split("/")} if name or not folder else set()
    nowhere = not found["bucket"] and found["scheme"] != "memory"
    if nowhere or {"", ".", ".."} & parts or not url.isprintable():
        raise ConfigurationError(f"{shown(url)} names no object: give s3://bucket/name.")
    return _opened(found["root"], _settings()), name


def _settings() -> bytes:
    """Return a hash of what opens a bucket; no frame that an error passes through holds the credentials."""
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
    """The objects of a bucket or container, or of a place in this process's memory.

    Credentials, region and endpoint are those that obstore finds in the environment.

    Raises ConfigurationError where the extra is missing, or the settings cannot be.
    """

    def __init__(self, root: str) -> None:
        self._obstore = _import_obstore()
        self._root = root
        self._checked = False
        self._answered = root.startswith("memory:")
        self._away_until = 0.0
        self._has_credentials = True
        if self._answered:
            self._patient = self._hasty = self._obstore.store.MemoryStore()
            return
        try:
            make = partial(self._obstore.store.from_url, root)
            self._patient = make(retry_config=_RETRIES)
            self._hasty = make(retry_config=_HASTE, client_options=self._soon)
        except self._obstore.exceptions.BaseError as error:
            reason = str(error).splitlines()[0].partition(" error: ")[2]
            reason = reason if re.fullmatch(r"[\w ,.'-]{1,100}", reason) else "its settings cannot be"
            raise ConfigurationError(f"{root} cannot be reached: {reason}. {self._remedy}") from None

    @property
    def _soon(self) -> Mapping[str, str]:
        """What the environment says of requests, and less patience: options given replace all of that."""
        prefix = _VARIABLES[self._root.partition(":")[0]]
        said = {name: os.environ.get(f"{prefix}{name.upper()}") for name in _OF_REQUESTS}
        return {"timeout": _SOON} | {name: value for name, value in said.items() if value is not None}

    @property
    def _store(self) -> Any:
        """The store. Before anything waits for it as long as it may be away: is it there at all?"""
        if not self._answered:
            self._find_out()
        return self._patient

    def _find_out(self) -> None:
        if monotonic() >= self._away_until:
            self._ask_first()
        if not self._has_credentials:
            raise ConfigurationError(
                f"{self._root} cannot be reached: there are no credentials, neither in the environment "
                f"nor from this machine. {self._remedy}"
            )
        if not self._answered:
            raise OSError(errno.EIO, _NO_ANSWER)

    def _ask_first(self) -> None:
        until = monotonic() + _FIRST_WITHIN
        while not self._answered:
            began = monotonic()
            try:
                with suppress(FileNotFoundError):
                    _call(self._obstore.head, self._hasty, _PROBE)
                self._answered = self._has_credentials = True
            except (self._obstore.exceptions.BaseError, OSError) as error:
                stopped = isinstance(error, OSError) and error.errno == errno.ECANCELED
                # What obstore sees no reason to try again fails faster than it pauses.
                final = stopped or monotonic() - began < _FIRST_PAUSE or monotonic() >= until
                self._has_credentials = not _ASKS_MACHINE(str(error))
                self._answered = self._has_credentials and _reason(error) != _NO_ANSWER
                if not self._answered and (final or not self._has_credentials):
                    self._away_until = monotonic() + _AWAY_FOR
                    return

    @property
    def _remedy(self) -> str:
        return f"Set {_CREDENTIALS[self._root.partition(':')[0]]}."

    def get(self, name: str) -> tuple[bytes, Version]:
        """Return an object, and its version."""
        with self._as_os_errors():
            found = _call(self._obstore.get, self._store, name)
            return bytes(_call(found.bytes)), _version_of(found.meta)

    def version(self, name: str) -> Version | None:
        """Return an object's version, None where there is none."""
        try:
            with self._as_os_errors():
                head = _call(self._obstore.head, self._store, name)
                return _version_of(head)
        except FileNotFoundError:
            return None

    def put(self, name: str, data: bytes, over: Version | None = None) -> Version:
        """Put an object where there is none, or in place of a version of it.

        Raises FileExistsError where another is there. That an answer was lost is no reason: then it is ours.
        """
        try:
            with self._as_os_errors():
                mode = "create" if over is None else dict(over)
                return _version_of(self._put(name, data, mode=mode))
        except FileExistsError as refused:
            with suppress(FileNotFoundError):
                there, version = self.get(name)
                if there == data:
                    return version
            raise refused from None

    def replace(self, name: str, data: bytes) -> None:
        """Put an object, whatever is there."""
        with self._as_os_errors():
            self._put(name, data)

    def upload(self, name: str, path: Path) -> None:
        """Put a file, in parts: it is there when all of it is."""
        part = max(_PART, path.stat().st_size // _MOST_PARTS)
        with self._as_os_errors():
            self._put(name, path, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)

    def _put(self, name: str, data: bytes | Path, **settings: Any) -> Any:
        return _call(self._obstore.put, self._store, name, data, **settings)

    def download(self, name: str, path: Path) -> None:
        """Write an object into a file."""
        with self._as_os_errors() as waiting, path.open("wb") as file:
            for chunk in self._obstore.get(self._store, name).stream(min_chunk_size=_PART):
                file.write(chunk)
                _waits[waiting] = (monotonic(), self._root)

    def sizes(self, folder: str) -> Mapping[str, int]:
        """Return the objects in a folder and below it, by their names there, and their sizes."""
        with self._as_os_errors():
            listed = self._obstore.list(self._store, folder)
            found = _call(listed.collect)
        return {one["path"].removeprefix(folder).removeprefix("/"): one["size"] for one in found}

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects that may be gone already."""
        try:
            with self._as_os_errors():
                _call(self._obstore.delete, self._store, list(names))
        except FileNotFoundError:
            for name in names if len(names) > 1 else ():
                self.remove([name])

    def check_conditions(self, name: str) -> None:
        """Find out, once, whether it puts an object only if what is said of the one there is true.

        It is tried with an object of this name. Raises ConfigurationError where it does not.
        """
        if self._checked:
            return
        try:
            first = self.put(name, b"first")
            second = self.put(name, b"second", over=first)
            self._checked = first != second and all(self._refuses(name, over) for over in (None, first))
        except FileExistsError:
            pass
        except OSError as error:
            if "501" not in (error.strerror or ""):
                raise
        finally:
            with suppress(OSError):
                self.remove([name])
        if not self._checked:
            raise ConfigurationError(
                "This object store does not keep conditional puts (If-None-Match, If-Match), so that one "
                "export could overwrite another: give a store that does, or export to a file and copy that."
            )

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
            raise FileExistsError(errno.EEXIST, "another object is there") from None
        except FileNotFoundError as error:
            missing = "no such bucket" if "NoSuchBucket" in str(error) else "no such object"
            raise FileNotFoundError(errno.ENOENT, missing) from None
        except errors.BaseError as error:
            raise OSError(errno.EIO, _reason(error)) from None
        finally:
            del _waits[this]


def _call(function: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    """Call obstore. In a worker thread of a task, no longer than until that is cancelled: OSError then.

    What was asked for may still be done.
    """
    try:
        _check_cancelled()
    except RuntimeError:  # no such thread
        return function(*args, **settings)
    done: Future[Any] = Future()

    def work() -> None:
        try:
            done.set_result(function(*args, **settings))
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            done.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    while not wait([done], _LOOK_EVERY).done:
        _check_cancelled()
    return done.result()


def _check_cancelled() -> None:
    try:
        from_thread.check_cancelled()
    except RuntimeError:
        raise
    except BaseException:  # noqa: BLE001 - the event loop's own
        raise OSError(errno.ECANCELED, "it was stopped") from None


def _reason(error: Exception) -> str:
    said = [code for pair in _STATUS.findall(str(error)) for code in pair if code]
    for sign, what in _SIGNS.items():
        if sign in str(error):
            return what
    if not said:
        return _NO_ANSWER
    what = "refused the credentials, or what they may do:" if said[0] in {"401", "403"} else "answered"
    return f"the object store {what} {' '.join(dict.fromkeys(said))}"


def _version_of(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}
