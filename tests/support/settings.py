"""Settings that need nothing around them: no environment, no file, addresses at which nobody listens."""

from __future__ import annotations

from typing import Any

from runtime.config.settings import Settings

BASE = {
    "postgres_dsn": "postgresql://127.0.0.1:9/none",
    "mongo_url": "mongodb://127.0.0.1:9",
    "kafka_bootstrap": "127.0.0.1:9",
    "registry_url": "http://127.0.0.1:9",
    "personal_key_file": "/nonexistent/personal.key",
    "column_key_file": "/nonexistent/column.key",
    "lookup_key_file": "/nonexistent/lookup.key",
    "pseudonym_key_file": "/nonexistent/pseudonym.key",
    "ged_url": "http://127.0.0.1:9",
    "jwt_issuer": "https://login.example",
    "jwks": "https://login.example/jwks",
}


def settings_of(**changes: Any) -> Settings:
    return Settings(**{**BASE, **changes}, _env_file=None)  # pyright: ignore[reportCallIssue]
