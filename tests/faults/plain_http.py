"""HTTP to the servers and processes of a fault site, which has no TLS."""

from __future__ import annotations

import ssl
from typing import Final

#: For ``verify=``. It trusts nobody. httpx's own default reads the system's certificates for each client: 23 ms of CPU, which a
#: question asked ten times a second of ten processes turns into two busy cores.
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
