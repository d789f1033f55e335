"""What ends a command or a process with a message for the person who started it."""

from __future__ import annotations

from typing import Any


class CommandFailed(Exception):
    """A command can't do what was asked: what is wrong, and what to do next."""

    def __init__(self, message: str, next_step: str = "", *, code: str = "failed", document: Any = None) -> None:
        super().__init__(message)
        self.next_step = next_step
        self.code = code
        #: What was found before it failed, for ``--json``.
        self.document = document
