"""The stores file: what it may hold, and the message for each mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from b2b_payments import ConfigurationError, LegacyAuth, Quota, StoreAuth
from b2b_payments._client import BASE_URL
from b2b_payments.export import TokenFromEnv, read_stores
from b2b_payments.export._stores.places import Places, places_of
from tests.support.program import invoke, sentence

NORTH = '[[stores]]\nname = "north"\nstore_hash = "abc123"\naccess_token_env = "NORTH_TOKEN"\n'
SOUTH = '[[stores]]\nname = "south"\nauth_token_env = "SOUTH_TOKEN"\n'


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set two tokens, and unset the program's own variables."""
    for name in [name for name in os.environ if name.startswith("B2B_PAYMENTS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NORTH_TOKEN", "marked1")
    monkeypatch.setenv("SOUTH_TOKEN", "marked2")


def write(folder: Path, text: str) -> str:
    """Write a stores file."""
    path = folder / "stores.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_stores(tmp_path: Path) -> None:
    """Each table is a store, in the file's order; keys that are left out have defaults."""
    text = NORTH + 'quota = "60/30"\nchannels = [2, 1]\nbase_url = "https://b2b.test/api"\n' + SOUTH
    first, second = read_stores(write(tmp_path, "\ufeff# ours\n" + text))
    assert (first.name, first.auth, first.base_url) == (
        "north",
        StoreAuth("abc123", TokenFromEnv("NORTH_TOKEN")),
        "https://b2b.test/api",
    )
    assert (first.quota, first.channel_ids) == (Quota(60, 30), (2, 1))
    assert (second.name, second.auth, second.base_url) == (
        "south",
        LegacyAuth(TokenFromEnv("SOUTH_TOKEN")),
        BASE_URL,
    )
    assert (second.quota, second.channel_ids) == (Quota(), None)


def test_defaults_for_all_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`base_url`, its variable and `quota` apply to the stores that do not set their own."""
    path = write(tmp_path, NORTH + 'base_url = "https://own.test"\nquota = "1/1"\n' + SOUTH)
    stores = read_stores(path, base_url="https://given.test", quota=Quota(2, 2))
    assert [(one.base_url, one.quota) for one in stores] == [
        ("https://own.test", Quota(1, 1)),
        ("https://given.test", Quota(2, 2)),
    ]
    monkeypatch.setenv("B2B_PAYMENTS_BASE_URL", "https://env.test")
    assert read_stores(path)[1].base_url == "https://env.test"


def test_no_credential_is_shown(tmp_path: Path) -> None:
    """Neither a store's repr nor its identity holds a token."""
    stores = read_stores(write(tmp_path, NORTH + SOUTH))
    stores += [store.with_token() for store in stores]
    assert "marked" not in repr(stores) + "".join(store.identity for store in stores)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "names no store: write a line [[stores]], and under it"),
        ("stores = []", "names no store"),
        ("[[stores]\n", "is not TOML: "),
        ("x = " + "[" * 5000, "is not readable TOML: it is nested too deeply."),
        ("[stores.north]\n", "write each store under a line [[stores]]"),
        ("stores = [1]", "write each store under a line [[stores]]"),
        ("[[shops]]\n", "'shops' is unknown: write each store under a line [[stores]]"),
        ('access_token = "marked"\n' + NORTH, "access_token is a credential"),
        (NORTH + 'hash = "x"', "store 'north': 'hash' is unknown; known keys are name, store_hash"),
        (
            NORTH + 'access_token = "marked"',
            "store 'north': access_token is a credential, and credentials do not",
        ),
        (NORTH + 'X-Auth-Token = "marked"', "X-Auth-Token is a credential"),
        ("[[stores]]\n", "store number 1: name is missing: it names the store and its file"),
        (NORTH + "[[stores]]\nname = 5", "store number 2: name is not a string: write it in quotes"),
        (NORTH.replace("north", ""), "store number 1: name is empty"),
        (NORTH.replace("abc123", ""), "store 'north': store_hash is empty"),
        (NORTH.replace('"abc123"', "123"), "store 'north': store_hash is not a string: write it in quotes"),
        (NORTH.replace("abc123", "abc/123"), "store 'north': store_hash is not a store hash: expected"),
        (NORTH.replace("store_hash", "#"), "store 'north': store_hash is missing: give it, as in"),
        (NORTH.replace("access_token_env", "#"), "store 'north': access_token_env is missing: name the"),
        (NORTH.replace("NORTH_TOKEN", "NO_TOKEN"), "the environment variable NO_TOKEN is not set: set it"),
        (
            NORTH.replace("NORTH_TOKEN", "EMPTY_TOKEN"),
            "the environment variable EMPTY_TOKEN is empty: set it",
        ),
        (
            NORTH.replace("NORTH_TOKEN", "LINE_TOKEN"),
            "store 'north': access_token starts or ends with white space",
        ),
        (
            NORTH.replace("NORTH_TOKEN", "marked-1"),
            "access_token_env is not the name of an environment variable",
        ),
        (
            NORTH.replace("NORTH_TOKEN", "markedx"),
            "the environment variable that holds the token is not set: set it",
        ),
        (NORTH + 'auth_token_env = "SOUTH_TOKEN"', "give access_token_env or auth_token_env, not both"),
        (SOUTH + 'store_hash = "abc123"', "with auth_token_env leave it out"),
        (
            NORTH + 'quota = "fast"',
            "store 'north': quota: Quota 'fast' cannot be read: write requests/seconds",
        ),
        (NORTH + "quota = 150", "quota is not a string: write it in quotes"),
        (NORTH + 'base_url = "http://shop.test"', "store 'north': base_url is not https: the credential"),
        (NORTH + 'base_url = "https://marked@shop.test"', "base_url holds a user name or password"),
        (NORTH + "channels = 1", "channels is not a list of channel ids: write channels = [1, 2]"),
        (NORTH + "channels = []", "channels is not a list"),
        (NORTH + "channels = [true]", "channels is not a list"),
        (NORTH + 'channels = ["1"]', "channels is not a list"),
        (
            NORTH + SOUTH.replace("south", "North"),
            "two stores are called 'north' and 'North', which is one file",
        ),
        (
            NORTH + NORTH.replace("north", "other"),
            "'north' and 'other' have the same store_hash: name each store",
        ),
        (
            SOUTH + SOUTH.replace("south", "other"),
            "'south' and 'other' have the same token: name each store once",
        ),
    ],
)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str) -> None:
    """The message for each mistake names the file and the remedy, and shows no token; nothing is created."""
    monkeypatch.setenv("EMPTY_TOKEN", "")
    monkeypatch.setenv("LINE_TOKEN", "marked\n")
    path = write(tmp_path, text)
    result = invoke(None, "export", "--stores", path, "--output", str(tmp_path / "out"), "--format", "csv")
    message = sentence(result, 2)
    assert expected in message
    assert path in message or "the environment variable" in message or "starts or ends with white" in message
    assert "marked" not in message
    assert [found.name for found in tmp_path.iterdir()] == ["stores.toml"]


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".hidden", "con", "Lpt1.x", "a\\b", "a\nb", " a", "a.", "-a", "a*", "x" * 41]
)
def test_invalid_names(tmp_path: Path, name: str) -> None:
    """A name is refused if it cannot be a file's, is hidden, or leads to another folder."""
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n")
    with pytest.raises(ConfigurationError, match="store number 1: name cannot be the name of a file"):
        read_stores(write(tmp_path, NORTH.replace("north", escaped)))


@pytest.mark.parametrize("name", ["n", "Zürich", "shop-1.example.com", "the north", "商店", "con1", "x" * 40])
def test_valid_names(tmp_path: Path, name: str) -> None:
    """Names may have letters of any script, digits, and a few other characters."""
    (store,) = read_stores(write(tmp_path, NORTH.replace("north", name)))
    assert store.name == name


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that does not exist, is not UTF-8, or cannot be read, is refused."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml does not exist"):
        read_stores(str(tmp_path / "nowhere.toml"))
    path = tmp_path / "stores.toml"
    path.write_bytes(b"# caf\xe9")
    with pytest.raises(ConfigurationError, match=r"stores\.toml is not UTF-8: save it as UTF-8"):
        read_stores(str(path))
    with pytest.raises(ConfigurationError, match=r"could not be read: Is a directory\."):
        read_stores(str(tmp_path))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--output", "-"), "Standard output is only for a single store"),
        (
            ("--output", "out"),
            "The format of 'out' is unknown: pass a format, or use a pattern such as 'out/{name}.jsonl'",
        ),
        (("--output", "out.csv"), "'out.csv' is one file, and each store has its own"),
        (("--output", "a/out.csv", "--format", "csv"), "a pattern such as 'a/{name}.csv'"),
        (("--output", "{store}.csv"), "'{store}.csv' contains a brace, and only {name} is replaced"),
        (("--output", "{name}{x}.csv"), "has another brace"),
        (
            ("--output", "{name}.db", "--format", "csv"),
            "'{name}.db' has the extension of sqlite, but the format given",
        ),
        (("--output", "{name}.txt"), "The format of '{name}.txt' is unknown: pass a format"),
        (("--output", "{name}.csv", "--sandbox"), "--sandbox is a single store: leave --stores out"),
        (("--output", "{name}.csv", "--channel", "1"), "leave --channel out, and write channels = [1, 2]"),
        (
            ("--output", "{name}.csv", "--invoice", "1"),
            "An invoice's id belongs to one store: leave --invoice out",
        ),
        (("--output", "{name}.csv", "--at-once", "0"), "give a whole number, 1 or more, not '0'."),
        (("--output", "{name}.csv", "--stores", "x.toml"), "--stores was given 2 times"),
    ],
)
def test_wrong_usage(tmp_path: Path, args: tuple[str, ...], expected: str) -> None:
    """Options that make no sense for many stores are refused in one sentence."""
    result = invoke(None, "export", "--stores", write(tmp_path, NORTH), *args)
    assert result.exit_code == 2
    assert expected in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("args", [("--only", "north"), ("--at-once", "3")])
def test_without_stores(args: tuple[str, ...]) -> None:
    """Options for many stores are refused without --stores."""
    result = invoke(None, "export", "--output", "p.jsonl", *args)
    assert result.exit_code == 2
    assert f"{args[0]} needs --stores, the file that lists the stores" in result.stderr


@pytest.mark.parametrize(
    ("output", "format_", "pattern", "folder"),
    [
        ("out", "csv", "out/{name}.csv", "out"),
        ("out/", "jsonl", "out/{name}.jsonl", "out"),
        ("out.csv/", "jsonl", "out.csv/{name}.jsonl", "out.csv"),
        ("{name}.db", None, "{name}.db", "."),
        ("/data/{name}/all.duckdb", None, "/data/{name}/all.duckdb", "/data"),
        ("a/x-{name}.json", "jsonl", "a/x-{name}.json", "a"),
        (
            "memory://bucket/of/{name}/all.csv",
            None,
            "memory://bucket/of/{name}/all.csv",
            "memory://bucket/of",
        ),
    ],
)
def test_places(output: str, format_: str | None, pattern: str, folder: str) -> None:
    """In a folder each store gets a file; a pattern says where the files go."""
    places = places_of(output, format_)
    assert (places.pattern, str(places.folder)) == (pattern, folder)


def test_shared_files(tmp_path: Path) -> None:
    """Two stores that would write the same file are refused."""
    text = NORTH.replace("north", "a") + SOUTH.replace("south", "a.line_items")
    path = write(tmp_path, text)
    stores = read_stores(path)
    with pytest.raises(
        ConfigurationError, match=r"'a' and 'a\.line_items' would both write out/a\.line_items\.csv"
    ):
        places_of("out", "csv").refuse_shared_files(stores)
    places_of("out", "jsonl").refuse_shared_files(stores)


def test_folders(tmp_path: Path) -> None:
    """The folder and each store's own folder in it are created, but not the parent of the folder."""
    path = write(tmp_path, NORTH)
    stores = read_stores(path)
    Places(str(tmp_path / "out/{name}/all.csv"), "csv").make_folders(stores)
    assert (tmp_path / "out/north").is_dir()
    with pytest.raises(ConfigurationError, match=r"a/b cannot be made: .*/a does not exist\."):
        Places(str(tmp_path / "a/b/{name}.csv"), "csv").make_folders(stores)
    with pytest.raises(ConfigurationError, match=r"stores.toml cannot be made: File exists\."):
        Places(str(tmp_path / "stores.toml/{name}.csv"), "csv").make_folders(stores)


def test_unknown_only(tmp_path: Path) -> None:
    """`--only` with an unknown name is refused, and the message lists the known names."""
    result = invoke(
        None,
        *("export", "--stores", write(tmp_path, NORTH + SOUTH), "--output", str(tmp_path / "{name}.csv")),
        *("--only", "west", "--only", "north"),
    )
    assert "has no store west; it has north, south." in sentence(result, 2)
