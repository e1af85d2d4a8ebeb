"""Exports to an object store: their objects, crashes, cleaning, and two exports at once."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from traceback import walk_tb
from typing import Any

import obstore
import pytest

from b2b_payments import ConfigurationError
from b2b_payments.export import ExportError, VerificationError, sink_for, verify
from b2b_payments.export._bucket import Bucket
from b2b_payments.export._location import location_of
from b2b_payments.export._manifest import manifest_bytes
from b2b_payments.export._stores.places import places_of
from b2b_payments.export._stores.run import finished_since, manifest_hash
from b2b_payments.export._verification import exports_in
from tests.support.export_reading import FORMATS, account_of, exact, tables_in
from tests.support.exporting import ROWS, exported, written
from tests.support.program import invoke, sentence
from tests.unit.export.conftest import AtStep

pytestmark = pytest.mark.usefixtures("bucket")

FOLDER = "memory://bucket/exports"
TAKEN_OVER = r"Another export to memory://bucket/exports/p\.\w+ has taken over: this one stops"


def names(bucket: Bucket) -> list[str]:
    """Return the names of all objects, without the random part of each export."""
    return sorted(name.partition("-")[0] for name in bucket.sizes("exports"))


def fetched(bucket: Bucket, url: str, folder: Path) -> Path:
    """Download the data that an export's manifest names to a folder. Returns the first file."""
    folder.mkdir(exist_ok=True)
    manifest = verify(url)
    for file in manifest.files:
        bucket.download(f"exports/{file}", folder / Path(file).name)
    return folder / Path(manifest.files[0]).name


@pytest.mark.parametrize("format_", FORMATS)
def test_as_local(bucket: Bucket, tmp_path: Path, format_: str) -> None:
    """The data equals that of a local export; nothing else is left, locally or in the store."""
    url = f"{FOLDER}/p.{format_}"
    local = tmp_path / f"p.{format_}"
    exported(sink_for(local))
    before = {*tmp_path.iterdir()}
    sink = exported(sink_for(url))
    assert {*tmp_path.iterdir()} == before
    there = fetched(bucket, url, tmp_path / "there")
    if format_ in {"jsonl", "csv"}:
        assert there.read_bytes() == local.read_bytes()
    if format_ != "jsonl":
        assert [*map(exact, tables_in(there, format_))] == [*map(exact, tables_in(local, format_))]
    parts = 2 if format_ == "csv" else 1
    assert names(bucket) == [f"p.{format_}.manifest.json", *[f"p.{format_}/00000001"] * parts]
    assert sink.objects == tuple(f"{FOLDER}/{file}" for file in verify(url).files)
    assert not sink.kept


@pytest.mark.parametrize("format_", FORMATS)
def test_resumed(bucket: Bucket, format_: str) -> None:
    """A new sink resumes what another one committed."""
    url = f"{FOLDER}/p.{format_}"
    first = sink_for(url)
    written(first, ROWS[:8])
    first.close(complete=False)
    assert first.kept
    assert sink_for(url).kept
    assert not any("manifest" in name for name in names(bucket))
    second = sink_for(url)
    earlier = second.resume()
    assert earlier is not None
    assert earlier["account"]["rows"] == 8
    second.close(complete=False)
    exported(sink_for(url), resume=True)
    assert verify(url).account.sums.whole.rows == len(ROWS)
    assert len(names(bucket)) == (3 if format_ == "csv" else 2)


def test_a_full_disk(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails on a full local disk, after the store has it, can be resumed."""
    sink = sink_for(f"{FOLDER}/p.csv")
    sink.open()
    sink.write(ROWS[:4])
    with monkeypatch.context() as full:
        full.setattr("b2b_payments.export._log.write_whole", no_space_left)
        with pytest.raises(ExportError, match=r"No space left on device in .* \(TMPDIR\)"):
            sink.commit({"account": account_of(ROWS[:4])})
    sink.close(complete=False)
    assert names(bucket) != []
    resumed = sink_for(f"{FOLDER}/p.csv")
    earlier = resumed.resume()
    assert earlier is not None
    assert earlier["account"]["rows"] == 4
    resumed.close(complete=False)


def no_space_left(*_: object, **__: object) -> None:
    """Fail like a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_nothing_to_resume(bucket: Bucket) -> None:
    """Resuming starts a new export if nothing was committed."""
    sink = sink_for(f"{FOLDER}/p.jsonl")
    assert not sink.kept
    assert sink.resume() is None
    sink.close(complete=False)
    assert names(bucket) == []
    abandoned = sink_for(f"{FOLDER}/p.jsonl")
    abandoned.open()
    assert exported(sink_for(f"{FOLDER}/p.jsonl"), resume=True).objects


def test_replaced_data_stays_once(bucket: Bucket) -> None:
    """Replaced data stays until the next export, for programs that are still reading it."""
    kept = []
    for count in (3, 6, 9):
        exported(sink_for(f"{FOLDER}/p.jsonl"), ROWS[:count])
        kept.append(verify(f"{FOLDER}/p.jsonl").files[0].removeprefix("p.jsonl/"))
        assert {*bucket.sizes("exports/p.jsonl")} == {*kept[-2:]}


def test_check_whose_object_is_removed(bucket: Bucket, at_step: AtStep) -> None:
    """The object that checks for conditional puts may be removed at any time, also after a kill."""
    url = f"{FOLDER}/p.jsonl"

    def remove() -> None:
        bucket.remove([f"exports/{one}" for one in bucket.sizes("exports") if one.endswith("/probe")])

    for number in range(1, 10):
        bucket._checked = False
        at_step(number, remove)
        sink = sink_for(url)
        sink.open()
        sink.close(complete=False)
    bucket.replace("exports/p.jsonl/00000001-0123456789abcdef/probe", b"first")
    exported(sink_for(url))
    assert names(bucket) == ["p.jsonl.manifest.json", "p.jsonl/00000001"]


@pytest.mark.parametrize("before", [True, False])
def test_not_complete(bucket: Bucket, *, before: bool) -> None:
    """An incomplete export replaces only an incomplete one; a complete one stays."""
    url, beside = f"{FOLDER}/p.jsonl", f"{FOLDER}/p.incomplete.jsonl"
    exported(sink_for(url), ROWS[:3], complete=before)
    sink = exported(sink_for(url), ROWS[:6], complete=False)
    assert sink.instead == (beside if before else None)
    assert verify(url).account.complete is before
    assert not verify(beside if before else url).account.complete
    assert verify(beside if before else url).account.sums.whole.rows == 6
    assert exports_in(FOLDER) == ([beside, url] if before else [url])


def test_without_an_account() -> None:
    """An export to an object store needs an account, for its manifest."""
    sink = sink_for(f"{FOLDER}/p.jsonl")
    sink.open()
    sink.write(ROWS)
    sink.commit({"at": 1})
    with pytest.raises(ExportError, match="its checkpoint has no account"):
        sink.close(complete=True)


def test_without_a_checkpoint(bucket: Bucket) -> None:
    """Segments without a checkpoint are dropped by each resumption."""
    url = f"{FOLDER}/p.sqlite"
    for _ in range(3):
        sink = sink_for(url)
        earlier = sink.resume()
        rows = earlier["account"]["rows"] if earlier else 0
        sink.write(ROWS[rows : rows + 2])
        sink.commit({"account": account_of(ROWS[: rows + 2])})
        for row in ROWS[rows + 2 : rows + 5]:  # each is its own segment in a database's log
            sink.write([row])
    exported(sink_for(url), resume=True)
    assert verify(url).account.sums.whole.rows == len(ROWS)
    assert not [name for name in bucket.sizes("exports/p.sqlite") if name.startswith("_log")]


@pytest.mark.parametrize("finished", [True, False])
def test_cleaned(bucket: Bucket, *, finished: bool) -> None:
    """Cleaning removes what a crash left, and replaced data; published data stays unchanged."""
    url = f"{FOLDER}/p.csv"
    if finished:
        exported(sink_for(url), ROWS[:3])
        exported(sink_for(url), ROWS[:6])
    written(sink_for(url), ROWS)
    found = len(bucket.sizes("exports/p.csv"))
    assert location_of(url).clean() == found - (2 if finished else 0)
    assert len(bucket.sizes("exports/p.csv")) == (2 if finished else 0)
    assert location_of(url).clean() == 0
    if finished:
        assert verify(url).account.sums.whole.rows == 6
    else:
        with pytest.raises(
            ExportError, match=r"p\.csv does not exist: name a file that an export has written"
        ):
            verify(url)
    assert not sink_for(url).kept
    exported(sink_for(url))
    assert verify(url).account.sums.whole.rows == len(ROWS)
    # The data that was just replaced.
    assert len(bucket.sizes("exports/p.csv")) == (4 if finished else 2)


def test_cleaned_a_folder(bucket: Bucket) -> None:
    """Cleaning a folder of exports by mistake changes none of them."""
    exported(sink_for(f"{FOLDER}/p.jsonl"))
    written(sink_for(f"{FOLDER}/q.jsonl"))
    before = bucket.sizes("")
    assert location_of(FOLDER).clean() == 0
    assert bucket.sizes("") == before


def test_temporary_files(tmp_path: Path) -> None:
    """The next export removes temporary files that a crash left, but not those of a running export."""
    url = f"{FOLDER}/p.jsonl"
    under_way = sink_for(url)
    written(under_way)
    (own,) = tmp_path.glob("b2b-payments-*")
    left = own.with_name(f"{own.name[:-1]}x")
    (left / "log").mkdir(parents=True)
    again = sink_for(url)
    again.open()
    assert not left.exists()
    assert own.exists()
    again.close(complete=False)
    under_way.close(complete=False)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("first", [True, False])
def test_cleaned_while_an_export_runs(at_step: AtStep, *, first: bool) -> None:
    """Cleaning stops a running export; cleaning fails if an export ends meanwhile."""
    url = f"{FOLDER}/p.jsonl"
    if not first:
        exported(sink_for(url), ROWS[:3])
    location = location_of(url)
    for _ in range(2):
        sink = sink_for(url)
        written(sink, ROWS[:8])
        assert location.clean() > 0
        sink.write(ROWS[8:])
        with pytest.raises(ExportError, match=TAKEN_OVER):
            sink.commit({"account": account_of(ROWS)})
        sink.close(complete=False)
    written(sink_for(url), ROWS[:4])

    def end_another() -> None:
        exported(sink_for(url))

    at_step(3, end_another)
    with pytest.raises(ExportError, match="has just ended: clean again"):
        location_of(url).clean()
    assert verify(url).account.sums.whole.rows == len(ROWS)


def test_reopened_after_another_took_over() -> None:
    """A sink whose export was stopped by another one may resume that: what it commits then is kept."""
    url = f"{FOLDER}/p.jsonl"
    sink, other = sink_for(url), sink_for(url)
    written(sink, ROWS[:4])
    written(other, ROWS[:6])
    other.close(complete=False)
    with pytest.raises(ExportError, match=TAKEN_OVER):
        sink.commit({"account": account_of(ROWS)})
    sink.close(complete=False)
    kept = [sink.kept]
    written(sink, ROWS[:8], resume=True)
    sink.close(complete=False)
    assert [*kept, sink.kept] == [False, True]
    exported(sink, resume=True)
    assert verify(url).account.sums.whole.rows == len(ROWS)


def test_cleaned_while_many_stores_are_exported() -> None:
    """Cleaning changes a manifest's number, but a run over many stores does not take that for its export."""
    url = f"{FOLDER}/p.jsonl"
    exported(sink_for(url), ROWS[:3])
    at_start = manifest_hash(url)
    by_earlier_version = hashlib.sha256(manifest_bytes(url) or b"").hexdigest()
    assert finished_since(url, by_earlier_version, {}) is None
    written(sink_for(url))
    assert location_of(url).clean() > 0
    assert finished_since(url, at_start, {}) is None
    exported(sink_for(url))
    assert finished_since(url, at_start, {}) == len(ROWS)


def test_cleaned_at_a_path(tmp_path: Path) -> None:
    """Cleaning removes a local interrupted export, too."""
    path = tmp_path / "p.jsonl"
    sink = sink_for(path)
    written(sink, ROWS)
    sink.close(complete=False)
    assert location_of(path).clean() == 3
    assert not [*tmp_path.iterdir()]


def test_memory_without_a_bucket() -> None:
    """A memory URL needs no bucket."""
    url = f"memory:///{token_hex(4)}/p.jsonl"
    (place,) = exported(sink_for(url)).objects
    assert place == f"{url.removesuffix('p.jsonl')}{verify(url).files[0]}"


@pytest.mark.parametrize("damage", ["shorter", "no head", "gone"])
def test_damaged_log(bucket: Bucket, damage: str) -> None:
    """A changed log is not resumed."""
    url = f"{FOLDER}/p.csv"
    written(sink_for(url), ROWS)
    name = f"exports/p.csv/_log/00000001.0000000{3 if damage == 'gone' else 4}"
    data, version = bucket.get(name)
    if damage == "gone":
        bucket.remove([name])
    else:
        bucket.put(name, data[:-1] if damage == "shorter" else data[1:], version)
    sink = sink_for(url)
    with pytest.raises(ExportError, match=r"cannot be used: .*, or another export has taken over\."):
        sink.resume()
    sink.close(complete=False)


def test_verified(bucket: Bucket) -> None:
    """Changed or removed data, and a damaged or missing manifest, raise errors."""
    url = f"{FOLDER}/p.jsonl"
    exported(sink_for(url))
    data = f"exports/{verify(url).files[0]}"
    lines, version = bucket.get(data)
    bucket.put(data, lines.replace(b"USD", b"EUR"), version)
    with pytest.raises(VerificationError, match=r"p\.jsonl is not what was exported: p\.jsonl was changed"):
        verify(url)
    bucket.remove([data])
    with pytest.raises(VerificationError, match=r"p\.jsonl does not exist"):
        verify(url)
    manifest, version = bucket.get("exports/p.jsonl.manifest.json")
    for damaged in (b"{}", manifest.replace(b'"p.jsonl/', b'"../../')):
        version = bucket.put("exports/p.jsonl.manifest.json", damaged, version)
        for broken in (verify, lambda url: exported(sink_for(url))):
            with pytest.raises(ExportError, match=r"p\.jsonl\.manifest\.json is damaged"):
                broken(url)
    with pytest.raises(ExportError, match=r"q\.jsonl has no manifest"):
        verify(f"{FOLDER}/q.jsonl")


def test_a_url_of_a_file(tmp_path: Path) -> None:
    """A file URL is treated as a local path."""
    path = tmp_path / "with space.jsonl"
    url = path.as_uri()
    assert exported(sink_for(url)).objects == ()
    assert verify(url).account == verify(path).account
    assert exports_in(tmp_path.as_uri()) == [str(path)]
    assert len(path.read_bytes().splitlines()) == len(ROWS)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "ftp://host/p.jsonl",
            r"ftp:// is not an object store: give s3://, gs://, az://, memory://, file://",
        ),
        ("s3:///p.jsonl", r"does not name an object: give s3://bucket/name"),
        ("s3://bucket", r"does not name an object"),
        ("s3://bucket/a//p.jsonl", r"does not name an object"),
        ("s3://bucket/../p.jsonl", r"does not name an object"),
        ("s3://key:marked@bucket/p.jsonl", r"credentials by environment variables"),
        ("az://bucket/p.jsonl?sig=marked", r"credentials by environment variables"),
        ("S3://key:marked@bucket/p.jsonl", r"This URL is not an object store: give s3://"),
        (" s3://key:marked@bucket/p.jsonl", r"This URL is not an object store: give s3://"),
        ("s3:///key:marked@bucket/p.jsonl", r"credentials by environment variables"),
        ("s3:/key:marked@bucket/p.jsonl", r"A URL must be a str with '://', not a Path"),
        ("az://container/p.jsonl", r"Account must be specified\. Set AZURE_STORAGE_ACCOUNT_NAME and "),
    ],
)
def test_wrong_urls(monkeypatch: pytest.MonkeyPatch, url: str, says: str) -> None:
    """An invalid URL raises a clear error, without anything that may be a credential."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigurationError, match=says) as failure:
        sink_for(url, "jsonl")
    assert "marked" not in f"{failure.value!r}{failure.value.__cause__}{failure.value.__context__}"


@pytest.mark.parametrize("name", ["p.other", "p", "p.jsonl?sig=marked"])
@pytest.mark.parametrize("place", [sink_for, lambda url: places_of(url, None)])
def test_credential_is_refused_before_the_extension(place: Callable[[str], object], name: str) -> None:
    """A URL with a credential is refused for that, before its extension is checked."""
    with pytest.raises(ConfigurationError, match="credentials by environment variables") as failure:
        place(f"s3://key:marked@bucket/{name}")
    assert "marked" not in str(failure.value)


def test_settings_in_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable in an error's traceback holds the environment's settings."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "marked")
    with pytest.raises(ConfigurationError, match="cannot be reached") as failure:
        sink_for("az://container/p.jsonl")
    _, *ours = walk_tb(failure.tb)
    assert "marked" not in repr([frame.f_locals for frame, _ in ours])


def test_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials in the environment or the machine, a clear error is raised at once."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    sink = sink_for("s3://bucket/p.jsonl")
    for failing in (sink.open, sink.resume, lambda: verify("s3://bucket/p.jsonl")):
        with pytest.raises(ConfigurationError, match=r"there are no credentials, .* Set AWS_ACCESS_KEY_ID, "):
            failing()
        sink.close(complete=False)
    for command in ("verify", "report"):
        assert "Set AWS_ACCESS_KEY_ID" in sentence(invoke(None, command, "s3://bucket/p.jsonl"), 2)


def test_credentials_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An error that obstore does not retry is final, not retried for nine seconds without a pause."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/exports")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "missing"))
    asked: list[str] = []
    head = obstore.head

    def counted(store: Any, name: str) -> Any:
        asked.append(name)
        return head(store, name)

    monkeypatch.setattr(obstore, "head", counted)
    sink = sink_for("s3://bucket/p.jsonl")
    with pytest.raises(ExportError, match="the object store did not answer"):
        sink.open()
    sink.close(complete=False)
    assert len(asked) == 1


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without obstore, a clear error says how to install it."""
    monkeypatch.setenv("AWS_TEST", "another")
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'b2b-payments\[cloud\]'"):
        sink_for("s3://bucket/p.jsonl")


@pytest.mark.slow
def test_a_path_needs_no_object_store(tmp_path: Path) -> None:
    """An export to a path does not import obstore."""
    script = "import sys; from b2b_payments.export import sink_for; sink_for('p.jsonl').close(complete=False)"
    script += "; print(*sys.modules)"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    assert "obstore" not in ran.stdout.split()
