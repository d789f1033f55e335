"""Every failure of a command as one line and a next step; a traceback only with DPJ_DEBUG=1."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Final, NamedTuple

from typer.exceptions import Abort, TyperException

from domain.error_table import ERROR_TABLE
from domain.errors import (
    DatabaseConflict,
    DatabaseConnectionsExhausted,
    DatabaseFull,
    DatabaseLocked,
    DatabaseTimeout,
    DPJError,
    KeyringLoginRefused,
    PersonalKeyMissing,
    SchemaMissing,
    TenantKeyMissing,
    Transient,
)
from domain.shared.terminal_text import visible
from runtime.cli.output import FAILED
from runtime.config.certificate_errors import CertificateUnusable, certificate_error
from runtime.errors import CommandFailed

_TRUST: Final = (
    "Is it expired, or does DPJ_TLS_CA_FILE name another authority than its own? dpj up renews a local stack's."
)


class Description(NamedTuple):
    """``code`` is for programs, ``message`` and ``next_step`` are sentences."""

    code: str
    message: str
    next_step: str


def describe(error: BaseException) -> Description:
    """What is wrong and what to do next. Only the class of an unforeseen error is told: its text may quote anything.

    Of errors that came together the first is told: the others mostly follow from it.
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, CommandFailed):
        return Description(error.code, str(error), error.next_step)
    if isinstance(error, TyperException | Abort):
        return _of_the_command_line(error)
    return _of_our_work(error)


def _of_our_work(error: BaseException) -> Description:
    if isinstance(error, CertificateUnusable):
        return Description("certificate_unusable", str(error), "See docs/OPERATIONS.md, TLS.")
    name, refused = type(error).__name__, certificate_error(error)
    if isinstance(error, DPJError):
        return Description(error.code, _message(error, refused), _advice(error, refused))
    if name == "ApiUnreachable" and refused:
        return Description("api_unreachable", f"The API's certificate is refused: {refused}.", _TRUST)
    if name == "ApiUnreachable":
        return Description("api_unreachable", str(error), "Start it with: dpj up (or: dpj api); see: dpj stack status.")
    if name == "ApiProblem":
        return Description(str(getattr(error, "code", "")), str(error), str(getattr(error, "advice", "")))
    if name in {"StackError", "Missing", "BuildFailed", "PartFailed", "Cancelled"}:
        return Description("stack_failed", str(error), "See: dpj stack logs.")
    if isinstance(error, OSError):
        place = f": {error.filename}" if error.filename else ""
        return Description("os_error", f"{error.strerror or name}{place}.", "Check that it exists and may be used.")
    return Description(
        "unexpected", f"An unexpected error: {name}.", "Run it again with DPJ_DEBUG=1 for the traceback."
    )


def _of_the_command_line(error: TyperException | Abort) -> Description:
    if isinstance(error, Abort):
        return Description("aborted", "Nothing was done: it was not confirmed.", "")
    context = getattr(error, "ctx", None)
    help_of = "dpj" if context is None else context.command_path
    return Description("usage", error.format_message(), f"See: {help_of} --help")


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is what ended it. A library that is torn out of its work may raise an error of its own on the way."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, KeyboardInterrupt):
            return True
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        waiting += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    return False


def report(error: Exception, *, as_json: bool) -> int:
    """Tell the person on standard error and, with ``as_json``, the program on standard output. Returns the exit code."""
    described = describe(error)
    if os.environ.get("DPJ_DEBUG") == "1":
        traceback.print_exception(error)
    sys.stderr.write(f"dpj: {visible(' '.join(described.message.split()))}\n")
    if described.next_step:
        sys.stderr.write(f"     {visible(' '.join(described.next_step.split()))}\n")
    if as_json:
        document = {"error": described._asdict()}
        found = error.document if isinstance(error, CommandFailed) else None
        sys.stdout.write(json.dumps(document if found is None else {**found, **document}, default=str) + "\n")
    return error.exit_code if isinstance(error, TyperException) else FAILED


def _message(error: DPJError, refused: str) -> str:
    title = ERROR_TABLE[error.code].title if error.code in ERROR_TABLE else error.code
    if refused:
        return f"{title}. Its certificate is refused: {refused}."
    return f"{title}. {error.detail}" if error.detail else f"{title}."


def _advice(error: DPJError, refused: str) -> str:
    if refused:
        return _TRUST
    if isinstance(error, SchemaMissing):
        return "Register them: dpj schemas register."
    if isinstance(error, DatabaseFull | TenantKeyMissing | KeyringLoginRefused | PersonalKeyMissing):
        return ERROR_TABLE[error.code].advice
    if isinstance(error, DatabaseLocked | DatabaseTimeout | DatabaseConflict | DatabaseConnectionsExhausted):
        return f"Run it again in {error.retry_after} seconds. Who holds what: pg_stat_activity, pg_locks."
    if isinstance(error, Transient):
        return f"Is {error.waiting_for} running? See: dpj stack status."
    return ERROR_TABLE[error.code].advice if error.code in ERROR_TABLE else ""
