"""`doctor`: what it prints and writes, and that no personal data is in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from b2b_payments.sandbox import Rules, Sandbox
from tests.support.program import invoke

_MARK = "Marked-Text"
_NUMBER = 987_654


def _marked(payment_id: int) -> dict[str, Any]:
    """Return a payment's fields, each with a marked value that must not be shown."""
    money = {"code": f"{_MARK}", "value": f"{_NUMBER}.11", f"{_MARK} 1": _MARK}
    texts = ("customerId", "externalId", "externalCustomerId", "payerName", "payerCustomerId", "moduleName")
    return {
        **dict.fromkeys((*texts, "customerName", "channelName", "bcGroupName"), f"{_MARK} {payment_id}"),
        **dict.fromkeys(("appliedStatus", "fundingStatus", "bcId", "customerBcId"), _NUMBER),
        "details": {"memo": _MARK, _MARK: _MARK},
        "moduleData": {
            "transactions": [{"memo": _MARK, "gateway": _MARK, "card": {"last4": _MARK}}],
            _MARK: 1,
        },
        "fees": [{"type": _MARK, "description": _MARK, "amount": _NUMBER, "unheardOf": _MARK}],
        "total": money,
        "lineItems": [{"invoiceId": _NUMBER, "invoiceNumber": _MARK, "amount": money, "more": _MARK}],
        "allowedOperations": [_NUMBER],
        "allowedStatuses": [str(_NUMBER)],
        "unheardOf": _MARK,
        f"{_MARK} unheard of": _MARK,
    }


def test_findings_are_printed(service: Sandbox) -> None:
    """Each finding says what was seen, what it means, and what to set; exit code 0."""
    service.rules = Rules(default_channels=[1], max_limit=60)
    result = invoke(service, "doctor")
    assert result.exit_code == 0, result.output
    message = " ".join(result.stdout.split())
    assert "ok authentication: store X-Auth-Token with X-Store-Hash works." in message
    assert "note page size: 60 A page holds 60 rows at most" in message
    assert "PROBLEM list without channelIds: some channels Without channelIds, payments of 1" in message
    assert (
        "→ Name every channel: channel_ids=[…] of client.payments.stream(), or --channel for each" in message
    )
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert f"{service.request_count} requests, " in result.stderr


def test_json_and_file(service: Sandbox, tmp_path: Path) -> None:
    """`--json` prints one object, and `--save` writes the same to a file."""
    saved = tmp_path / "doctor.json"
    result = invoke(service, "doctor", "--json", "--save", str(saved))
    assert (result.exit_code, result.stderr) == (0, "")
    report = json.loads(result.stdout)
    assert saved.read_text(encoding="utf-8") == result.stdout
    assert report["requests"] == service.request_count <= 32
    assert {"topic", "verdict", "level", "seen", "means", "advice"} == set(report["findings"][0])


@pytest.mark.parametrize("broken", [False, True])
def test_no_personal_data(service: Sandbox, tmp_path: Path, *, broken: bool) -> None:
    """Of payments with marked values in every field, only field names and small codes are shown."""
    for payment_id in service.store.ids()[40:]:
        service.store.delete(payment_id)
    for payment_id in service.store.ids():
        marked = _marked(payment_id)
        if broken:
            marked |= {"total": _MARK, "processingStatus": _MARK, "createdAt": _MARK, "storeHash": _MARK}
        service.store.update(payment_id, **marked)
    saved = tmp_path / "doctor.json"
    shown = invoke(service, "doctor", "--save", str(saved))
    assert shown.exit_code == 0, shown.output
    text = shown.output + saved.read_text(encoding="utf-8")
    assert "unheardOf" in text or broken
    assert "cannot be read: $." in text or not broken
    hidden = (
        *(_MARK, str(_NUMBER), service.base_url, service.auth.store_hash),
        *(str(service.auth.access_token), "Main Street"),
    )
    assert [secret for secret in hidden if secret in text] == []


def test_legacy_token_given_as_access_token(service: Sandbox) -> None:
    """A legacy token that is given as an access token is recognized as such."""
    token = {"B2B_PAYMENTS_ACCESS_TOKEN": str(service.legacy_auth.auth_token)}
    result = invoke(service, "doctor", variables=token)
    assert result.exit_code == 1
    assert "PROBLEM  authentication: other way" in result.stdout
    assert "Set B2B_PAYMENTS_AUTH_TOKEN alone (LegacyAuth)." in result.stdout
    assert "page size: 250" in result.stdout


@pytest.mark.parametrize(
    ("rules", "variables", "says"),
    [
        (Rules(), {"B2B_PAYMENTS_ACCESS_TOKEN": "wrong"}, "refused 401"),
        (Rules(), {"B2B_PAYMENTS_STORE_HASH": "another"}, "Check B2B_PAYMENTS_STORE_HASH: a wrong one"),
        (Rules(missing_scope_status=403), {}, "give the API account the B2B Edition scope."),
        (Rules(missing_scope_status=404), {}, "refused 404"),
        (Rules(authentication="legacy"), {}, "refused 401"),
        (
            Rules(),
            {"B2B_PAYMENTS_BASE_URL": "http://127.0.0.1:9"},
            "The service cannot be used: no connection.",
        ),
    ],
)
def test_unusable_service(service: Sandbox, rules: Rules, variables: dict[str, str], says: str) -> None:
    """A service that cannot be used is one finding, which says what to check, and exit code 1."""
    service.rules = rules
    result = invoke(service, "doctor", variables=variables)
    assert result.exit_code == 1
    assert says in " ".join(result.stdout.split())
    assert result.stdout.count("PROBLEM") == 1
    assert service.request_count <= 4


def test_legacy_credential(service: Sandbox) -> None:
    """A legacy credential works, with a note."""
    variables: dict[str, str | None] = {"B2B_PAYMENTS_AUTH_TOKEN": str(service.legacy_auth.auth_token)}
    variables |= dict.fromkeys(("B2B_PAYMENTS_ACCESS_TOKEN", "B2B_PAYMENTS_STORE_HASH"))
    result = invoke(service, "doctor", variables=variables)
    assert result.exit_code == 0, result.output
    assert "note  authentication: legacy" in result.stdout
