"""The truth about a service that lies: its payments, what it showed, and how many requests are enough."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

import attrs

from b2b_payments.sandbox import Fault, ListQuery, Sandbox, SeenRequest
from b2b_payments.sandbox._service import ROOT
from tests.support.lying import A_PAYMENT, HONEST, Service

_LIST = f"{ROOT}/ip/payments"


@attrs.frozen
class Truth:
    """The truth about one service, read from its sandbox."""

    service: Service
    sandbox: Sandbox

    def listed(self, query: ListQuery) -> set[int]:
        """Return the ids that the list shows in all of its states."""
        store, rules = self.sandbox.store, self.sandbox.rules
        store.rules = attrs.evolve(HONEST, max_limit=10**9, hidden=rules.hidden, shown=rules.shown)
        found = [] if self.service.states else [set(store.page(attrs.evolve(query, limit=10**9)).ids)]
        for state in self.service.states:
            store.restore(state)
            found.append(set(store.page(attrs.evolve(query, limit=10**9)).ids))
        store.rules = rules
        return set.intersection(*found)

    def _is_there(self, payment_id: int) -> bool:
        return payment_id in self.sandbox.store and not self.sandbox.store.is_hidden(payment_id)

    def lasting(
        self, before: set[int], query: ListQuery, ids: Collection[int], *, descending: bool = False
    ) -> set[int]:
        """Return the ids that existed from start to end, and that a reader could find."""
        store = self.sandbox.store
        there = {one for one in before if self._is_there(one)}
        if self.service.changes is not None:
            # A restored backup brings back deleted payments and reuses ids: those did not last.
            there -= self.service.changes.deleted | self.service.changes.inserted
        after = self.listed(query)
        # A list that became shorter than what it showed contradicts itself, since its last rows can be read
        # by id; any other shorter list agrees with all that is known.
        last = max(
            (one for one in ids if self._is_there(one)),
            key=lambda one: -store.created(one) if descending else store.created(one),
            default=None,
        )
        several = len({_channels(seen) for seen in self.sandbox.requests if seen.path == _LIST}) > 1
        if last is None or last in after or several:  # each of several lists knows only what it showed
            there &= after
        if not ids and callable(self.sandbox.rules.short_pages) and self._totals_are_silent():
            return set()  # every page was blank
        blind = self._blind()
        if self._nothing_contradicts_the_window() or frozenset() in blind or query.channel_ids in blind:
            return set()
        return {one for one in there if frozenset({store.channel(one)}) not in blind}

    def _blind(self) -> set[frozenset[int]]:
        """Return the channels (empty: all channels) whose lists only had empty pages."""
        lists = [
            seen
            for seen in self.sandbox.requests
            if seen.path == _LIST and seen.status == 200 and ("sortBy", "updatedAt") not in seen.query
        ]
        return {
            channels
            for channels in map(_channels, lists)
            if all(seen.fault is Fault.EMPTY_LIST for seen in lists if _channels(seen) == channels)
        }

    def _nothing_contradicts_the_window(self) -> bool:
        """Whether the window shows nothing, or part of one second, and no total says that there is more."""
        store, rules = self.sandbox.store, self.sandbox.rules
        if rules.paging_window is None or rules.paging_window > 0:
            one_second = len({store.created(payment_id) for payment_id in store.ids()}) == 1
            # Without a total, a second is believed only with a single payment.
            believed = rules.total_count != "absent" or rules.paging_window == 1
            if rules.paging_window is None or not one_second or not believed:
                return False
        return self._totals_are_silent()

    def _totals_are_silent(self) -> bool:
        rules = self.sandbox.rules
        return rules.total_cap is not None or rules.total_count != "filtered"

    def is_gone(self, payment_id: int) -> bool:
        """Whether the payment is gone, and the service answered 404 for its id."""
        answered = {
            seen.status
            for seen in self.sandbox.requests
            if seen.method == "GET"
            and seen.path == f"{ROOT}/ip/payments/{payment_id}"
            and seen.fault is not Fault.HTML_404
        }
        return 404 in answered and not self._is_there(payment_id)

    def enough_requests(self) -> int:
        """Return how many requests are enough for the lists that were requested."""
        rules = self.sandbox.rules
        requests = list(self.sandbox.requests)
        by_id = sum(re.fullmatch(A_PAYMENT, seen.path) is not None for seen in requests)
        page = min(self.service.page, self.service.later.get("max_limit", 250))
        most = 10 if "limit" in rules.ignores else min(page, rules.max_limit)
        share = rules.short_pages if isinstance(rules.short_pages, float) else 0.0
        rows = max(self.service.rows, len(self.sandbox.store))
        pages = math.ceil(rows / max(1.0, most * (1 - share / 2))) + 1
        lists = {_channels(seen) for seen in requests if seen.path == _LIST}
        whole_lists = len(lists) if "channelIds" in rules.ignores else 1
        # A run of equal times longer than a page is read in both directions, to count it.
        each = 8 if self.service.together < most else 60
        if self.service.drift and most < 10:
            # If a list moves by half a page per request, most pages are read to find where to continue.
            each *= 4
        enough = 60 * len(lists) + each * pages * whole_lists + min(by_id, 600)
        if self.service.twice:
            # A page with each row twice seems to reach twice as far.
            enough *= 2
        if "offset" in rules.ignores:
            # Each page is requested up to four times: its answers state an offset that was not requested.
            enough *= 4
        return enough


def _channels(seen: SeenRequest) -> frozenset[int]:
    """Return the channels of a request, in any encoding."""
    texts = [value for name, value in seen.query if name.startswith("channelIds")]
    return frozenset(int(one) for text in texts for one in text.split(","))
