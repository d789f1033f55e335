"""Certificates that were refused: theirs by us, and files of ours that hold none."""

from __future__ import annotations

import re
import ssl
from typing import Final

#: Errors deeper in a chain than this are not looked at.
CHAIN: Final = 20
#: How OpenSSL's verdict reads where a client passes on its words only.
_VERDICT: Final = re.compile(r"certificate verify failed: ([A-Za-z][A-Za-z ,'-]{0,100})")


class CertificateUnusable(Exception):
    """A file that the settings name has no certificates that can be used; the message says which setting."""


def certificate_error(error: BaseException | None) -> str:
    """Why a server's certificate was refused, in OpenSSL's words, if that is behind ``error``; else empty."""
    for _ in range(CHAIN):
        if error is None:
            return ""
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if found := _VERDICT.search(str(error)):
            return found[1].strip()
        error = error.__cause__ or error.__context__
    return ""
