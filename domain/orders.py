"""Acts that one operator orders and another confirms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID


class OrderedAct(Enum):
    """What may take two persons: none of it can be undone. The values name the acts in the audit log, too."""

    ERASURE = "document.erasure"
    KEY_RETIREMENT = "key.retirement"
    PERSONAL_KEY_RETIREMENT = "personal_key.retirement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """``subject`` is a document's id, a tenant or a key's id, as the act needs; ``parameters``: codes and numbers of the act, no text of a
    person. ``ordered_by`` and ``confirmed_by`` are pseudonyms, and never the same."""

    id: UUID
    act: OrderedAct
    subject: str
    tenant: str
    parameters: Mapping[str, Any]
    ordered_by: str
    ordered_at: datetime
    expires_at: datetime
    confirmed_by: str | None = None
    confirmed_at: datetime | None = None
