"""The addresses that a client is given: the service's and a proxy's, checked before anything is sent."""

from __future__ import annotations

from yarl import URL

from b2b_payments._errors import ConfigurationError
from b2b_payments._secret import Secret

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# Not shown: what was given may be a credential in the wrong place.
_NO_URL = "base_url is not a whole URL; expected one such as https://api-b2b.bigcommerce.com/api/v3/io."
_NO_PROXY = "is not the address of an http or https proxy; expected one such as http://proxy.example:3128."


def checked_base_url(text: str, *, allow_http: bool) -> str:
    """Give a base URL in one spelling. Raises ConfigurationError for one that cannot be."""
    # Judged elsewhere: a traceback's local variables would show a credential given in the wrong place.
    if (problem := _problem_of(text, allow_http=allow_http)) is not None:
        raise ConfigurationError(problem)
    return str(URL(text)).rstrip("/")


def _problem_of(base_url: str, *, allow_http: bool) -> str | None:
    """Say why a URL cannot be the base URL, None where it can."""
    try:
        url = URL(base_url)
        port_is_valid = url.port is not None
    except (ValueError, TypeError):
        return _NO_URL
    if url.user is not None or url.password is not None:
        return "base_url holds a user name or password; leave them out: the credential is given apart."
    if url.scheme not in {"http", "https"} or not url.host or not port_is_valid:
        return _NO_URL
    if url.query_string or url.fragment:
        return "base_url must end with its path; leave out the query and the fragment."
    if url.scheme == "http" and url.host not in _LOOPBACK and not allow_http:
        return (
            f"base_url is not https: the credential would go to {url.host} for all on the way to read. "
            "Use https, or pass allow_http=True where the network is safe."
        )
    return None


def checked_proxy(given: object, source: str = "proxy") -> Secret:
    """Give a proxy's address, which may hold a user name and password.

    Without a scheme it is http's, as is usual in the environment. Raises ConfigurationError.
    """
    text = given if isinstance(given, str) else ""
    address = Secret(text if "://" in text else f"http://{text}")
    if not _is_proxy(address):
        del given, text, address
        raise ConfigurationError(f"{source} {_NO_PROXY}")
    return address


def _is_proxy(address: str) -> bool:
    try:
        url = URL(address)
        return url.scheme in {"http", "https"} and bool(url.host) and url.port is not None
    except ValueError:
        return False


def proxy_from_environment(base_url: str) -> Secret | None:
    """Give the proxy that HTTPS_PROXY (HTTP_PROXY for http) names for this address, None where none does.

    NO_PROXY lists hosts to go to directly; this machine itself is always one. Raises ConfigurationError for
    an address of another kind.
    """
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - slow to import, and seldom wanted

    url = URL(base_url)
    found = getproxies().get(url.scheme)
    if not found or url.host in _LOOPBACK or proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return checked_proxy(found, f"The proxy of the environment ({url.scheme.upper()}_PROXY)")


def host_of(address: str) -> str:
    """Give the host of a checked address, and its port where that is not the usual one; nothing else."""
    url = URL(address)
    host = url.host or ""
    return host if url.is_default_port() else f"{host}:{url.port}"
