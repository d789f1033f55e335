"""TLS: whom our processes trust, and how the API is served.

PostgreSQL, MongoDB and Redis say it in their addresses, as their clients know it (``sslmode=verify-full&sslrootcert=...``,
``tls=true&tlsCAFile=...``, ``rediss://...?ssl_ca_certs=...``). All others trust ``DPJ_TLS_CA_FILE``. Certificates and the names in
them are always verified; no setting turns that off, and nothing falls back to plain text.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runtime.config.certificate_errors import CertificateUnusable

if TYPE_CHECKING:
    from runtime.config.settings import Settings

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def client_tls(settings: Settings, *, ca_file: Path | None = None) -> ssl.SSLContext:
    """For one client: verifies certificate and name against ``ca_file``, else DPJ_TLS_CA_FILE, else the system's authorities.

    Each client gets its own: some of them set protocols on it. Raises CertificateUnusable.
    """
    trusted = ca_file or settings.tls_ca_file
    try:
        context = ssl.create_default_context(cafile=trusted)
    except (OSError, ssl.SSLError):
        raise CertificateUnusable(f"No authorities to trust can be read from {trusted} (DPJ_TLS_CA_FILE).") from None
    context.minimum_version = _VERSIONS[settings.tls_minimum]
    return context


def https_tls(settings: Settings, url: str, *, ca_file: Path | None = None) -> ssl.SSLContext:
    """As ``client_tls`` for an https address; for any other a context that trusts nobody.

    A client that gets none reads all authorities of the system (30 ms of processor time), whatever it speaks.
    """
    if url.startswith("https://"):
        return client_tls(settings, ca_file=ca_file)
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def kafka_security(settings: Settings) -> dict[str, str]:
    """What librdkafka is told beside the address. It verifies names by itself; a lowest version it can't be told."""
    if settings.kafka_security_protocol == "plaintext":
        return {}
    trusted = {} if settings.tls_ca_file is None else {"ssl.ca.location": str(settings.tls_ca_file)}
    return {"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "https", **trusted}


def kafka_tls(settings: Settings) -> ssl.SSLContext | None:
    """The same for Faust's client, which is another one."""
    return None if settings.kafka_security_protocol == "plaintext" else client_tls(settings)


class ServerCertificate:
    """The API's certificate and key, TLS 1.3 and nothing older. ``refresh`` takes up new files for the connections to come."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises CertificateUnusable."""
        self._certificate = certificate
        self._key = key
        self._state = self._file_times()
        self.context = self._new_context()

    async def refresh(self) -> None:
        """Load the files anew if they have changed; a pair that does not fit (yet) leaves the old one in use."""
        import structlog  # here: most commands need an address and no log

        log = structlog.get_logger()
        state = self._file_times()
        if state == self._state:
            return
        try:
            # Beside the one in use: a failed load would leave that without its key.
            await asyncio.to_thread(self._new_context)
            self.context.load_cert_chain(self._certificate, self._key)
        except (CertificateUnusable, OSError, ssl.SSLError):
            log.warning("api_certificate_unusable")
            return
        self._state = state
        log.info("api_certificate_renewed")

    def _file_times(self) -> tuple[int, ...]:
        try:
            return tuple(path.stat().st_mtime_ns for path in (self._certificate, self._key))
        except OSError:
            return ()

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError):
            raise CertificateUnusable(
                f"{self._certificate} and {self._key} are no certificate with its key"
                " (DPJ_API_TLS_CERT_FILE, DPJ_API_TLS_KEY_FILE)."
            ) from None
        return context


def server_certificate(settings: Settings) -> ServerCertificate | None:
    """The API's, if it is to speak TLS. Raises CertificateUnusable."""
    if settings.api_tls_cert_file is None or settings.api_tls_key_file is None:
        return None
    return ServerCertificate(settings.api_tls_cert_file, settings.api_tls_key_file)
