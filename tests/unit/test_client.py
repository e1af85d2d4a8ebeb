"""The client made from environment variables."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from b2b_payments import ConfigurationError, LegacyAuth, PaymentsClient, Quota, StoreAuth
from b2b_payments._client import Settings, with_shared_from_env

NAMES = ("STORE_HASH", "ACCESS_TOKEN", "AUTH_TOKEN", "BASE_URL", "QUOTA_SHARED")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment without the client's variables."""
    for name in NAMES:
        monkeypatch.delenv(f"B2B_PAYMENTS_{name}", raising=False)
    return monkeypatch


def client_from(environment: pytest.MonkeyPatch, **variables: str) -> PaymentsClient:
    """Make a client from these variables."""
    for name, value in variables.items():
        environment.setenv(f"B2B_PAYMENTS_{name}", value)
    return PaymentsClient.from_env()


def test_current_credential_is_read(environment: pytest.MonkeyPatch) -> None:
    """A store hash and an access token make a StoreAuth."""
    client = client_from(environment, STORE_HASH="abc123", ACCESS_TOKEN="token-1")
    assert client._auth == StoreAuth("abc123", "token-1")
    assert repr(client).endswith("base_url='https://api-b2b.bigcommerce.com/api/v3/io')")


def test_older_credential_is_read(environment: pytest.MonkeyPatch) -> None:
    """An auth token makes a LegacyAuth, even with a store hash."""
    assert client_from(environment, AUTH_TOKEN="token-2")._auth == LegacyAuth("token-2")
    assert client_from(environment, STORE_HASH="abc123")._auth == LegacyAuth("token-2")


def test_base_url_is_read(environment: pytest.MonkeyPatch) -> None:
    """The base URL comes from the environment, unless it is passed."""
    client = client_from(environment, AUTH_TOKEN="token-2", BASE_URL="https://one.example/io")
    assert "https://one.example/io" in repr(client)
    assert "two.example" in repr(PaymentsClient.from_env(base_url="https://two.example"))


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        *((word, None) for word in ("", "0", "false", "No", "off")),
        *((word, True) for word in ("1", "true", "YES", "on")),
        ("/var/lib/quota", "/var/lib/quota"),
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
    ],
)
def test_shared_quota_is_read(environment: pytest.MonkeyPatch, text: str, shared: object) -> None:
    """A word turns sharing on or off; a path or URL says where."""
    environment.setenv("B2B_PAYMENTS_QUOTA_SHARED", text)
    assert with_shared_from_env(Quota()).shared == shared
    assert with_shared_from_env(Quota(shared="/elsewhere")).shared == "/elsewhere"


@pytest.mark.parametrize("text", ["quota", "./quota", "ja", "redis:/u:planted@host", "http://u:planted@host"])
def test_shared_quota_that_is_none_is_refused(environment: pytest.MonkeyPatch, text: str) -> None:
    """A path that depends on the current folder would be shared with nobody; the value is not shown."""
    environment.setenv("B2B_PAYMENTS_QUOTA_SHARED", text)
    with pytest.raises(ConfigurationError, match="QUOTA_SHARED must be 1, the absolute path") as caught:
        client_from(environment, AUTH_TOKEN="token-2")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "No credential: set B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN"),
        ({"STORE_HASH": "abc123"}, "No credential: set B2B_PAYMENTS_ACCESS_TOKEN "),
        ({"ACCESS_TOKEN": "planted-credential"}, "No credential: set B2B_PAYMENTS_STORE_HASH "),
        ({"ACCESS_TOKEN": "planted-credential", "AUTH_TOKEN": "x"}, "not both"),
        ({"AUTH_TOKEN": "planted-credential\n"}, "auth_token starts or ends with white space"),
        ({"AUTH_TOKEN": "x", "BASE_URL": "planted-credential"}, "base_url is not a complete URL"),
    ],
)
def test_missing_variables_are_named(
    environment: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    """Missing or wrong variables are named, but their values are not shown."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        client_from(environment, **variables)
    assert "planted-credential" not in str(caught.value)


def test_settings_match_the_constructor() -> None:
    """`from_env` has the constructor's parameters except the credential, by name and type."""
    parameters = get_type_hints(PaymentsClient.__init__)
    assert get_type_hints(Settings) == {
        name: kind for name, kind in parameters.items() if name not in {"auth", "return"}
    }
