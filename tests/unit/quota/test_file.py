"""A window that processes share through a file, even if the file or the processes come to harm."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from b2b_payments import ConfigurationError, LegacyAuth
from b2b_payments._quota import (
    Permit,
    Priority,
    Quota,
    QuotaGate,
    QuotaReading,
    StoreQuota,
    TooLate,
    WaitReason,
    gate_for,
)
from b2b_payments._quota import file as file_module
from b2b_payments._quota.file import FileBackend, path_for
from b2b_payments._quota.state import pack
from b2b_payments._quota.window import Report, ReportKind, Window

STORE = ("https://service.example", "a store")


def quota_in(path: Path, requests: int = 3, **more: int) -> Quota:
    """Return a quota shared through this file, with a window of an hour."""
    return Quota(requests, 3600, shared=str(path), **more)


def backend_in(path: Path, requests: int = 3) -> FileBackend:
    """Return one process's backend for a file; several in one process stand for several processes."""
    return FileBackend(STORE, quota_in(path, requests))


def gets_permit(backend: FileBackend, member: int = 1, priority: Priority = Priority.CALL) -> bool:
    """Try to acquire a permit, report its request as answered, and return whether there was one."""
    now = time.monotonic()
    verdict = backend.with_window(lambda window: window.try_acquire(member, priority, now, now))
    if verdict is None or verdict.key is None:
        backend.report(Report(ReportKind.WITHDRAWN, member), now)
        return False
    key = verdict.key
    backend.report(Report(ReportKind.ANSWERED, key, now), now)
    return True


def write_window(path: Path, packed: object) -> None:
    """Write a window to a file as if another process had done so."""
    body = msgspec.msgpack.encode([file_module._boot_id(), packed])
    head = struct.pack("<8sQII", b"b2bquota", 9, len(body), zlib.crc32(body))
    path.write_bytes((head + body).ljust(32 * 1024, b"\0"))


def test_processes_count_together(tmp_path: Path) -> None:
    """One process's grants count for the others, and for processes that start later."""
    one, other = backend_in(tmp_path / "quota"), backend_in(tmp_path / "quota")
    assert [gets_permit(one), gets_permit(other), gets_permit(one), gets_permit(other)] == [
        True,
        True,
        True,
        False,
    ]
    assert not gets_permit(backend_in(tmp_path / "quota"))


def test_strictest_quota_of_all_processes_wins(tmp_path: Path) -> None:
    """A process with a larger quota keeps to the smaller quota of another process."""
    assert gets_permit(backend_in(tmp_path / "quota", 2))
    large = backend_in(tmp_path / "quota", 9)
    assert [gets_permit(large) for _ in range(3)] == [True, False, False]


def test_closed_gate_is_closed_in_all_processes(tmp_path: Path) -> None:
    """A gate that is closed in one process is closed in the others."""
    one, other = backend_in(tmp_path / "quota"), backend_in(tmp_path / "quota")
    opens = time.monotonic() + 50
    one.with_window(lambda window: window.close(opens))
    assert not gets_permit(other)
    assert other.latest.closed_until == opens


def test_call_of_another_process_goes_before_pages(tmp_path: Path) -> None:
    """The window's last permit goes to a call, even if another process's page came first."""
    pages, calls = backend_in(tmp_path / "quota", 1), backend_in(tmp_path / "quota", 1)
    now = time.monotonic()
    opens = now + 50
    pages.with_window(lambda window: window.close(opens))
    assert pages.with_window(lambda window: window.try_acquire(1, Priority.PAGE, now, now)) is not None
    assert (
        calls.with_window(lambda window: window.try_acquire(2, Priority.CALL, now + 1, now + 1)) is not None
    )

    def asked(backend: FileBackend, member: int, priority: Priority, came: float) -> bool:
        verdict = backend.with_window(lambda window: window.try_acquire(member, priority, came, opens))
        return verdict is not None and verdict.key is not None

    for backend in (pages, calls):
        backend.with_window(
            lambda window: window.claims.update(
                {n: c._replace(seen_at=opens) for n, c in window.claims.items()}
            )
        )
    assert not asked(pages, 1, Priority.PAGE, now)
    assert asked(calls, 2, Priority.CALL, now + 1)


def test_dead_waiter_blocks_nobody(tmp_path: Path) -> None:
    """The place in the line of a process that died is free a few seconds later."""
    dead, alive = backend_in(tmp_path / "quota", 1), backend_in(tmp_path / "quota", 1)
    now = time.monotonic()
    dead.with_window(lambda window: window.close(now + 1))
    dead.with_window(lambda window: window.try_acquire(1, Priority.CALL, now, now))
    later = now + 10
    verdict = alive.with_window(lambda window: window.try_acquire(2, Priority.PAGE, later, later))
    assert verdict is not None
    assert verdict.key is not None


def test_half_written_slot_is_ignored(tmp_path: Path) -> None:
    """If a process is killed while writing, the previous state is still readable."""
    path = tmp_path / "quota"
    backend = backend_in(path)
    assert gets_permit(backend)
    before = path.read_bytes()
    assert gets_permit(backend)
    after = path.read_bytes()
    torn = [at for at, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    for cut in (torn[0] + 1, torn[len(torn) // 2], torn[-1]):
        path.write_bytes(after[:cut] + before[cut:])
        reader = backend_in(path)
        reader.with_window(lambda _: None)
        assert len(reader.latest.grants.times) in {1, 2}


def test_damaged_file_counts_as_a_full_window(tmp_path: Path) -> None:
    """If the grants are unknown, a full window is assumed."""
    path = tmp_path / "quota"
    assert gets_permit(backend_in(path))
    path.write_bytes(path.read_bytes().replace(b"b2bquota", b"b2bquota\xff"))
    backend = backend_in(path)
    assert not gets_permit(backend)
    assert len(backend.latest.grants.times) == 3


def test_slot_of_another_version_counts_as_a_full_window(tmp_path: Path) -> None:
    """If another version of this library wrote the file, its grants are unknown."""
    path = tmp_path / "quota"
    assert gets_permit(backend_in(path))
    body = b"another version"
    header = file_module._HEADER.pack(file_module._MAGIC, 99, len(body), zlib.crc32(body))
    path.write_bytes((header + body).ljust(path.stat().st_size // 2, b"\0") * 2)
    backend = backend_in(path)
    assert not gets_permit(backend)
    assert len(backend.latest.grants.times) == 3


def test_stated_quota_counts_in_all_processes(tmp_path: Path) -> None:
    """A lower quota that the service stated to one process applies in the others."""
    one, other = backend_in(tmp_path / "quota", 100), backend_in(tmp_path / "quota", 100)
    now = time.monotonic()
    verdict = one.with_window(lambda window: window.try_acquire(1, Priority.CALL, now, now))
    assert verdict is not None
    assert verdict.key is not None
    stated = QuotaReading(3, 60.0, allocated=(4, 60.0))
    one.report(Report(ReportKind.ANSWERED, verdict.key, now, stated), now)
    assert [gets_permit(other) for _ in range(4)] == [True, True, True, False]


def test_impossible_window_counts_as_a_full_one(tmp_path: Path) -> None:
    """A window with values that no version writes counts as lost, although its checksum is right."""
    path = tmp_path / "quota"
    for change in ({2: [1.0, 2.0, 3.0]}, {2: [float("inf"), 1.0]}, {6: [(1, 9, 0.0, 0.0)]}):
        backend = backend_in(path)
        assert gets_permit(backend)
        packed = msgspec.msgpack.decode(msgspec.msgpack.encode(pack(backend.latest, [])))
        for place, value in change.items():
            packed[place] = value
        write_window(path, packed)
        backend = backend_in(path)
        assert not gets_permit(backend)
        assert len(backend.latest.grants.times) == 3
        path.unlink()


def test_absurd_allocation_is_ignored(tmp_path: Path) -> None:
    """An allocation that no service states is ignored, and cannot keep the window from being saved."""
    path = tmp_path / "quota"
    window = Window(Quota(3, 3600))
    packed = msgspec.structs.replace(pack(window, []), allocated=[1e308, 60.0])
    write_window(path, packed)
    assert gets_permit(backend_in(path))


def test_file_without_any_slot_is_new(tmp_path: Path) -> None:
    """A process killed before it wrote its first slot was granted nothing."""
    (tmp_path / "quota").write_bytes(bytes(32 * 1024))
    assert gets_permit(backend_in(tmp_path / "quota"))


@pytest.mark.parametrize("content", [b"x", b"\xff" * 4096, b"{}" * 20_000])
def test_foreign_file_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    """A file with other content is not written to; the process counts separately."""
    path = tmp_path / "quota"
    path.write_bytes(content)
    backend = backend_in(path)
    assert [gets_permit(backend) for _ in range(4)] == [True, True, True, False]
    assert path.read_bytes() == content
    assert "holds something else" in caplog.text


def removed(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def truncated(path: Path) -> None:
    """Empty a file."""
    os.truncate(path, 0)


@pytest.mark.parametrize("lost", [removed, truncated])
def test_lost_file_counts_as_a_full_window(tmp_path: Path, lost: Callable[[Path], None]) -> None:
    """A process that finds another file than before does not know the others' grants in between."""
    path = tmp_path / "quota"
    one, other = backend_in(path, 4), backend_in(path, 4)
    assert gets_permit(one)
    assert [gets_permit(other) for _ in range(3)] == [True] * 3
    lost(path)
    assert not gets_permit(one)
    assert not gets_permit(other)
    assert not gets_permit(backend_in(path, 4))


def test_times_before_the_last_boot_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file written before the last boot has times of another clock."""
    path = tmp_path / "quota"
    assert [gets_permit(backend_in(path)) for _ in range(4)] == [True, True, True, False]
    monkeypatch.setattr(file_module, "_boot_id", lambda: "another")
    assert gets_permit(backend_in(path))


def test_lost_file_is_logged_once_and_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the file is lost, each process uses its part of the quota."""
    caplog.set_level(logging.INFO, "b2b_payments")
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "quota"
    one, other = backend_in(path, 6), backend_in(path, 6)
    assert gets_permit(one)
    assert gets_permit(other)
    assert gets_permit(one)
    path.unlink()
    folder.rmdir()
    folder.touch()  # a file, where the folder was
    assert [gets_permit(one) for _ in range(4)] == [False] * 4  # its part, three, is used up
    assert "cannot be shared" in caplog.text
    assert "1/2 of it" in caplog.text
    monkeypatch.setattr(one, "_retry_at", 0.0)
    assert not gets_permit(one)
    assert caplog.text.count("cannot be shared") == 1
    folder.unlink()
    folder.mkdir()
    monkeypatch.setattr(one, "_retry_at", 0.0)
    assert not gets_permit(one)  # the grants of the others meanwhile are unknown
    assert path.exists()
    assert "shared again" in caplog.text


def test_full_disk_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file cannot be created, the process counts separately."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    backend = backend_in(tmp_path / "quota")
    assert [gets_permit(backend) for _ in range(4)] == [True, True, True, False]
    assert "No space left on device" in caplog.text


def test_stopped_lock_holder_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that holds the lock and does nothing is waited for a second at most."""
    path = tmp_path / "quota"
    backend = backend_in(path)
    assert gets_permit(backend)
    holder = os.open(path, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    assert backend.with_window(lambda _: True) is None
    monkeypatch.setattr(file_module, "_LOCK_TIMEOUT", 0.0)
    assert backend.with_window(lambda _: True) is True
    assert "stopped" in caplog.text
    os.close(holder)
    monkeypatch.setattr(backend, "_retry_at", 0.0)
    assert gets_permit(backend)


def test_symbolic_link_is_not_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is written through a symbolic link at the file's path."""
    target = tmp_path / "target"
    (tmp_path / "quota").symlink_to(target)
    assert gets_permit(backend_in(tmp_path / "quota"))
    assert not target.exists()
    assert "cannot be shared" in caplog.text


def test_other_kinds_of_files_stay_unchanged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pipe is not used and keeps its mode, as does a file that already existed."""
    pipe, empty = tmp_path / "pipe", tmp_path / "empty"
    os.mkfifo(pipe, 0o640)
    assert gets_permit(backend_in(pipe))
    assert "cannot be shared" in caplog.text
    assert "not a regular file" in caplog.text
    empty.touch(0o640)
    assert gets_permit(backend_in(empty))
    assert [one.stat().st_mode & 0o777 for one in (pipe, empty)] == [0o640, 0o640]


def test_folder_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user's cron jobs and shells find the same file, in a folder only they can enter."""
    monkeypatch.setattr(file_module, "_FOLDERS", (str(tmp_path / "missing"), str(tmp_path)))
    first = path_for(STORE, shared=True)
    for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "USER"):
        monkeypatch.setenv(name, "/elsewhere")
    assert path_for(STORE, shared=True) == first
    assert path_for(("https://service.example", "another"), shared=True) != first
    assert first.parent.stat().st_mode & 0o777 == 0o700
    first.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="no folder that only this user can enter"):
        path_for(STORE, shared=True)


def test_each_credential_has_its_own_file(tmp_path: Path) -> None:
    """Two stores' tokens give two files. A token from a provider identifies no store."""

    async def give() -> str:
        return "token"

    one, other = LegacyAuth("token-one-1234567890"), LegacyAuth("token-two-1234567890")
    paths = [path_for(("https://service.example", auth.store), str(tmp_path)) for auth in (one, other, one)]
    assert paths[0] == paths[2] != paths[1]
    assert "token" not in str(paths)
    with pytest.raises(ConfigurationError, match="give the path of a file"):
        path_for(("https://service.example", LegacyAuth(give).store), shared=True)
    assert path_for(("x", LegacyAuth(give).store), str(tmp_path / "q")) == tmp_path / "q"


def test_users_who_may_write_to_the_folder_may_use_the_file(tmp_path: Path) -> None:
    """In a folder for several users, all of them can use the file, whatever the first one's umask."""
    tmp_path.chmod(0o1777)
    before = os.umask(0o022)
    try:
        assert gets_permit(backend_in(tmp_path / "quota"))
    finally:
        os.umask(before)
    assert (tmp_path / "quota").stat().st_mode & 0o777 == 0o666
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    assert gets_permit(backend_in(own / "quota"))
    assert (own / "quota").stat().st_mode & 0o777 == 0o600


def test_exception_releases_the_lock(tmp_path: Path) -> None:
    """The lock is released whatever is raised while it is held."""
    one, other = backend_in(tmp_path / "quota"), backend_in(tmp_path / "quota")

    def interrupted(_: Window) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.with_window(interrupted)
    assert gets_permit(other)


def test_merge_keeps_a_full_window() -> None:
    """Grants at the same time are counted one by one, also when two windows are merged."""
    full, other = Window(Quota(5, 10)).grants, Window(Quota(5, 10)).grants
    full.fill(3.0)
    other.add(3.0, Priority.CALL)
    other.add(4.0, Priority.CALL)
    full.merge(other)
    assert list(full.times) == [3.0] * 4 + [4.0]


async def test_shared_and_unshared_client_count_together(tmp_path: Path) -> None:
    """When the store's second client shares the quota, the first one's grants count, too."""
    alone = gate_for(STORE, Quota(3, 3600))
    for _ in range(2):
        permit = await alone.acquire(Priority.CALL)
        assert isinstance(permit, Permit)
        alone.learn(permit, QuotaReading())
    shared = gate_for(STORE, quota_in(tmp_path / "quota"))
    assert shared is alone
    assert isinstance(await shared.acquire(Priority.CALL), Permit)
    late = await shared.acquire(Priority.CALL, until=asyncio.get_running_loop().time() + 1)
    assert isinstance(late, TooLate)
    assert not gets_permit(backend_in(tmp_path / "quota"))


def test_lock_of_the_parent_does_not_block_a_fork() -> None:
    """A child creates its own gates even if its parent's thread held a lock at the fork."""
    script = """
import asyncio, os, threading
from b2b_payments._quota import Priority, Quota, QuotaReading, gate_for, backends

async def spend():
    gate = gate_for(("store",), Quota())
    gate.learn(await gate.acquire(Priority.CALL), QuotaReading())

asyncio.run(spend())
entry = next(iter(backends._Registry.recent))
held, go = threading.Event(), threading.Event()

def hold():
    with backends._Registry.lock, entry.backend._lock:
        held.set()
        go.wait()

threading.Thread(target=hold).start()
held.wait()
child = os.fork()
if not child:
    asyncio.run(spend())
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
go.set()
raise SystemExit(code)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0


def test_each_store_has_its_own_file_in_a_folder(tmp_path: Path) -> None:
    """Stores share a folder, not a window."""
    one, other = path_for(STORE, str(tmp_path)), path_for(("x", "y"), str(tmp_path))
    assert one.parent == other.parent == tmp_path
    assert one != other


def test_without_posix_locks_sharing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a system without POSIX locks, the error says what to do instead."""
    monkeypatch.setattr(file_module, "fcntl", None)
    with pytest.raises(ConfigurationError, match="POSIX locks"):
        backend_in(tmp_path / "quota")


CHILD = """
import asyncio, sys, time
from b2b_payments._quota import Priority, Quota, QuotaReading, gate_for

async def main():
    gate = gate_for(("store",), Quota(10, 1.0, margin=0.0, shared=sys.argv[1]))
    end = time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        permit = await gate.acquire(Priority.PAGE)
        print(permit.granted_at, flush=True)
        gate.learn(permit, QuotaReading(remaining=1000, resets_after=1.0))

asyncio.run(main())
"""


@pytest.mark.slow
def test_killed_and_stopped_processes_keep_the_window(tmp_path: Path) -> None:
    """Of three processes one is killed and one stopped: no window holds more than the quota."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "quota"), "3"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    killed, stopped, _ = running
    assert killed.stdout is not None
    assert stopped.stdout is not None
    lines = [stopped.stdout.readline(), killed.stdout.readline()]
    killed.send_signal(signal.SIGKILL)
    stopped.send_signal(signal.SIGSTOP)
    stopped.send_signal(signal.SIGCONT)
    for process in running:
        lines += process.communicate()[0].splitlines()
    moments = sorted(float(line) for line in lines if line.strip())
    assert len(moments) > 20
    assert all(later - earlier >= 1.0 for earlier, later in zip(moments, moments[10:], strict=False))


def test_forked_child_has_its_own_lock(tmp_path: Path) -> None:
    """A forked child opens the file again: its parent's lock would not keep it out."""
    backend = backend_in(tmp_path / "quota")
    assert gets_permit(backend)
    before = backend._file
    backend._pid = -1  # as a child of a fork finds it
    assert gets_permit(backend)
    assert backend._pid == os.getpid()
    assert before is not None


async def test_unused_stores_keep_no_file_open(tmp_path: Path) -> None:
    """A process that goes through many stores only keeps files in use open; each store keeps its count."""
    before = len(os.listdir("/dev/fd"))
    for number in range(40):
        store = StoreQuota(("store", str(number % 20)), Quota(2, 60.0, shared=str(tmp_path)))
        store.open()
        permit = await store.acquire(Priority.CALL, until=math.inf, on_wait=lambda *_: None)
        assert isinstance(permit, Permit)
        assert len(os.listdir("/dev/fd")) == before + 1
        store.release(permit, QuotaReading())
        store.close()
    assert len(os.listdir("/dev/fd")) == before
    store.open()
    late = await store.acquire(Priority.CALL, until=time.monotonic() + 5, on_wait=lambda *_: None)
    assert isinstance(late, TooLate)


async def test_gate_waits_for_other_processes(tmp_path: Path) -> None:
    """A gate knows how long other processes' requests make it wait."""
    one = QuotaGate(quota_in(tmp_path / "q", 2), backend_in(tmp_path / "q", 2), clock=time.monotonic)
    other = QuotaGate(quota_in(tmp_path / "q", 2), backend_in(tmp_path / "q", 2), clock=time.monotonic)
    for gate in (one, other):
        permit = await gate.acquire(Priority.PAGE)
        assert isinstance(permit, Permit)
        gate.learn(permit, QuotaReading())
    late = await one.acquire(Priority.CALL, until=time.monotonic() + 5)
    assert isinstance(late, TooLate)
    assert 3590 < late.seconds < 3601


async def test_gate_waits_for_the_lock_of_another_process(tmp_path: Path) -> None:
    """While another process has the file locked, a gate waits, and gets its permit afterwards."""
    path = tmp_path / "quota"
    gate = QuotaGate(quota_in(path), backend_in(path), clock=time.monotonic)
    assert gets_permit(backend_in(path))
    holder = os.open(path, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    reasons = []

    def release(_: float, reason: WaitReason) -> None:
        reasons.append(reason)
        fcntl.flock(holder, fcntl.LOCK_UN)

    assert isinstance(await gate.acquire(Priority.CALL, on_wait=release), Permit)
    assert reasons == [WaitReason.IN_FLIGHT]
    os.close(holder)


def test_successive_loops_share_one_window() -> None:
    """With `asyncio.run` again and again, without `shared`, each run knows the grants of those before."""

    async def spend() -> bool:
        gate = gate_for(("https://one.example",), Quota(3, 3600))
        permit = await gate.acquire(Priority.CALL, until=asyncio.get_running_loop().time() + 1)
        if isinstance(permit, Permit):
            gate.learn(permit, QuotaReading())
        return isinstance(permit, Permit)

    assert [asyncio.run(spend()) for _ in range(5)] == [True, True, True, False, False]


def test_loops_in_several_threads_share_one_window() -> None:
    """Event loops in several threads count together."""

    async def spend() -> int:
        gate = gate_for(("https://two.example",), Quota(20, 3600))
        granted = 0
        while isinstance(
            permit := await gate.acquire(Priority.PAGE, until=asyncio.get_running_loop().time() + 1), Permit
        ):
            gate.learn(permit, QuotaReading())
            granted += 1
        return granted

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: asyncio.run(spend()), range(4))) == 20


def test_reserve_is_kept_from_pages() -> None:
    """Pages leave the reserve in each window to calls."""
    window = Window(Quota(5, 10, margin=0, reserve=2))

    def asked(priority: Priority) -> float:
        verdict = window.try_acquire(1, priority, 0.0, 0.0)
        if verdict.key is not None:
            window.record(Report(ReportKind.ANSWERED, verdict.key), 0.0)
        return verdict.opens_at

    assert [asked(Priority.PAGE) for _ in range(4)] == [0.0, 0.0, 0.0, 10.0]
    assert [asked(Priority.CALL) for _ in range(3)] == [0.0, 0.0, 10.0]


def test_times_of_pages_are_bounded() -> None:
    """With a reserve, only as many times of pages are kept as a window can hold."""
    window = Window(Quota(3, 10, margin=0, reserve=1))
    for turn in range(8):
        verdict = window.try_acquire(1, Priority.PAGE, 10.0 * turn, 10.0 * turn)
        window.record(Report(ReportKind.ANSWERED, verdict.key or 0), 10.0 * turn)
    assert list(window.grants.pages) == list(window.grants.times) == [50.0, 60.0, 70.0]


@pytest.mark.parametrize("reserve", [-1, 150, 1.5, True, "1"])
def test_invalid_reserve_is_refused(reserve: int) -> None:
    """The reserve is a whole number of requests, fewer than the quota's."""
    with pytest.raises(ConfigurationError, match="reserve"):
        Quota(reserve=reserve)


@pytest.mark.parametrize("shared", ["", 3, "http://host:6379/0", "redis://", b"/path"])
def test_invalid_shared_is_refused(shared: str) -> None:
    """A quota is shared through True, a path or a Redis URL, and nothing else."""
    with pytest.raises(ConfigurationError, match="shared"):
        Quota(shared=shared)


@pytest.mark.parametrize("kind", [ReportKind.ANSWERED, ReportKind.UNANSWERED])
def test_delayed_request_counts_when_it_may_have_arrived(kind: ReportKind) -> None:
    """If a process was stopped between permit and request, the service counted it later."""
    window = Window(Quota(3, 10, margin=0.5, reserve=1))
    verdicts = [window.try_acquire(1, Priority.PAGE, 0.0, 0.0)]
    window.record(Report(ReportKind.ANSWERED, verdicts[0].key or 0), 0.25)
    verdicts.append(window.try_acquire(1, Priority.PAGE, 1.0, 1.0))
    window.record(Report(kind, verdicts[1].key or 0, 1.0), 4.0)
    assert list(window.grants.times) == list(window.grants.pages) == [0.0, 3.5]
    assert window.earliest(5.0, 0, Priority.PAGE) == 10.5
    assert window.earliest(5.0, 1, Priority.PAGE) == 14.0


def test_refused_request_counts_from_its_grant() -> None:
    """The service does not count what it refuses, so the grant is not postponed."""
    window = Window(Quota(3, 10, margin=0.5))
    verdict = window.try_acquire(1, Priority.CALL, 0.0, 0.0)
    window.record(Report(ReportKind.REFUSED, verdict.key or 0, 0.0, pause=2.0), 4.0)
    assert list(window.grants.times) == [0.0]
    assert window.closed_until == 6.0
