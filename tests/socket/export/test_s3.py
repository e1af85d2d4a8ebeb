"""Exports to a real S3 server: their objects, outages, kills, and two exports at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import gettempdir

import pytest

from b2b_payments import B2BPaymentsError, ConfigurationError
from b2b_payments.export import ExportError, _bucket, export, resume, sink_for, verify
from b2b_payments.export._bucket import Bucket, bucket_and_name
from b2b_payments.sandbox import Rules, Sandbox
from tests.support.clients import client_of
from tests.support.export_reading import FORMATS, exact, tables_in
from tests.support.program import finished, invoke, start
from tests.support.s3_server import SECRET, Fate, S3Proxy, S3Server, variables

FAST = Rules(quota=False)
Proxied = Callable[..., S3Proxy]


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry requests once, after a short pause."""
    pause = {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=5), "base": 2}
    monkeypatch.setattr(_bucket, "_RETRIES", {"max_retries": 1, "backoff": pause})


@pytest.fixture
def proxied(
    s3: str, s3_server: S3Server, fast_retries: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxied]:
    """Yield a function that starts a proxy between the export and the S3 server."""
    started: list[S3Proxy] = []

    def begin(leave_out: str = "") -> S3Proxy:
        started.append(S3Proxy(s3_server.port, leave_out).__enter__())
        monkeypatch.setenv("AWS_ENDPOINT_URL", variables(started[0].port)["AWS_ENDPOINT_URL"])
        return started[0]

    yield begin
    for one in started:
        one.__exit__()


def fetched(url: str, folder: Path) -> Path:
    """Download the data that an export's manifest names to a folder. Returns the first file."""
    bucket, name = bucket_and_name(url)
    manifest = verify(url)
    folder.mkdir(exist_ok=True)
    for file in manifest.files:
        bucket.download(f"{name.rpartition('/')[0]}/{file}", folder / Path(file).name)
    return folder / Path(manifest.files[0]).name


@pytest.mark.slow
@pytest.mark.parametrize("format_", FORMATS)
async def test_as_local(s3: str, tmp_path: Path, format_: str) -> None:
    """Every format holds the same bytes or rows as a local export."""
    url, local = f"{s3}/deep/er/p.{format_}", tmp_path / f"p.{format_}"
    async with Sandbox(700, rules=FAST) as sandbox, client_of(sandbox) as client:
        await export(client.payments.list(), sink_for(local))
        sink = sink_for(url)
        report = await export(client.payments.list(), sink)
    assert report.complete
    there = fetched(url, tmp_path / "there")
    if format_ in {"jsonl", "csv"}:
        assert there.read_bytes() == local.read_bytes()
    if format_ != "jsonl":
        assert [*map(exact, tables_in(there, format_))] == [*map(exact, tables_in(local, format_))]
    bucket, _ = bucket_and_name(url)
    assert len(bucket.sizes("")) == 1 + len(sink.objects)


@pytest.mark.slow
def test_in_parts(s3: str, tmp_path: Path) -> None:
    """A large file is uploaded in parts, and downloaded unchanged."""
    bucket, _ = bucket_and_name(f"{s3}/x")
    path, back = tmp_path / "large", tmp_path / "back"
    path.write_bytes(os.urandom(12_000_000))
    bucket.upload("large", path)
    bucket.download("large", back)
    assert back.read_bytes() == path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("header", ["if-none-match", "if-match"])
async def test_without_conditional_puts(s3: str, proxied: Proxied, header: str) -> None:
    """A store that ignores conditions of a put is refused, before the service is read; nothing is left."""
    proxied(header)
    async with Sandbox(10) as sandbox, client_of(sandbox) as client:
        with pytest.raises(ConfigurationError, match="does not support conditional puts"):
            await export(client.payments.list(), sink_for(f"{s3}/p.jsonl"))
        assert sandbox.request_count == 0
    assert bucket_and_name(f"{s3}/p")[0].sizes("") == {}


@pytest.mark.slow
@pytest.mark.parametrize("fate", [503, Fate.CUT, Fate.ANSWER_LOST])
async def test_every_other_request_fails(s3: str, proxied: Proxied, fate: Fate) -> None:
    """An export succeeds although every other request to the store fails or loses its response."""
    proxy = proxied()
    proxy.decide = lambda _method, _path: fate if len(proxy.asked) % 2 else Fate.PASSED
    async with Sandbox(100, rules=FAST) as sandbox, client_of(sandbox) as client:
        await export(client.payments.list(), sink_for(f"{s3}/p.csv"))
        assert verify(f"{s3}/p.csv").account.sums.whole.rows == len(sandbox.store)


@pytest.mark.slow
@pytest.mark.parametrize(("fate", "says"), [(503, "answered 503"), (Fate.CUT, "did not answer")])
async def test_an_outage(s3: str, proxied: Proxied, fate: Fate, says: str) -> None:
    """During an outage an export fails with a clear error; later it resumes after the last commit."""
    proxy, down = proxied(), False
    proxy.decide = lambda _method, _path: fate if down else Fate.PASSED
    async with Sandbox(5_000, rules=FAST) as sandbox, client_of(sandbox) as client:
        sink = sink_for(f"{s3}/p.jsonl")

        def after_a_commit(_report: object) -> None:
            nonlocal down
            down = down or any("_log/00000001.00000002" in one for one in proxy.asked)

        walk = client.payments.list(concurrency=1)
        with pytest.raises(
            ExportError, match=f"p.jsonl could not be written: the object store {says}"
        ) as failure:
            await export(walk, sink, on_progress=after_a_commit)
        assert "marked" not in repr(failure.value)
        assert sink.kept
        down, before = False, sandbox.request_count
        await resume(lambda at: client.payments.list(checkpoint=at), sink_for(f"{s3}/p.jsonl"))
        assert sandbox.request_count - before < 15
        assert verify(f"{s3}/p.jsonl").account.sums.whole.rows == len(sandbox.store)


@pytest.mark.slow
async def test_no_such_bucket(s3: str) -> None:
    """A missing bucket raises a clear error, without credentials."""
    async with Sandbox(10) as sandbox, client_of(sandbox) as client:
        with pytest.raises(ExportError, match=r"p\.jsonl could not be written: no such bucket") as failure:
            await export(client.payments.list(), sink_for(f"{s3}-other/p.jsonl"))
    assert "marked" not in repr(failure.value)


@pytest.mark.parametrize(
    ("fate", "says"),
    [
        (403, r"the object store denied access with these credentials: 403\."),
        (503, r"the object store answered 503\."),
        (Fate.CUT, r"the object store did not answer\."),
        (301, r"the bucket is in another region than AWS_REGION says\."),
        (501, r"does not support conditional puts"),
        (0, r"its endpoint is not https, and AWS_ALLOW_HTTP is not true\."),
    ],
)
def test_a_store_that_refuses(
    fast_retries: None, monkeypatch: pytest.MonkeyPatch, fate: Fate | int, says: str
) -> None:
    """A refusal raises a clear error without credentials; no local files are left."""
    with S3Proxy(0) as proxy:
        for name, value in variables(proxy.port).items():
            monkeypatch.setenv(name, value)
        if not fate:
            monkeypatch.delenv("AWS_ALLOW_HTTP")
        proxy.decide = lambda method, _path: fate if method == "PUT" else 404
        sink = sink_for("s3://bucket/p.jsonl")
        with pytest.raises(B2BPaymentsError, match=says) as failure:
            sink.open()
        sink.close(complete=False)
    assert "marked" not in repr(failure.value)
    assert not [*Path(gettempdir()).glob(f"{sink_for('s3://bucket/p.jsonl')._location._prefix}*")]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_command_line(s3: str) -> None:
    """`export` prints where the data is; `verify` accepts its URL and that of its folder."""
    url = f"{s3}/exports/p.csv"
    done = invoke(None, "export", "--sandbox", "--output", url)
    assert done.exit_code == 0, done.stderr
    assert f"The data is in {url}/00000001-" in done.stderr
    done = invoke(None, "export", "--sandbox", "--output", url, "--report", "json")
    report = json.loads(done.stdout)
    assert report["file"] == url
    assert [one.rpartition("/")[2] for one in report["objects"]] == ["p.csv", "p.line_items.csv"]
    for place in (url, f"{s3}/exports", s3):
        verified = invoke(None, "verify", place)
        assert verified.exit_code == 0, verified.stderr
        assert verified.stdout.startswith(f"{url}: as exported, complete: 10,000 payments")
    assert "contains no export" in invoke(None, "verify", f"{s3}/nothing").stderr
    cleaned = invoke(None, "export", "--clean", "--output", url)
    assert cleaned.stderr == f"{url}: leftover files removed: 2.\n"
    assert len(bucket_and_name(url)[0].sizes("")) == 3


async def committed(process: Process, url: str) -> Bucket:
    """Wait until an export has written its first commit, which follows an empty segment."""
    bucket, name = bucket_and_name(url)
    while not any(one.endswith("00000002") for one in await asyncio.to_thread(bucket.sizes, f"{name}/_log")):
        assert process.returncode is None
    return bucket


@pytest.mark.slow
async def test_killed_and_resumed(s3: str) -> None:
    """Killed after a commit and resumed by another process, an export is complete and leaves nothing."""
    url = f"{s3}/p.duckdb"
    rules = Rules(quota=False, latency=0.01)
    async with Sandbox(2_900, rules=rules) as sandbox:
        export_ = ("export", "--output", url, "--quota", "none", "--concurrency", "1")
        process = await start(sandbox, *export_)
        bucket = await committed(process, url)
        process.kill()
        await finished(process)
        before = sandbox.request_count
        code, _, stderr = await finished(await start(sandbox, *export_, "--resume"))
        assert code == 0, stderr
        assert sandbox.request_count - before < 10
        assert verify(url).account.sums.whole.rows == len(sandbox.store)
        assert len(bucket.sizes("")) == 2


@pytest.mark.slow
async def test_two_at_once(s3: str) -> None:
    """An export that was paused while another one finished ends with a clear error, and changes nothing."""
    url = f"{s3}/p.jsonl"
    async with Sandbox(2_900, rules=Rules(quota=False, latency=0.01)) as sandbox:
        export_ = ("export", "--output", url, "--quota", "none", "--concurrency", "1")
        first = await start(sandbox, *export_)
        bucket = await committed(first, url)
        first.send_signal(signal.SIGSTOP)
        code, _, stderr = await finished(await start(sandbox, *export_, "--resume"))
        assert code == 0, stderr
        published = bucket.get("p.jsonl.manifest.json")
        first.send_signal(signal.SIGCONT)
        code, _, stderr = await finished(first)
        assert code == 1
        assert stderr.splitlines()[-1] == (
            f"Error: Another export to {url} has taken over: this one stops and changes nothing."
        )
        assert SECRET not in stderr
        assert bucket.get("p.jsonl.manifest.json") == published
        assert verify(url).account.sums.whole.rows == len(sandbox.store)
