"""The store's quota: how many requests may be sent, and when the next one may be.

The service allows 150 requests a minute for each store, counted over all integrations of that store [doc]. A
`QuotaGate` enforces that, for this process or for all processes that share it, with four rules:

1. **Our own window.** No half-open interval of `per + margin` seconds holds more than `requests * share`
   grants. The margin is needed because the service counts arrivals, and latency varies. A request that took
   longer than the margin may have arrived as late as it ended, and is counted accordingly.
2. **What the service says remains.** At most half of it is in flight at once, but always one request may be.
   So other integrations' requests are noticed in time, and a used-up quota refuses one request, not sixteen.
   The last reading holds, less what others may have spent; without one and after a refusal, one goes alone.
3. **Others have used it up** (a fiftieth or less remains), **or a request was refused:** the gate closes for
   everyone until the reset and a short random time longer, so that several processes do not resume at once.
4. **A reset that freed nothing** means that the service's window slides. Then a reset frees only one request,
   which others may take, so the gate opens when half of our own grants have left the window.

All times are seconds. `window` has the rules, without I/O; `backends`, `file` and `redis` store the window;
`gate` decides who goes next in one event loop.
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
