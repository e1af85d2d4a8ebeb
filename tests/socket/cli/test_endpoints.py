"""The commands for single endpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from b2b_payments.sandbox import Fault, Rules, Sandbox
from tests.support.program import invoke, sentence

_OFFLINE = ("--customer-id", "113", "--currency", "USD", "--line", "13=20.00", "--line", "14=0.5")


def _rows(sandbox: Sandbox, *args: str, stdin: str = "") -> list[Any]:
    result = invoke(sandbox, *args, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def _offline(sandbox: Sandbox) -> int:
    """Insert a payment that can be updated and operated on."""
    return sandbox.store.insert(
        moduleName="payments_offline", allowedOperations=[0], allowedStatuses=["1", "4"]
    )


def test_quota_that_is_not_shared_is_said(service: Sandbox, tmp_path: Path) -> None:
    """A command whose quota cannot be shared warns of that once, and is carried out."""
    shared = {"B2B_PAYMENTS_QUOTA_SHARED": str(tmp_path / "gone" / "quota")}
    result = invoke(service, "list", variables=shared)
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1), result.stderr
    assert result.stderr.startswith("Warning: The quota cannot be shared through ")
    assert len(result.stdout.splitlines()) == service.store.payments


def test_list(service: Sandbox) -> None:
    """`list` prints every payment as the service's own object, one per line."""
    assert _rows(service, "list", "--page-size", "100") == list(service.store.all_wire())


def test_list_limit(service: Sandbox) -> None:
    """`list --limit` prints that many payments, and does not request the rest of the list."""
    expected = list(service.store.all_wire())
    assert _rows(service, "list", "--limit", "7") == expected[:7]
    assert service.request_count == 1
    assert _rows(service, "list", "--limit", "120", "--page-size", "50") == expected[:120]


def test_list_parameters(service: Sandbox) -> None:
    """Every filter and the order are sent under the service's names."""
    _rows(
        service,
        *("list", "--channel", "2", "--status", "awaiting-processing", "--customer-name", "no one"),
        *("--invoice", "5", "--q", "zzz", "--search-by", "externalId", "--order", "desc", "--offset", "3"),
        *("--sort-by", "createdAt", "--quota", "100/30", "--page-size", "9", "--concurrency", "2"),
    )
    assert dict(service.requests[0].query) == {
        "offset": "3",
        "limit": "9",
        "orderBy": "DESC",
        "sortBy": "createdAt",
        "searchBy": "externalId",
        "q": "zzz",
        "customerName": "no one",
        "invoiceId": "5",
        "processingStatus": "1",
        "channelIds": "2",
    }


def test_list_by_another_key(service: Sandbox) -> None:
    """A list sorted by another key says that it may not be complete."""
    result = invoke(service, "list", "--sort-by", "totalAmount")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 300
    assert result.stderr.startswith("Note: every row once, completeness not guaranteed")


@pytest.mark.parametrize("limit", [(), ("--limit", "3")])
def test_list_with_an_ignored_filter(service: Sandbox, limit: tuple[str, ...]) -> None:
    """A list whose payments may be of other channels says so, and nothing else."""
    service.rules = Rules(channel_encoding=(), payment_channels="null")
    result = invoke(service, "list", "--channel", "2", *limit)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 3 if limit else 300)
    assert result.stderr == (
        "Note: the service may ignore a filter: some payments may not match channelIds.\n"
    )


def test_get(service: Sandbox) -> None:
    """`get` prints the service's own object."""
    assert _rows(service, "get", "17") == [service.store.wire(17)]


def test_operations(service: Sandbox) -> None:
    """`operations` prints what a payment allows, in the service's format."""
    row = service.store.wire(17)
    assert _rows(service, "operations", "17") == [
        {name: row[name] for name in ("allowedOperations", "allowedStatuses")}
    ]


def test_transactions(service: Sandbox) -> None:
    """`transactions` prints one transaction per line."""
    listed = [_rows(service, "transactions", str(number)) for number in range(1, 8)]
    assert listed == [
        service.store.wire(number)["moduleData"].get("transactions", []) for number in range(1, 8)
    ]
    assert any(listed)


@pytest.mark.parametrize("operation", ["apply-to-invoices", "APPLY_TO_INVOICES", "0"])
def test_perform(service: Sandbox, operation: str) -> None:
    """`perform` performs an operation given by name or number."""
    payment_id = _offline(service)
    assert _rows(service, "perform", str(payment_id), operation) == [{"id": payment_id}]
    assert service.requests[-1].body == {"operationCode": 0}


@pytest.mark.parametrize("status", ["refunded", "4"])
def test_set_status(service: Sandbox, status: str) -> None:
    """`set-status` sets a status given by name or number."""
    payment_id = _offline(service)
    assert _rows(service, "set-status", str(payment_id), status) == [{"id": payment_id}]
    assert service.store.wire(payment_id)["processingStatus"] == 4


def test_delete(service: Sandbox) -> None:
    """`delete --yes` deletes without asking."""
    assert _rows(service, "delete", "17", "--yes") == [{"id": 17}]
    assert 17 not in service.store


def test_create_offline_from_options(service: Sandbox) -> None:
    """`create-offline` sends the fields given as options, and no others."""
    (answer,) = _rows(
        service,
        *("create-offline", *_OFFLINE, "--detail", "memo=Cash=ok", "--external-id", "INV-7", "--status", "2"),
        *("--channel", "3", "--funding-status", "0", "--payer-name", "Zoë"),
        *("--payer-customer-id", "9", "--external-customer-id", "C-1"),
    )
    assert service.requests[-1].body == {
        "customerId": "113",
        "currency": "USD",
        "lineItems": [{"invoiceId": 13, "amount": "20.00"}, {"invoiceId": 14, "amount": "0.5"}],
        "details": {"memo": "Cash=ok"},
        "externalId": "INV-7",
        "externalCustomerId": "C-1",
        "payerName": "Zoë",
        "payerCustomerId": "9",
        "processingStatus": 2,
        "channelId": 3,
        "fundingStatus": 0,
    }
    assert answer["paymentId"] in service.store


def test_create_offline_unless_exists(service: Sandbox) -> None:
    """With `--unless-exists`, repeating a command records one payment, and a different one is refused."""
    command = ("create-offline", *_OFFLINE, "--external-id", "INV 7", "--unless-exists")
    assert [_rows(service, *command) for _ in range(2)] == [[{"paymentId": 301}]] * 2
    message = sentence(invoke(service, *command, "--line", "15=1"), 1)
    assert (
        message
        == "Error: Payment 301 has externalId INV 7, but its sum is 20.5000, not 21.50: nothing was recorded."
    )
    assert service.store.payments == 301


def test_create_offline_with_a_taken_external_id(service: Sandbox) -> None:
    """A second payment with the same external id is recorded only with --yes."""
    command = ("create-offline", *_OFFLINE, "--external-id", "INV-7")
    service.store.insert(externalId="INV-77")
    assert _rows(service, *command) == [{"paymentId": 302}]
    message = sentence(invoke(service, *command), 2)
    assert message == (
        "Error: Payment 302 (20.5000 USD) has externalId INV-7 already: "
        "give --unless-exists, or --yes to record another."
    )
    assert _rows(service, *command, "--yes") == [{"paymentId": 303}]
    assert "Payments 302 (20.5000 USD) and 303 (20.5000 USD) have" in sentence(invoke(service, *command), 2)
    assert service.store.payments == 303


def test_create_offline_from_json(service: Sandbox, tmp_path: Path) -> None:
    """The vendor's own example is accepted unchanged, from a file or from standard input."""
    example = {
        "lineItems": [{"invoiceId": 13, "amount": "20.00"}],
        "currency": "USD",
        "details": {"memo": "Test"},
        "customerId": "113",
        "payerName": "Store offline payment",
        "payerCustomerId": "113",
        "processingStatus": 3,
        "fundingStatus": "2",
    }
    file = tmp_path / "payment.json"
    file.write_text(json.dumps(example))
    _rows(service, "create-offline", "--json", str(file))
    assert service.requests[-1].body == example | {"fundingStatus": 2}
    _rows(service, "create-offline", "--json", "-", stdin=json.dumps(example | {"externalId": None}))
    assert service.requests[-1].body == example | {"fundingStatus": 2}


def test_amounts_in_json_are_exact(service: Sandbox) -> None:
    """An amount that is a JSON number keeps every digit."""
    body = (
        '{"customerId": 1, "currency": "USD", "lineItems": [{"invoiceId": "13", "amount": 123456789.1200}]}'
    )
    _rows(service, "create-offline", "--json", "-", stdin=body)
    assert service.requests[-1].body["lineItems"] == [{"invoiceId": 13, "amount": "123456789.1200"}]


def test_update_offline(service: Sandbox) -> None:
    """`update-offline` replaces an offline payment."""
    payment_id = _offline(service)
    assert _rows(service, "update-offline", str(payment_id), *_OFFLINE) == [{"paymentId": payment_id}]
    assert service.store.wire(payment_id)["total"]["value"] == "20.5000"


def test_channel(service: Sandbox) -> None:
    """`channel` prints the service's own object, or that it does not exist."""
    assert _rows(service, "channel", "2") == [service.store.channel_list()[1]]
    assert "404 Channel not found" in sentence(invoke(service, "channel", "77"), 1)


def test_channels(service: Sandbox) -> None:
    """`channels` prints the service's own objects."""
    assert _rows(service, "channels") == service.store.channel_list()


def test_single_storefront(service: Sandbox) -> None:
    """A store without several storefronts has no channels to print."""
    service.rules = Rules(multi_storefront=False)
    assert _rows(service, "channels") == []


@pytest.mark.parametrize("args", [("get", "999"), ("delete", "999", "--yes"), ("transactions", "999")])
def test_no_such_payment(service: Sandbox, args: tuple[str, ...]) -> None:
    """A payment that does not exist is reported in one sentence with the service's message."""
    assert "404 Payment not found" in sentence(invoke(service, *args), 1)


def test_refused_operation(service: Sandbox) -> None:
    """An operation that is not allowed is reported in one sentence with the service's message."""
    result = invoke(service, "perform", str(_offline(service)), "revert-from-invoices")
    assert "400 Operation 1 is not allowed for this payment" in sentence(result, 1)


def test_outcome_unknown(service: Sandbox) -> None:
    """A write whose answer was lost has its own exit code, and the message says what to look for."""
    service.order(Fault.RESET_AFTER, times=1, methods="POST")
    assert "Look for customerId=113" in sentence(invoke(service, "create-offline", *_OFFLINE), 3)


def test_wrong_token(service: Sandbox) -> None:
    """For a rejected credential, the message says what to check, and does not contain the credential."""
    result = invoke(service, "get", "1", variables={"B2B_PAYMENTS_ACCESS_TOKEN": "marked-token"})
    text = sentence(result, 1)
    assert "Check B2B_PAYMENTS_STORE_HASH and B2B_PAYMENTS_ACCESS_TOKEN" in text
    assert "marked-token" not in result.output


def test_legacy_credential(service: Sandbox) -> None:
    """The legacy credential needs no store hash."""
    variables = {
        "B2B_PAYMENTS_STORE_HASH": None,
        "B2B_PAYMENTS_ACCESS_TOKEN": None,
        "B2B_PAYMENTS_AUTH_TOKEN": str(service.legacy_auth.auth_token),
    }
    assert invoke(service, "get", "1", variables=variables).exit_code == 0


def test_base_url(service: Sandbox) -> None:
    """--base-url overrides the environment."""
    result = invoke(
        service,
        "get",
        "1",
        "--base-url",
        service.base_url,
        variables={"B2B_PAYMENTS_BASE_URL": "https://b2b.invalid"},
    )
    assert result.exit_code == 0
