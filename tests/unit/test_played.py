"""The stand-in for the network that unit tests use."""

from __future__ import annotations

import aiohttp
from aioresponses import aioresponses

URL = "https://api.example/large"


async def test_large_body_is_played_whole(played: aioresponses) -> None:
    """A body of 200 KB passes through the stand-in unchanged, with the installed aiohttp."""
    body = b"0123456789" * 20_000
    played.get(URL, body=body)
    async with aiohttp.ClientSession() as session, session.get(URL) as response:
        assert [chunk async for chunk in response.content.iter_any()] == [body]
