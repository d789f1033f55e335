"""A PDF under passwords: the standard security handler, revision 3, RC4 of 128 bits (ISO 32000-1, 7.6.2 and 7.6.3, algorithms 1 to 5)."""

from __future__ import annotations

import hashlib

from tests.support.hostile.cases import page, pdf, stream

_PAD = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_ALL_ALLOWED = -4
_ID = bytes(range(16))


def _rc4(key: bytes, data: bytes) -> bytes:
    box, j = list(range(256)), 0
    for i in range(256):
        j = (j + box[i] + key[i % len(key)]) % 256
        box[i], box[j] = box[j], box[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + box[i]) % 256
        box[i], box[j] = box[j], box[i]
        out.append(byte ^ box[(box[i] + box[j]) % 256])
    return bytes(out)


def _often(key: bytes, data: bytes) -> bytes:
    for turn in range(20):
        data = _rc4(bytes(byte ^ turn for byte in key), data)
    return data


def _md5(data: bytes, turns: int) -> bytes:
    for _ in range(turns):
        data = hashlib.md5(data, usedforsecurity=False).digest()
    return data


def encrypted_pdf(user: bytes, owner: bytes = b"owner") -> bytes:
    """One page, filled with red; opens with ``user``, which may be empty."""
    padded = (user + _PAD)[:32]
    of_owner = _often(_md5((owner + _PAD)[:32], 51), padded)
    permissions = (_ALL_ALLOWED & 0xFFFFFFFF).to_bytes(4, "little")
    key = _md5(padded + of_owner + permissions + _ID, 51)
    of_user = _often(key, _md5(_PAD + _ID, 1)) + bytes(16)
    content = _rc4(_md5(key + (4).to_bytes(3, "little") + bytes(2), 1), b"1 0 0 rg 0 0 200 200 re f")
    handler = b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P %d /O <%s> /U <%s> >>" % (
        _ALL_ALLOWED,
        of_owner.hex().encode(),
        of_user.hex().encode(),
    )
    identity = _ID.hex().encode()
    return pdf(page(contents=stream(content)), trailer=b"/Encrypt %s /ID [<%s><%s>]" % (handler, identity, identity))
