"""Signing in and out, and the switch of the language."""

from __future__ import annotations

import secrets
from typing import Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from console.dependencies import (
    CONSOLE_ROLES,
    ConsoleDependencies,
    Deps,
    SignedIn,
    csrf_of,
    form_of,
    local_path,
    posted,
)
from console.languages import LANGUAGE_COOKIE, LANGUAGES, Texts, language_of
from console.rendering import html, render
from domain.documents import Role
from domain.refusals import Forbidden, ParameterInvalid

router = APIRouter()

SIGN_IN: Final = "/sign-in"
SEE_OTHER: Final = 303
#: How long somebody may take to sign in, in seconds.
BEFORE_SECONDS: Final = 600
_YEAR: Final = 365 * 86_400


@router.get(SIGN_IN, name="sign_in")
async def sign_in_page(request: Request, deps: Deps, to: str = "/") -> Response:
    """Choose a role (development)."""
    value = request.cookies.get(deps.before_cookie) or secrets.token_urlsafe(32)
    texts = Texts(language_of(request))
    values = {"csrf": csrf_of(value), "to": local_path(to), "path": SIGN_IN, "roles": ("operator", "auditor")}
    response = html(render("sign_in.html", texts, deps.zone, values))
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
    return await begin_session(request, deps, role, local_path(fields.get("to", "/")))


async def begin_session(request: Request, deps: ConsoleDependencies, role: Role, to: str) -> Response:
    if deps.development is None:
        raise Forbidden("Sign in at the identity provider.")
    identity = deps.development(role)
    ip = request.client.host if request.client else None
    value = await deps.sessions.open(identity, ip=ip, user_agent=request.headers.get("user-agent", "")[:256] or None)
    response = RedirectResponse(to, SEE_OTHER)
    _set_cookie(response, deps, deps.session_cookie, value)
    _forget_cookie(response, deps, deps.before_cookie)
    return response


@router.post("/sign-out", name="sign_out", dependencies=[Depends(posted)])
async def sign_out(request: Request, deps: Deps) -> Response:
    """End the session, here and on the server."""
    await deps.sessions.close(request.cookies.get(deps.session_cookie, ""))
    response = RedirectResponse(SIGN_IN, SEE_OTHER)
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
