"""What a client's author reads before the operations: a token, the life of a document, how to wait, what codes mean.

Tables are made of the code's own (``domain.lifecycle``, ``domain.error_table``); ``ingest_api.markdown`` puts all of it into docs/API.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from domain.error_table import ERROR_TABLE, ErrorEntry
from domain.errors import DPJError
from domain.lifecycle import ERASURE_STATES, RESTING, TRANSITIONS, Status
from domain.refusals import (
    BodyTooSlow,
    BodyTruncated,
    ChecksumMismatch,
    IdempotencyInProgress,
    RateLimited,
    ReceiptPending,
    UploadSuperseded,
)
from ingest_api.field_errors import FIELD_CODES
from ingest_api.lifecycle_picture import content_of
from ingest_api.problems import OTHER_ROUTE_FAILURE, ROUTE_FAILURES

_ACCESS: Final = """## Getting a token

Every call but those of links carries `Authorization: Bearer TOKEN`. The token is a JWT of your identity provider: an
access token with `sub`, `tenant`, a list of roles, `exp`, and a `jti` or `sid`. The operators of a site say where it
comes from, and which roles yours has. Each operation below names the roles that may call it.

A portal takes the client credentials grant (RFC 6749, section 4.4). With Keycloak, for instance:

```sh
curl -u "$CLIENT_ID:$CLIENT_SECRET" -d grant_type=client_credentials \\
  https://login.bank.example/realms/dpj/protocol/openid-connect/token
```

`access_token` of the answer is the token, `expires_in` its seconds. Take a new one before it expires: an expired one is
answered 401 `unauthenticated`.

The local stack has no identity provider. There the command line signs tokens:

```sh
TOKEN=$(dpj token --role portal --tenant acme)
```
"""

_LIFE: Final = """## The life of a document

![The life of a document](lifecycle.svg)

Dark states are those in which a document may stay. Your code should take a state that it does not know for one in which
nothing is to be done: more may come.

| state | content | next |
|---|---|---|
"""

_WAITING: Final = """## Waiting

Some answers come before the work is done. What to look at, and for what:

| after | look at | until |
|---|---|---|
| upload: 201, `STORED` | the document | `processing.status` is not `UNDER_WAY`: `VERIFIED`, `QUARANTINED`, or stopped |
| upload, for its picture | the thumbnail | 200; a 404 says whether one is still to come |
| validate, reject: 202, `pending_decision` | the document | `pending_decision` is null |
| validate: 200, `VALIDATED` | the document | `ARCHIVED` or `ARCHIVE_FAILED`; `archive.planned` false: it stays `VALIDATED` |
| `ARCHIVED` | the receipt | 200; 409 `receipt_pending` says when in Retry-After |
| erase: 202, `ERASING` | the document | `ERASED`, then the erasure receipt |

`processing` of a document says whether waiting helps:

| `processing.status` | meaning | what to do |
|---|---|---|
| `UNDER_WAY` | It goes on by itself: now, or when what it waits for is back (a queue, an outage). | Look again later. |
| `STOPPED` | A step was given up, or its event got lost: only an operator's act moves it. | Wait no longer; report the id. |
| `AT_REST` | Its state changes only if somebody acts. A thumbnail or a mail may still come. | Stop looking. |

`step` says what is stopped: `integrity` (the document stays `STORED`), `archiving`, `renditions` (its thumbnail) or
`notification` (its mail). `code` says why: a [code of failures](#codes-of-failures); `event_lost` or `event_refused` if
the broker lost the event or refuses it; `unknown`. `since` says when. A step that is given up shows at once. An event
that the broker lost is sent again three times first, so it shows after some minutes. Once an operator has had the step
done again, the document is `UNDER_WAY`, then `AT_REST`. So a portal need not look at `STOPPED` more often than every
quarter of an hour.

Most documents are verified within seconds. Look after 1 second, then wait twice as long each time, up to 30 seconds.
For many documents ask for the list once (`GET /api/v1/documents?dossier=...&status=VERIFIED`), not for each of them.
Each look counts for your quota. `RateLimit` says what is left of it and `RateLimit-Policy` what it is.

- **Retry-After** goes before all of this: wait at least so long.
- **429** means that the quota is used up. **503** means that something the API needs is away. Both say how long to wait.
- **A connection that ends without an answer**: send the same upload with the same `Idempotency-Key` again. It is stored
  once. The answer that was made is repeated, with `Idempotent-Replayed: true`.
- **Other 4xx answers** mostly stay the same, however often the request is repeated: see [Codes](#codes).
"""

_CODES: Final = """## Codes

An error is `application/problem+json` (RFC 9457, schema [Problem](#problem)). `code` is what a program should look at. It
stays the same over releases; `title`, `detail` and `advice` are for people. `traceId` names the request to the operators.

"Again" says whether the same request may be sent again unchanged: *yes*; *wait*, after as many seconds as Retry-After
says; or *no*, because the answer would be the same.

| code | status | title | what to do | again |
|---|---|---|---|---|
"""

_STATUS_CODES: Final = """
### Codes of failures

Nobody is answered with these, unless a document's content can't be given. They stand in `failure_code` and
`processing.code` of a document, and in dead letters.

| code | title | what to do |
|---|---|---|
"""

_FIELD_CODES: Final = """
### Codes of fields

`errors` of a problem names each field that is wrong, with one of these codes.

| code | meaning |
|---|---|
"""

_EXAMPLES: Final = """## Operations

Examples are curl commands, and each is run by the tests. `API` is the address of the API, `TOKEN` a token of a role that
the operation names. `DOSSIER`, `DOCUMENT` and `LINK` are the `id` of the answer that made it, `LINK_URL` its `url`.
"""

#: Beyond those that come with every transient error.
_WAITED_FOR: Final = frozenset({RateLimited.code, ReceiptPending.code, IdempotencyInProgress.code})
#: What may go better the next time.
_AT_ONCE: Final = frozenset(
    {BodyTruncated.code, BodyTooSlow.code, ChecksumMismatch.code, UploadSuperseded.code, DPJError.code}
)


def guide() -> Iterator[str]:
    """The page's lines before its operations."""
    yield from _ACCESS.split("\n")
    yield from _LIFE.rstrip().split("\n")
    yield from _states()
    yield ""
    yield from _WAITING.split("\n")
    yield from _CODES.rstrip().split("\n")
    yield from _answers()
    yield from _STATUS_CODES.rstrip().split("\n")
    yield from _failures()
    yield from _FIELD_CODES.rstrip().split("\n")
    for code, meaning in sorted(FIELD_CODES.items()):
        yield f"| `{code}` | {meaning} |"
    yield ""
    yield from _EXAMPLES.split("\n")


def _states() -> Iterator[str]:
    for status in Status:
        steps = [end.value for end in Status if end in TRANSITIONS[status] and end is not Status.ERASING]
        following = " or ".join(f"`{step}`" for step in steps) or "nothing"
        if status in RESTING and status not in ERASURE_STATES and steps:
            following += ", once somebody decides"
        yield f"| `{status.value}` | {content_of(status)} | {following} |"


def _answers() -> Iterator[str]:
    rows: dict[str, tuple[str, str, str, str]] = {
        code: (str(entry.http_status), entry.title, entry.advice, _again(code, entry))
        for code, entry in ERROR_TABLE.items()
        if entry.policy != "dead_letter" or code == DPJError.code
    }
    for failure, status in (
        (OTHER_ROUTE_FAILURE, "4xx"),
        *((row, str(status)) for status, row in ROUTE_FAILURES.items()),
    ):
        rows[failure.code] = (status, failure.title, failure.advice, "no")
    for code, (status, title, advice, again) in sorted(rows.items(), key=lambda row: (row[1][0], row[0])):
        yield f"| `{code}` | {status} | {title} | {_cell(advice)} | {again} |"


def _again(code: str, entry: ErrorEntry) -> str:
    if entry.policy == "hold" or code in _WAITED_FOR:
        return "wait"
    return "yes" if code in _AT_ONCE else "no"


def _failures() -> Iterator[str]:
    found: Mapping[str, ErrorEntry] = {
        code: entry for code, entry in ERROR_TABLE.items() if entry.policy == "dead_letter" and code != DPJError.code
    }
    for code, entry in sorted(found.items()):
        yield f"| `{code}` | {entry.title} | {_cell(entry.advice)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
