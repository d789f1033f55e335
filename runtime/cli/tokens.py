"""Commands about tokens that are out in the world."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from runtime.cli.operator_bounds import operator_name
from runtime.cli.operator_options import on_site
from runtime.cli.output import AsJson, Stack, print_result
from runtime.errors import CommandFailed

if TYPE_CHECKING:
    from domain.revocations import RevocableClaim
    from runtime.wiring.site import Site

app = typer.Typer(help="Tokens that were issued.", no_args_is_help=True)


@app.callback()
def tokens() -> None:
    """So that there is room for more commands than one."""


@app.command("revoke")
def revoke(
    token_file: Annotated[
        Path | None,
        typer.Option(help="File that holds the token; - for standard input. Revokes it and its whole session."),
    ] = None,
    token_id: Annotated[str | None, typer.Option("--id", help="The token's claim jti.")] = None,
    session: Annotated[str | None, typer.Option(help="The session's id, claim sid: all its tokens.")] = None,
    stack: Stack = None,
    as_json: AsJson = False,
) -> None:
    """Have a token or a session refused everywhere, within 5 seconds. Safe to repeat."""
    named, until = _named(token_file, token_id, session)
    end = asyncio.run(on_site(stack, lambda site: _revoke(site, named, until)))
    document = {"revoked": [claim.value for claim in named], "until": end.isoformat()}
    what = " and ".join("the token" if claim.value == "jti" else "the session" for claim in named)
    line = f"Refused from now on: {what}. Every process knows within 5 seconds; kept until {end:%Y-%m-%d %H:%M} UTC."
    print_result(document, [line], as_json=as_json)


def _named(
    token_file: Path | None, token_id: str | None, session: str | None
) -> tuple[dict[RevocableClaim, str], datetime | None]:
    """What is to be revoked, and when the token expires by itself, if that is known. Raises CommandFailed."""
    from domain.revocations import RevocableClaim

    claims, until = _claims(token_file) if token_file else ({}, None)
    named = {RevocableClaim.TOKEN: token_id or claims.get("jti"), RevocableClaim.SESSION: session or claims.get("sid")}
    found = {claim: value for claim, value in named.items() if isinstance(value, str) and value}
    if not found:
        raise CommandFailed(
            "There is nothing to revoke by: no token id (jti) and no session id (sid).",
            "Give --token-file, --id or --session.",
            code="nothing_named",
        )
    # What a session's other tokens expire at is not known.
    return found, until if set(found) == {RevocableClaim.TOKEN} and token_id is None else None


def _claims(path: Path) -> tuple[dict[str, Any], datetime | None]:
    """What a token says of itself; whether it is genuine does not matter to who wants it refused."""
    import jwt

    text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    try:
        claims: dict[str, Any] = jwt.decode(text.strip(), options={"verify_signature": False})
        until = datetime.fromtimestamp(int(claims["exp"]), UTC) if "exp" in claims else None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, OSError):
        raise CommandFailed(
            "That is no token.", "It has three parts with dots between them.", code="no_token"
        ) from None
    return claims, until


async def _revoke(site: Site, claims: dict[RevocableClaim, str], until: datetime | None) -> datetime:
    from domain.audit_chain import SYSTEM_TENANT
    from processors.documents.transitions import Origin

    await site.codec.check()
    actor = site.operator(operator_name())
    origin = Origin(actor=actor, at=site.clock.now(), correlation_id=uuid4())
    return await site.revocation().revoke(origin, SYSTEM_TENANT, claims, until)
