"""Whether a port can be listened on, and what to do where it cannot."""

from __future__ import annotations

import errno
import socket

from decentraspace.errors import ConfigError


def taken(host: str, port: int) -> OSError | None:
    """Why nothing can listen there; None if something can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def check_free(host: str, port: int, what: str, setting: str) -> None:
    """ConfigError, beginning with `what`, where nothing can listen there. `setting`: see `advice`."""
    if (error := taken(host, port)) is not None:
        raise ConfigError(f"{what}: {error.strerror}", hint=advice(error, setting)) from error


def advice(error: OSError, setting: str) -> str:
    """For people; `setting`: what names the address, such as api.port."""
    host = setting if setting == "network.listen" else setting.replace(".port", ".host")
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This user may not use that port: name one above 1023 in {setting}, or let the service manager do it."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"This machine does not have that address: name one of its own in {host}, or 127.0.0.1."
    if error.errno == errno.EADDRINUSE:
        return f"Stop what uses the port, or name another in {setting}."
    return f"Name another address in {host}."
