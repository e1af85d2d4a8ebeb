"""Who may come in: credentials, quota and the number of requests at once. It does no I/O."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from b2b_payments.sandbox._answer import Answer
from b2b_payments.sandbox._data import STORE_HASH
from b2b_payments.sandbox._quota import Counter, quota_headers, refusal_headers
from b2b_payments.sandbox._rules import Rules


class Admission:
    """Lets requests in or refuses them. Times are the loop's, in seconds."""

    def __init__(self, rules: Rules, now: float) -> None:
        self.token_number = 0
        self.open_window(rules, now)

    def open_window(self, rules: Rules, now: float) -> None:
        """Begin to count under these rules, from nothing."""
        self._counter = Counter(rules, now)

    @property
    def access_token(self) -> str:
        """The token for `X-Auth-Token` that is good now."""
        return f"sandbox-access-token-{self.token_number}"

    @property
    def auth_token(self) -> str:
        """The token for `authToken` that is good now."""
        return f"sandbox-auth-token-{self.token_number}"

    def refusal(
        self, rules: Rules, headers: Mapping[str, str], now: float, in_service: int, date: int
    ) -> Answer | None:
        """Give the answer to a request that may not come in, None for one that may.

        `date` is that of the answer, in epoch seconds.
        """
        if (denial := self._denial(rules, headers)) is not None:
            return denial
        if rules.quota and not self._counter.admit(now):
            return too_many(rules, self._counter.resets_after(now), date)
        if rules.content_type_required and headers.get("Content-Type") != "application/json":
            return Answer.error(415, "The Content-Type must be application/json")
        if rules.concurrent is not None and in_service >= rules.concurrent:
            return too_many(rules, rules.refusal_wait, date)
        return None

    def headers(self, rules: Rules, answered: Answer, now: float) -> dict[str, str]:
        """Give the quota's headers of an answer."""
        # A 429 carries what its own rule says, and a gateway knows nothing of the quota.
        own = answered.status == 429 or answered.content_type != "application/json"
        if own or not (rules.quota and rules.quota_headers):
            return {}
        return quota_headers(rules, self._counter.remaining(now), self._counter.resets_after(now))

    def _denial(self, rules: Rules, headers: Mapping[str, str]) -> Answer | None:
        store_hash, legacy_token = headers.get("X-Store-Hash"), headers.get("authToken")
        if legacy_token is not None and store_hash is not None:
            return Answer.error(
                500, "authToken came together with X-Store-Hash: what that gives is undefined"
            )
        if legacy_token is not None:
            known = legacy_token == self.auth_token
        else:
            known = store_hash is not None and headers.get("X-Auth-Token") == self.access_token
        if not known:
            return Answer.denied(401, "Invalid or missing token")
        if store_hash not in {None, STORE_HASH}:
            return Answer.error(500, "Something went wrong")
        if rules.missing_scope_status == 404:
            return Answer.error(404, "Not found")
        if rules.missing_scope_status is not None:
            return Answer.denied(rules.missing_scope_status, "The token lacks a scope that this needs")
        return None


def too_many(rules: Rules, wait: float, date: int) -> Answer:
    """Give a 429 that says to wait so many seconds from `date` on, in the headers that the rules name."""
    refused = Answer.error(429, "Too many requests. Try again later.")
    return attrs.evolve(refused, headers=refusal_headers(rules, wait, date))
