"""Parts that decide who may come in, made from the settings. Only the API process loads this module's framework parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from runtime.config.transport import https_tls

if TYPE_CHECKING:
    from identity.jwks import Jwks
    from identity.tokens import TokenAuthenticator
    from ingest_api.rate_limits import RateLimits
    from processors.documents.revocations import RevokedTokens
    from runtime.config.settings import Settings
    from storage.postgres.revocations import PostgresRevocations
    from storage.redis.revocations import RedisRevocations

#: Has a part closed when the process ends.
CloseAtExit = Callable[[Callable[[], Awaitable[None]]], None]


def revocation_store(settings: Settings, closed_with_us: CloseAtExit) -> PostgresRevocations | RedisRevocations:
    """Where revoked tokens are kept; in PostgreSQL over a connection of its own: under load the pool's have a queue."""
    if settings.revocation_store == "redis":
        from storage.redis.revocations import RedisRevocations

        redis = RedisRevocations(_redis_url(settings))
        closed_with_us(redis.aclose)
        return redis
    from storage.postgres.database import Postgres
    from storage.postgres.revocations import PostgresRevocations

    postgres = Postgres(settings.postgres_dsn.get_secret_value(), connections=1)
    closed_with_us(postgres.aclose)
    return PostgresRevocations(postgres)


def rate_limits(settings: Settings, closed_with_us: CloseAtExit) -> RateLimits:
    from ingest_api.rate_limits import QuotaName, RateLimits

    quotas = {
        QuotaName.CLIENT: settings.rate_client,
        QuotaName.DOCUMENTS: settings.rate_documents,
        QuotaName.FAILURES: settings.rate_failures,
        QuotaName.TOKENS: settings.rate_tokens,
    }
    if settings.rate_store != "redis":
        return RateLimits(quotas)
    from storage.redis.rate_limit_counts import RedisCallCounter

    counting = RedisCallCounter(_redis_url(settings))
    closed_with_us(counting.aclose)
    return RateLimits(quotas, counting)


def key_set(settings: Settings) -> Jwks:
    from identity.jwks import Jwks, jwks_source

    algorithms = {name.strip() for name in settings.jwt_algorithms.split(",")}
    return Jwks(
        jwks_source(settings.jwks, tls=https_tls(settings, settings.jwks, ca_file=settings.jwks_ca_file)),
        algorithms=algorithms,
        copy=settings.jwks_copy_file,
        location=settings.jwks,
        keep=settings.jwks_keep_hours * 3600,
    )


def token_authenticator(settings: Settings, keys: Jwks, revoked: RevokedTokens) -> TokenAuthenticator:
    from identity.tokens import ClaimRules, TokenAuthenticator

    rules = ClaimRules(
        tenant=settings.jwt_tenant_claim,
        roles=settings.jwt_roles_claim,
        role_names=settings.jwt_role_names,
        longest=settings.jwt_longest_hours * 3600,
        identified=settings.jwt_require_id,
        tenants=settings.jwt_tenants_claim,
        operators_bound=settings.operators_bound,
    )
    return TokenAuthenticator(
        keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience, rules=rules, revoked=revoked
    )


def _redis_url(settings: Settings) -> str:
    return settings.redis_url.get_secret_value() if settings.redis_url else ""
