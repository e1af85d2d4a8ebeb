"""The client made from environment variables."""

from __future__ import annotations

from typing import get_type_hints

import pytest

from b2b_payments import ConfigurationError, LegacyAuth, PaymentsClient, StoreAuth
from b2b_payments._client import Settings

NAMES = ("STORE_HASH", "ACCESS_TOKEN", "AUTH_TOKEN", "BASE_URL")


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
