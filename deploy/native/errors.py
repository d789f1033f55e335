"""What can go wrong with the local stack, in words for the person at the terminal."""

from __future__ import annotations


class StackError(Exception):
    """The stack can't do what was asked; the message says what to do about it."""


class Missing(StackError):
    """A prerequisite is not installed."""


class BuildFailed(StackError):
    """A part could not be built; the message ends with the last lines of the build's output."""


class PartFailed(StackError):
    """A server did not come up. ``log_tail`` holds the last lines of its log."""

    def __init__(self, part: str, reason: str, log_tail: str) -> None:
        super().__init__(f"{part}: {reason}")
        self.part = part
        self.reason = reason
        self.log_tail = log_tail


class Cancelled(StackError):
    """Another part failed, or the user gave up: the work of this one was stopped."""
