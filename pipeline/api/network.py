"""How the API is reached: through which proxy of the environment, and trusting which certificates.

Belongs here: HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR and SSLKEYLOGFILE, and
one line for each that can't be used.

httpx can read the proxies itself, but raises on entries of NO_PROXY that other clients accept,
matches no CIDR range, and its errors name no variable. NO_PROXY is read here as curl, requests and
Go read it, taken together. The variables count for https:// only: a proxy could read http://.
"""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.request import getproxies, getproxies_environment, proxy_bypass

import httpx

from pipeline.api.errors import RouteError

_PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""The kinds of proxy that there are, and their ports where none is given."""
_WRITE: Final = "write http://host:port, https://host:port or socks5://host:port, or unset it"
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.\d+")
"""What OpenSSL calls a certificate in a folder."""
_BRACKETED: Final = re.compile(r"\[([^\[\]]+)\](/\d+)?(?::(\d+))?")
_NAME: Final = re.compile(r"[^\s/*:\[\]@]+")
_MAY_PASS: Final = frozenset({408, 425, 429})
"""Answers of a proxy below 500 after which another try may go well."""
_LONGEST_SOCKS_WORD: Final = 255
"""Bytes of a user name or a password: their length is one byte in SOCKS 5."""


@dataclass(frozen=True, slots=True)
class Route:
    """How the API is reached. `proxy` is None where it is directly."""

    tls: ssl.SSLContext
    proxy: httpx.Proxy | None = None
    variable: str = ""
    """What names the proxy."""
    notes: tuple[str, ...] = ()
    """What the environment has changed; nothing where it sets none of this."""
    ignored: tuple[str, ...] = ()
    """What the environment says to no effect, as it can't be read."""

    @property
    def words(self) -> str:
        """All that is to be said of it, in one line without a password; empty if nothing is."""
        return "; ".join((*self.notes, *self.ignored))

    @property
    def first_hop(self) -> tuple[str, int] | None:
        """Host and port of the proxy; None where there is none."""
        if self.proxy is None:
            return None
        url = self.proxy.url
        return url.host, url.port or _PORTS[url.scheme]

    def refusal(self, error: Exception) -> RouteError | None:
        """What the proxy's refusal means, where another try would bring the same."""
        if not isinstance(error, httpx.ProxyError):
            return None
        text = " ".join(str(error).split())
        status = int(text[:3]) if text[:3].isdigit() else None
        if status == 407 or text.startswith(("Requested", "Invalid username")):
            todo = "write the right user name and password into it, as http://user:password@host"
        elif (status and status < 500 and status not in _MAY_PASS) or "ruleset" in text:
            todo = "have the proxy let it through, or name the API's host in NO_PROXY"
        else:
            return None
        return RouteError(self.variable, f"the proxy that it names refuses ({text})", todo)

    def distrust(self, error: BaseException) -> str:
        """What to do where `error` comes of a certificate that is not trusted; else empty."""
        seen: BaseException | None = error
        while seen is not None and not isinstance(seen, ssl.SSLCertVerificationError):
            seen = seen.__cause__ or seen.__context__
        if seen is None:
            return ""
        by = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "")
        if not by:
            return "if its authority is your own, name the file of it in SSL_CERT_FILE"
        return f"{by} names the authorities that are trusted ({_printable(os.environ[by])})"


def route_to(base_url: str) -> Route:
    """The way to the API, as the environment has it now.

    Raises RouteError where a variable that counts here can't be used.
    """
    url = httpx.URL(base_url)
    if url.scheme != "https":  # and no authorities, which take longer to read than a request
        return Route(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    tls, trusting = _tls()
    variable, value = _proxy_variable()
    exempting, entries = _variable("no_proxy")
    exempt, unread = _exempt(url, entries)
    if not variable or exempt:
        proxy, notes = None, _directly(variable, value, exempting)
    else:
        proxy = _proxy(variable, value, tls)
        notes = (f"through the proxy {_without_password(value)} of {variable}",)
    ignored = tuple(f"{exempting}: {entry!r} is none of its forms, so ignored" for entry in unread)
    return Route(tls, proxy, variable, (*notes, *trusting), ignored)


def _directly(variable: str, value: str, exempting: str) -> tuple[str, ...]:
    if not variable:
        return (f"directly: {exempting} is set, but no proxy",) if exempting else ()
    by = exempting or "the system's settings"
    return (f"directly, by {by}, not through the proxy {_without_password(value)} of {variable}",)


# Proxies


def _proxy_variable() -> tuple[str, str]:
    """The variable that names the proxy for https://, and what it says; empty where none does."""
    proxies = getproxies()
    for kind in ("https", "all"):
        if value := proxies.get(kind, "").strip():
            return _variable(f"{kind}_proxy")[0] or "the system's proxy settings", value
    return "", ""


def _variable(name: str) -> tuple[str, str]:
    """The name of a variable as it is written here, and what it says; empty where it is not set.

    The lower-case one counts where there are several, as everywhere.
    """
    written = [one for one in os.environ if one.lower() == name and os.environ[one].strip()]
    if not written or os.environ.get(name) == "":
        return "", ""
    one = name if name in written else written[-1]
    return one, os.environ[one]


def _proxy(variable: str, value: str, tls: ssl.SSLContext) -> httpx.Proxy:
    shown = _without_password(value)
    try:
        url = httpx.URL(_as_url(value))
        usable = bool(url.host) and 0 < (1 if url.port is None else url.port) < 65_536
    except (httpx.InvalidURL, ValueError):
        usable = False
    if not usable or any(char.isspace() for char in value):
        raise RouteError(variable, f"{shown} is no URL of a proxy", _WRITE)
    if url.scheme not in _PORTS:
        raise RouteError(variable, f"{shown} is of a kind that is not known here", _WRITE)
    words = (url.username.encode(), url.password.encode())
    if url.scheme.startswith("socks") and max(map(len, words)) > _LONGEST_SOCKS_WORD:
        raise RouteError(variable, "its user name or password is too long for SOCKS", "shorten it")
    # An https:// proxy shows a certificate of its own.
    secure = tls if url.scheme == "https" else None
    return httpx.Proxy(url.copy_with(raw_path=b"/", fragment=None), ssl_context=secure)


def _as_url(value: str) -> str:
    return value if "://" in value else f"http://{value}"


def _without_password(value: str) -> str:
    """Scheme, host and port of a proxy, also where they are no URL: what else may be a secret."""
    scheme, _, rest = _as_url(value).partition("://")
    address = re.split(r"[/?#\s]", rest.rpartition("@")[2])[0]
    bracketed = re.match(r"\[[^\]]*\]", address)
    host = bracketed[0] if bracketed else address.partition(":")[0]
    port = address[len(host) :]
    return _printable(f"{scheme}://{host}{port if re.fullmatch(r'(:[0-9]*)?', port) else ':…'}")


def _printable(value: str) -> str:
    """A value as it can be printed in a line."""
    return value if value.isprintable() and len(value) < 200 else repr(value)[:200]


# NO_PROXY


def _exempt(url: httpx.URL, entries: str) -> tuple[bool, list[str]]:
    """Whether NO_PROXY names the address, and the entries that can't be read, without passwords."""
    host = url.raw_host.decode("ascii").rstrip(".").lower()
    port = url.port or 443
    exempt, unread = False, list[str]()
    for entry in re.split(r"[\s,]+", entries):
        try:
            exempt = exempt or (bool(entry) and _names(entry, host, port))
            if entry:
                _names(entry, host, port)
        except ValueError:
            unread.append(entry.rpartition("@")[2])
    # Where no variable names a proxy, the system does, and the exceptions too (macOS, Windows).
    by_system = not getproxies_environment() and bool(getproxies()) and bool(proxy_bypass(host))
    return exempt or by_system, unread


def _names(entry: str, host: str, port: int) -> bool:
    """Whether one entry of NO_PROXY names an address; ValueError where it is none of its forms.

    The forms: `*`; a name, which stands for all below it too, with or without a dot or `*.` before
    it; an IP address or a CIDR range, in brackets or without; each with a port or without.
    """
    if entry == "*":
        return True
    scheme, _, rest = entry.rpartition("://")
    if scheme:
        rest = rest.rpartition("@")[2].partition("/")[0]
    name, number = _split(rest)
    if number and not (number.isascii() and number.isdigit() and 0 < int(number) < 65_536):
        raise ValueError("a port that is none")
    here = scheme.lower() in {"", "all", "https"} and number in {"", str(port)}
    address = _address(host)
    try:
        network = ip_network(re.sub(r"%[^/]*", "", name), strict=False)
    except ValueError:
        name = name.removeprefix("*").removeprefix(".").rstrip(".")
        if not _NAME.fullmatch(name):
            raise
        name = _encoded(name)
        return here and address is None and (host == name or host.endswith(f".{name}"))
    if isinstance(network.network_address, IPv6Address):
        mapped = network.network_address.ipv4_mapped
        if mapped is not None and network.prefixlen >= 96:
            network = ip_network(f"{mapped}/{network.prefixlen - 96}", strict=False)
    return here and address is not None and address in network


def _encoded(name: str) -> str:
    try:
        return httpx.URL(f"https://{name}").raw_host.decode("ascii").lower()
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from None


def _split(entry: str) -> tuple[str, str]:
    """Name, address or range, and port, which is empty where there is none."""
    if found := _BRACKETED.fullmatch(entry):
        address, length, port = found.groups()
        return address + (length or ""), port or ""
    if entry.count(":") > 1:  # an IPv6 address without brackets has no port
        return entry, ""
    name, colon, port = entry.partition(":")
    if colon and not port:
        raise ValueError("a colon without a port")
    return name, port


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


# Certificates


def _tls() -> tuple[ssl.SSLContext, tuple[str, ...]]:
    """What a server's certificate is checked with, and what the environment has changed of it."""
    notes: list[str] = []
    secrets = os.environ.get("SSLKEYLOGFILE")
    if secrets:
        try:
            with Path(secrets).open("a"):  # as the TLS library does
                notes.append(f"TLS secrets are written to SSLKEYLOGFILE ({_printable(secrets)})")
        except OSError as error:
            raise RouteError(
                "SSLKEYLOGFILE",
                f"{_printable(secrets)} can't be written to ({error.strerror})",
                "unset it, or name a file that can be",
            ) from None
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not folders:
        return httpx.create_ssl_context(trust_env=False), tuple(notes)
    if folders:
        _check_folders(folders)
        notes.append(f"trusting the certificates of SSL_CERT_DIR ({_printable(folders)})")
    if file:
        notes.append(f"trusting the certificates of SSL_CERT_FILE ({_printable(file)})")
    try:
        return ssl.create_default_context(cafile=file or None, capath=folders or None), tuple(notes)
    except OSError as error:
        bad = isinstance(error, ssl.SSLError)
        why = "holds no certificates in PEM form" if bad else f"can't be read ({error.strerror})"
        raise RouteError(
            "SSL_CERT_FILE",
            f"{_printable(file or '')} {why}",
            "name a file of the authorities' certificates, or unset it",
        ) from None


def _check_folders(folders: str) -> None:
    """The TLS library takes any folder, and then trusts nobody."""
    reasons: list[str] = []
    for folder in folders.split(os.pathsep):
        try:
            with os.scandir(folder) as entries:
                if any(_HASHED.fullmatch(entry.name) for entry in entries):
                    return
            reasons.append("holds no certificate whose name is its hash")
        except OSError as error:
            reasons.append(f"can't be read ({error.strerror})")
    raise RouteError(
        "SSL_CERT_DIR",
        f"{_printable(folders)} {reasons[0]}",
        "name a folder that `openssl rehash` has seen, or unset it",
    )
