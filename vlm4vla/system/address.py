"""Where the app is served: `HOST` and `PORT`, checked before anything is started."""

import errno
import ipaddress
import socket
from collections.abc import Mapping
from typing import Final

from vlm4vla.errors import UserError

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7860

_HOSTS = (
    f"HOST={DEFAULT_HOST} serves this machine alone, HOST=0.0.0.0 every machine that reaches it"
)


def chosen(environment: Mapping[str, str]) -> tuple[str, int]:
    """The host and port to listen on: `HOST` and `PORT`, else this machine alone on 7860.

    Raises:
        UserError: one of them is empty or is no host or port, the port is taken or not allowed,
            or the host is not this machine.
    """
    host = environment.get("HOST", DEFAULT_HOST).strip()
    if not host:
        raise UserError("HOST is empty.", f"{_HOSTS}; or leave it out.")
    number = environment.get("PORT", str(DEFAULT_PORT)).strip()
    known = number.isascii() and number.isdigit() and len(number) <= 5
    if not known or not 1 <= int(number) <= 65535:
        raise UserError(
            f"PORT is {number!r}, which is no port." if number else "PORT is empty.",
            f"Give a number from 1 to 65535, or leave it out for {DEFAULT_PORT}.",
        )
    port = int(number)
    for name in (host, DEFAULT_HOST):
        # Gradio asks for the port on the loopback address, whatever the host.
        _check(name, port)
    return host, port


def _check(host: str, port: int) -> None:
    try:
        refused = _bind(host, port)
    except (OSError, UnicodeError) as error:
        raise UserError(f"HOST is {host!r}, which is no address.", f"{_HOSTS}.") from error
    if refused is None:
        return
    if refused.errno == errno.EADDRINUSE:
        free = next((p for p in range(port + 1, 65536) if _bind(host, p) is None), None)
        raise UserError(
            f"Port {port} is in use on {host}; the app may be running already.",
            f"Port {free} is free: put PORT={free} before the command." if free else "",
        ) from refused
    if refused.errno == errno.EADDRNOTAVAIL:
        raise UserError(f"HOST is {host!r}, which is another machine.", f"{_HOSTS}.") from refused
    if refused.errno in (errno.EACCES, errno.EPERM):
        raise UserError(
            f"Port {port} is not for ordinary users.", f"Take one above 1023, say {DEFAULT_PORT}."
        ) from refused
    raise UserError(f"Nothing can listen on {host}, port {port}: {refused.strerror}.")


def _bind(host: str, port: int) -> OSError | None:
    """Why nothing can listen there; None when something can.

    Raises:
        OSError: the host has no address.
        UnicodeError: it is no name of a host.
    """
    bare = host.removeprefix("[").removesuffix("]")
    found = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    number = ipaddress.ip_address(str(address[0]).partition("%")[0])
    # Linux binds a socket to addresses that no connection can come to, and takes * for any host.
    if host == "*" or number.is_multicast or str(number) == "255.255.255.255":
        raise OSError(f"nobody connects to {host}")
    try:
        with socket.socket(family, kind, protocol) as probe:
            # A port whose connections were closed a moment ago is free, and the server knows it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None
