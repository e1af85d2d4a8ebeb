"""Our own grants, counted exactly over a window that slides."""

from __future__ import annotations

from collections import deque

from b2b_payments._quota.allowance import LONGEST_READING, Quota, part_of

_MOST_ALLOCATED = 100_000


class Grants:
    """The moments of the last grants, and when the next one is due.

    In no half-open interval of a quota's `span` lie more than its `limit`. It holds at most `limit` moments,
    and takes the same small time for each grant.
    """

    def __init__(self, quota: Quota) -> None:
        self._quotas = {quota}
        self._allocated: tuple[int, float] | None = None
        self._moments: deque[float] = deque()
        self._set_windows()

    def tighten(self, quota: Quota) -> None:
        """Keep this quota too, beside those already kept."""
        self._quotas.add(quota)
        self._set_windows()

    def allocate(self, requests: int, per: float) -> None:
        """Keep the quota that the service states, of which our share is ours; an absurd one is ignored."""
        if not 1 <= requests <= _MOST_ALLOCATED or not 0 < per <= LONGEST_READING:
            return
        if (requests, per) != self._allocated:
            self._allocated = requests, per
            self._set_windows()

    def add(self, now: float) -> None:
        """Count a grant that is given now."""
        self._moments.append(now)
        if len(self._moments) > self._most:
            self._moments.popleft()

    def due(self, now: float, ahead: int) -> float:
        """Give the first moment for a grant with so many others `ahead` of it."""
        due = now
        for limit, span in self._windows:
            rounds, place = divmod(ahead, limit)
            index = len(self._moments) - limit + place
            start = self._moments[index] + span if index >= 0 else now
            due = max(due, start + rounds * span)
        return due

    def live(self, now: float) -> bool:
        """Whether the last grant still counts in one of the windows."""
        return bool(self._moments) and self._moments[-1] + max(span for _, span in self._windows) > now

    def spare(self, now: float) -> int:
        """Give how many more grants the smallest window holds now."""
        return self.limit - len(self._within(now))

    def gone(self, since: float, now: float) -> int:
        """Give how many grants left the window after `since`, until now."""
        return sum(since < granted + self.span <= now for granted in self._moments)

    def half_gone(self, now: float) -> float:
        """Give the moment at which half of the grants that are in the window now will have left it."""
        within = self._within(now)
        return within[(len(within) - 1) // 2] + self.span if within else now

    def _within(self, now: float) -> list[float]:
        return [granted for granted in self._moments if granted + self.span > now]

    def _set_windows(self) -> None:
        windows = {(quota.limit, quota.span) for quota in self._quotas}
        if self._allocated is not None:
            requests, per = self._allocated
            share = min(quota.share for quota in self._quotas)
            windows.add((part_of(requests, share), per + max(quota.margin for quota in self._quotas)))
        self._windows = sorted(windows)
        self.limit, self.span = self._windows[0]
        self._most = max(limit for limit, _ in windows)
