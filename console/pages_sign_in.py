"""Signing in and out, and the switch of the language."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from console.dependencies import (
    CONSOLE_ROLES,
    MAX_USER_AGENT,
    ConsoleDependencies,
    Deps,
    SignedIn,
    csrf_of,
    fields_of,
    form_of,
    local_path,
    posted,
)
from console.languages import LANGUAGE_COOKIE, LANGUAGES, Texts, language_of
from console.rendering import html, render
from domain.refusals import Forbidden, ParameterInvalid, TenantUnknown, Unauthenticated
from identity.oidc import Authentication
from identity.tokens import NoRolesClaim

router = APIRouter()

SIGN_IN: Final = "/sign-in"
SIGN_IN_AGAIN: Final = "/sign-in/again"
#: Where the identity provider sends browsers back to.
SIGNED_IN: Final = "/sign-in/done"
OK: Final = 200
SEE_OTHER: Final = 303
FORBIDDEN: Final = 403
#: How long somebody may take to sign in, in seconds.
BEFORE_SECONDS: Final = 600
_YEAR: Final = 365 * 86_400


@router.get(SIGN_IN, name="sign_in")
async def sign_in_page(request: Request, deps: Deps, to: str = "/", out: str = "") -> Response:
    """Where one signs in: at the identity provider, or, for development, by choosing a role."""
    return await _sign_in_page(request, deps, to, out=bool(out))


async def _sign_in_page(
    request: Request, deps: ConsoleDependencies, to: str, *, out: bool = False, refused: bool = False
) -> Response:
    """``out``: somebody has just signed out; ``refused``: whom the provider knows may not come in. Either way the provider would let the
    same person pass without a question, so that the way to sign out there is on the page."""
    value = _before_value(local_path(to))
    texts = Texts(language_of(request))
    elsewhere = await deps.oidc.sign_out_url() if deps.oidc is not None and (out or refused) else ""
    values = {
        "csrf": csrf_of(value),
        "to": local_path(to),
        "path": SIGN_IN,
        "development": deps.development is not None,
        "roles": ("operator", "auditor"),
        "out": out,
        "refused": refused,
        "elsewhere": elsewhere,
    }
    response = html(render("sign_in.html", texts, deps.zone, values), FORBIDDEN if refused else OK)
    _set_cookie(response, deps, deps.before_cookie, value, seconds=BEFORE_SECONDS)
    return response


@router.post(SIGN_IN, name="sign_in_development")
async def sign_in(request: Request, deps: Deps) -> Response:
    """Sign in as whoever one says that one is. Where that is not for development, there is no such page."""
    if deps.development is None:
        raise Forbidden("Sign in at the identity provider.")
    fields = await form_of(request, deps.before_cookie)
    role = next((one for one in CONSOLE_ROLES if one.value == fields.get("role")), None)
    if role is None:
        raise ParameterInvalid("Choose operator or auditor.")
    signed_in = Authentication(deps.development(role), datetime.now(UTC), deps.step_up_acr)
    return await _begin_session(request, deps, signed_in, local_path(fields.get("to", "/")))


@router.get("/sign-in/begin", name="sign_in_begin")
async def begin(deps: Deps, to: str = "/") -> Response:
    """To the identity provider. Raises IdentityUnavailable."""
    return await _to_the_provider(deps, to, again=False)


@router.get(SIGN_IN_AGAIN, name="sign_in_again")
async def sign_in_again(deps: Deps, to: str = "/") -> Response:
    """Say once more who one is, before an act without a way back. Raises IdentityUnavailable."""
    if deps.development is not None:
        return RedirectResponse(sign_in_path(local_path(to)), SEE_OTHER)
    return await _to_the_provider(deps, to, again=True)


async def _to_the_provider(deps: ConsoleDependencies, to: str, *, again: bool) -> Response:
    if deps.oidc is None:
        raise Forbidden("There is no identity provider here.")
    value = _before_value(local_path(to))
    response = RedirectResponse(await deps.oidc.authorization_url(value, again=again), SEE_OTHER)
    _set_cookie(response, deps, deps.before_cookie, value, seconds=BEFORE_SECONDS)
    return response


@router.get(SIGNED_IN, name="sign_in_done")
async def done(
    request: Request, deps: Deps, code: str = "", state: str = "", iss: str | None = None, error: str = ""
) -> Response:
    """Back from the identity provider. Raises Unauthenticated, IdentityUnavailable or DatabaseUnavailable."""
    value = request.cookies.get(deps.before_cookie, "")
    if deps.oidc is None or error or not value:
        raise Unauthenticated("The identity provider let nobody in, or the sign-in was begun elsewhere.")
    to = local_path(unquote(value.partition("~")[2]))
    try:
        signed_in = await deps.oidc.finish(value, code=code, state=state, issuer=iss)
        if not signed_in.identity.roles.isdisjoint(CONSOLE_ROLES):
            return await _begin_session(request, deps, signed_in, to)
    except (NoRolesClaim, TenantUnknown):
        pass
    return await _sign_in_page(request, deps, to, refused=True)


@router.post("/sign-in/back-channel-logout", name="back_channel_logout")
async def back_channel_logout(request: Request, deps: Deps) -> Response:
    """The identity provider says that sessions are over (Back-Channel Logout, sections 2.5 to 2.8). It sends no cookie, but a token that
    it signed."""
    try:
        if deps.oidc is None:
            raise Unauthenticated("There is no identity provider here.")
        token = (await fields_of(request)).get("logout_token", "")
        await deps.sessions.close_marked(await deps.oidc.ended(token))
    except (Unauthenticated, ParameterInvalid):
        return JSONResponse({"error": "invalid_request"}, 400)
    return Response(status_code=200)


async def _begin_session(request: Request, deps: ConsoleDependencies, signed_in: Authentication, to: str) -> Response:
    await deps.tenants.check(signed_in.identity.tenant)
    ip = request.client.host if request.client else None
    agent = request.headers.get("user-agent", "")[:MAX_USER_AGENT] or None
    value = await deps.sessions.open(
        signed_in.identity, authenticated_at=signed_in.at, acr=signed_in.acr, ip=ip, user_agent=agent
    )
    if former := request.cookies.get(deps.session_cookie):
        await deps.sessions.close(former)
    response = RedirectResponse(to, SEE_OTHER)
    _set_cookie(response, deps, deps.session_cookie, value)
    _forget_cookie(response, deps, deps.before_cookie)
    return response


def _before_value(to: str) -> str:
    """What a browser has that is about to sign in: a random value, and where it goes on to."""
    return f"{secrets.token_urlsafe(32)}~{quote(to, safe='')}"


@router.post("/sign-out", name="sign_out", dependencies=[Depends(posted)])
async def sign_out(request: Request, deps: Deps) -> Response:
    """End the session, here and on the server."""
    await deps.sessions.close(request.cookies.get(deps.session_cookie, ""))
    response = RedirectResponse(f"{SIGN_IN}?out=yes", SEE_OTHER)
    _forget_cookie(response, deps, deps.session_cookie)
    return response


@router.get("/language/{language}", name="language")
async def language(language: str, deps: Deps, to: str = "/") -> Response:
    """Show all pages in that language from now on."""
    if language not in LANGUAGES:
        raise ParameterInvalid("There is no such language here.")
    response = RedirectResponse(local_path(to), SEE_OTHER)
    response.set_cookie(
        LANGUAGE_COOKIE, language, max_age=_YEAR, secure=deps.secure, httponly=True, samesite="lax", path="/"
    )
    return response


@router.get("/me", name="me")
async def me(visitor: SignedIn) -> Response:
    """Who is signed in, by what it may do; since when, and until when."""
    return visitor.page("me.html")


def sign_in_path(path: str) -> str:
    """Where somebody goes who is not signed in and wants ``path``."""
    return f"{SIGN_IN}?to={quote(path, safe='/')}"


def _set_cookie(
    response: Response, deps: ConsoleDependencies, name: str, value: str, *, seconds: int | None = None
) -> None:
    """A cookie that scripts can't read. Lax: the identity provider sends the browser back to us."""
    response.set_cookie(name, value, max_age=seconds, secure=deps.secure, httponly=True, samesite="lax", path="/")


def _forget_cookie(response: Response, deps: ConsoleDependencies, name: str) -> None:
    response.delete_cookie(name, secure=deps.secure, httponly=True, samesite="lax", path="/")
