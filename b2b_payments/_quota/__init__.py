"""The store's quota: how many requests may be sent, and when the next one may.

The service allows 150 requests a minute and store, over all integrations of that store [doc]. A
`QuotaGate` keeps that promise, for this process or for all that share it, with four rules:

1. **Our own window.** In no half-open interval of `per + margin` seconds are more than `requests * share`
   grants given. The margin is there because the service counts arrivals, and arrivals jitter. A request that
   was under way for longer than the margin may have arrived as late as that, and is counted so.
2. **What the service says remains.** No more than half of it is in flight at once, but always one. So
   another integration that spends too is noticed while there is room, and a used-up quota refuses one
   request, not sixteen. What was said last holds until something newer is said; when nothing was said yet,
   and after a refusal, one request goes alone.
3. **Others have used it up** (a fiftieth or less remains), **or a refusal:** the gate closes for everyone
   until the reset, and a little longer by chance, so that several processes do not come back at one moment.
4. **A reset that freed nothing** means that the service's window slides. There the reset lets go of one
   request only, which others may take, so the gate opens when half of our own grants have left the window.

All times are seconds. `window` is the rule, without I/O; `backends`, `file` and `redis` keep it for those who
share it; `gate` is who goes next in one event loop.
"""

from __future__ import annotations

from b2b_payments._quota.gate import Permit, QuotaGate, StoreQuota, TooLate, WaitHook, gate_for
from b2b_payments._quota.quota import Quota, QuotaReading
from b2b_payments._quota.window import Priority, WaitReason

__all__ = [
    "Permit",
    "Priority",
    "Quota",
    "QuotaGate",
    "QuotaReading",
    "StoreQuota",
    "TooLate",
    "WaitHook",
    "WaitReason",
    "gate_for",
]
