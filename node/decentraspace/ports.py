"""What to do about a port that cannot be listened on."""

from __future__ import annotations

import errno


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
