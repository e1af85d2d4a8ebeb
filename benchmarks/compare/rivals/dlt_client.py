"""dlt's RESTClient with its OffsetPaginator: its own session, its own retries, dicts."""

from __future__ import annotations

from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.paginators import OffsetPaginator

from benchmarks.compare.contender import Visit, Where
from benchmarks.compare.rivals.floor import line, payment_id

__all__ = ["line", "payment_id", "read"]


def read(where: Where, visit: Visit) -> None:
    """Call `visit` with every payment, a dict."""
    client = RESTClient(where.base_url, headers=dict(where.headers))
    pages = client.paginate(
        "/ip/payments",
        params={"sortBy": "createdAt", "orderBy": "ASC"},
        paginator=OffsetPaginator(limit=where.page_size, total_path="meta.pagination.totalCount"),
        data_selector="data",
    )
    for page in pages:
        for row in page:
            visit(row)
