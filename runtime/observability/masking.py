"""The last line of defence of logs: what looks like an e-mail address, or is called like a personal text, is masked.

Our own log events carry ids alone; this is for what slips in, by a mistake of ours or in the words of a library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

MASKED: Final = "[masked]"
ADDRESS: Final = "[e-mail]"

#: Names of fields that hold personal texts, here or in the libraries' words.
PERSONAL: Final = frozenset(
    {
        "address",
        "authorization",
        "comment",
        "depositor",
        "depositor_email",
        "depositor_name",
        "email",
        "file_name",
        "filename",
        "ip",
        "mail_to",
        "metadata",
        "nom_original",
        "original_name",
        "recipient",
        "recipients",
        "rejection_reason",
        "subject",
        "tags",
        "to",
        "user_agent",
        "validation_comment",
    }
)

#: An address as mail programs know it, also percent-encoded as in a query. Bounded, so that no line takes long.
_ADDRESS: Final = re.compile(
    r"[^\s@<>\"'(),;:\[\]=&/]{1,64}(?:@|%40)[^\s@<>\"'(),;:\[\]&/]{1,253}\.[^\s@<>\"'(),;:\[\]&/.]{2,63}"
)
#: Deeper values are shown as masked: ours are flat.
_DEEPEST: Final = 4


def mask_personal(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor. Static event names and ids pass unchanged."""
    for name, value in event.items():
        event[name] = MASKED if name in PERSONAL and value is not None else _masked(value, 0)
    return event


def _masked(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _ADDRESS.sub(ADDRESS, value) if "@" in value or "%40" in value else value
    if isinstance(value, bool | int | float) or value is None:
        return value
    if depth == _DEEPEST:
        return MASKED
    if isinstance(value, Mapping):
        return {
            _masked(name, depth + 1): MASKED if name in PERSONAL else _masked(one, depth + 1)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(one, depth + 1) for one in value]
    return value if isinstance(value, bytes) else _masked(str(value), depth)
