"""Settings: environment variables ``DPJ_...`` and, below them, one settings file (``DPJ_SETTINGS`` or the local stack's).

They are declared by concern in ``runtime.config.groups``. Loaded once per process, frozen; secrets are SecretStr or files that
only their owner may read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.keys import MAX_BOUND_TENANTS, is_reserved, is_tenant
from ingest_api.client_addresses import proxy_networks
from runtime.config.addresses import is_any_address, is_here
from runtime.config.cleartext import in_clear
from runtime.config.groups import SettingGroups

#: What tokens may be signed with: public keys' algorithms alone.
JWT_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"})


class Settings(SettingGroups, BaseSettings):
    """All settings of a site, checked to fit together."""

    model_config = SettingsConfigDict(env_prefix="DPJ_", frozen=True, extra="ignore")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        """Raises ValueError where one setting forbids another."""
        if self.environment == "production":
            self._fit_for_production()
        self._ports_of_their_own()
        if (self.api_tls_cert_file is None) != (self.api_tls_key_file is None):
            raise ValueError("DPJ_API_TLS_CERT_FILE and DPJ_API_TLS_KEY_FILE go together")
        if not (named := {name.strip() for name in self.jwt_algorithms.split(",")}) <= JWT_ALGORITHMS:
            raise ValueError(f"DPJ_JWT_ALGORITHMS: not to be had are {', '.join(sorted(named - JWT_ALGORITHMS))}")
        try:
            proxy_networks(self.trusted_proxies)
        except ValueError as error:
            raise ValueError(f"DPJ_TRUSTED_PROXIES: {error}") from None
        for names in (self.operator_tenants or {}).values():
            if len(names) > MAX_BOUND_TENANTS:
                raise ValueError(f"DPJ_OPERATOR_TENANTS: one login has at most {MAX_BOUND_TENANTS} tenants")
            if unfit := [name for name in names if not is_tenant(name) or is_reserved(name)]:
                raise ValueError(f"DPJ_OPERATOR_TENANTS: no tenant can be called {', '.join(unfit)}")
        if unset := list(self._addresses_unset()):
            raise ValueError(f"{', '.join(unset)} is not set, and something is to be kept there")
        return self

    def _ports_of_their_own(self) -> None:
        if self.api_metrics_port == self.api_port:
            raise ValueError("DPJ_API_METRICS_PORT is DPJ_API_PORT: the API's metrics have a port of their own")
        if self.console_port and self.console_port in {self.api_port, self.api_metrics_port}:
            raise ValueError("DPJ_CONSOLE_PORT is one of the API's: the console has a port of its own")

    def _fit_for_production(self) -> None:
        if self.jwt_private_key_file is not None:
            raise ValueError("DPJ_JWT_PRIVATE_KEY_FILE is set: the local issuer has no place in production")
        if not self.jwks.startswith("https://"):
            raise ValueError("DPJ_JWKS must be an https URL of the identity provider in production")
        if not self.jwt_require_id:
            raise ValueError("DPJ_JWT_REQUIRE_ID must be true in production: other tokens can't be revoked")
        if self.console_sign_in == "development":
            raise ValueError(
                "DPJ_CONSOLE_SIGN_IN is development: a sign-in that asks nobody who he is has no place in production"
            )
        if self.console_port and not self.console_public_url.startswith("https://"):
            raise ValueError(
                "DPJ_CONSOLE_PUBLIC_URL must be the https address by which browsers reach the console in production"
            )
        if self._metrics_are_public():
            raise ValueError(
                "DPJ_API_METRICS_HOST must be an address that DPJ_API_HOST is not, and none for all addresses, in production: "
                "metrics tell whoever reads them of every upload's size and time"
            )
        if named_by := in_clear(self):
            raise ValueError(
                f"{', '.join(named_by)}: not over a network without TLS and verified certificates in production"
            )

    def _metrics_are_public(self) -> bool:
        """Whether the API's metrics would be served where its clients are. One machine's own port is not."""
        if is_here(self.api_metrics_host):
            return False
        return is_any_address(self.api_metrics_host) or self.api_metrics_host == self.api_host

    def _addresses_unset(self) -> Iterator[str]:
        """Servers that others of the settings call for, by the name of their address."""
        if self.audit_store == "mongodb" and not self.mongo_url.get_secret_value():
            yield "DPJ_MONGO_URL"
        if self.schema_registry == "server" and not self.registry_url:
            yield "DPJ_REGISTRY_URL"
        if self.redis_url is None and "redis" in {self.revocation_store, self.rate_store}:
            yield "DPJ_REDIS_URL"

    @property
    def duties_separated(self) -> bool:
        """Whether nobody decides about what he deposited, where a document's type does not say otherwise."""
        return self.environment == "production" if self.separation_of_duties is None else self.separation_of_duties

    @property
    def console_url(self) -> str:
        """Where browsers reach the console; on this machine, where nothing else is said. Empty if there is none."""
        if not self.console_port:
            return ""
        return self.console_public_url or f"http://{self.console_host}:{self.console_port}"

    @property
    def api_url(self) -> str:
        """Where this machine's API is reached."""
        scheme = "http" if self.api_tls_cert_file is None else "https"
        return f"{scheme}://{self.api_host}:{self.api_port}"


def settings_file(stack: str | None = None) -> Path:
    """The settings file in force: DPJ_SETTINGS, else that of the local stack ``stack`` (default: DPJ_STACK or "default")."""
    explicit = os.environ.get("DPJ_SETTINGS")
    if explicit and stack is None:
        return Path(explicit)
    home = Path(os.environ.get("DPJ_HOME") or Path(__file__).resolve().parent.parent.parent / ".dpj")
    return home / (stack or os.environ.get("DPJ_STACK") or "default") / "settings.env"


def load_settings(stack: str | None = None) -> Settings:
    """Environment over settings file. Raises pydantic.ValidationError naming what is missing."""
    path = settings_file(stack)
    return Settings(_env_file=path if path.exists() else None)  # pyright: ignore[reportCallIssue]
