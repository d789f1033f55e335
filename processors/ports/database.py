"""Transactions and locks of the database."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

from processors.ports.uploads import UploadRecords
from processors.ports.work import Work

W_co = TypeVar("W_co", covariant=True)


class Transactions(Protocol[W_co]):
    """Raises DatabaseUnavailable. ``W_co`` is what the use case needs of a transaction."""

    def transaction(self) -> AbstractAsyncContextManager[W_co]:
        """Leaving the block normally commits; an exception rolls back."""
        ...


class HeldLock(Protocol):
    async def check(self) -> None:
        """Raises DatabaseUnavailable if the lock's session has ended, and the lock with it."""
        ...


class Locks(Protocol):
    def lock(self, name: str) -> AbstractAsyncContextManager[HeldLock]:
        """A cluster-wide lock by name (a PostgreSQL advisory lock on a session of its own); waits, with a deadline.

        It ends with its session, which nobody is told of: ask ``check`` before what must not be done by two.
        """
        ...


class HasUploadRecords(Protocol):
    @property
    def uploads(self) -> UploadRecords: ...


class LockingTransactions(Transactions[W_co], Locks, Protocol[W_co]):
    """Transactions, and locks that outlive them."""


class Database(Transactions[Work], Locks, HasUploadRecords, Protocol):
    """All of it."""
