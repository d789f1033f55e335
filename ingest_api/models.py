"""What the API reads and writes, as pydantic models. Input is strict: unknown fields are refused, every text is bounded."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
)

from domain.lifecycle import Status
from domain.processing import ProcessingStatus
from ingest_api.mail_addresses import mailable
from processors.documents.pagination import DEFAULT_LIMIT, MAX_LIMIT

MAX_METADATA_ENTRIES: Final = 32


#: What turns the reading direction of the text around it (Unicode Standard Annex 9, section 2), in a mail and on a screen.
_TURNING: Final = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_TURNS: Final = re.compile(f"[{_TURNING}]")


def _without_controls(text: str) -> str:
    """Raises ValueError for control characters and lone surrogates: neither PostgreSQL nor a mail takes them."""
    if not text.isprintable() and any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("control characters are not allowed")
    return text


def _printable(text: str) -> str:
    """As ``_without_controls``; and ValueError for what turns the reading direction. Joiners are letters' own business."""
    if _TURNS.search(text):
        raise ValueError("characters that turn the reading direction are not allowed")
    return _without_controls(text)


def _writable(text: str) -> str:
    """As ``_printable``, line breaks and tabs allowed."""
    _printable(text.replace("\n", "").replace("\r", "").replace("\t", ""))
    return text


def _whole(value: Any) -> Any:
    """1.0 is an integer to JSON Schema, and to who sends it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_CODE: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_SHA256: Final = r"^[0-9a-fA-F]{64}$"
_LOWER_SHA256: Final = r"^[0-9a-f]{64}$"
_ITEM_NAME: Final = r"^[A-Za-z0-9._/-]{1,128}$"
_CLASS_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_GIVEN_EMAIL: Final = r"^[^\u0000-\u0020\u007f-\u00a0@]{1,64}@[^\u0000-\u0020\u007f-\u00a0@]{1,253}$"
#: Patterns in words, as they follow "The value must be".
PATTERNS: Final[Mapping[str, str]] = {
    _CODE: "1 to 64 letters (A-Z, a-z), digits, '.', '_' or '-', the first a letter or digit",
    _SHA256: "64 hexadecimal digits",
    _LOWER_SHA256: "64 hexadecimal digits in lower case",
    _ITEM_NAME: "1 to 128 letters (A-Z, a-z), digits, '.', '_', '/' or '-'",
    _CLASS_NAME: "1 to 128 letters (A-Z, a-z), digits or '_', the first no digit",
    _GIVEN_EMAIL: "an e-mail address, without spaces",
}


def links_of(*names: str, perhaps: Sequence[str] = ()) -> WithJsonSchema:
    """Links by name, as the OpenAPI document says them: those that are always there, and those that may be missing."""
    link = {"type": "string", "format": "uri-reference"}
    properties = dict.fromkeys((*names, *perhaps), link)
    return WithJsonSchema({"type": "object", "required": list(names), "properties": properties})


def _integral(value: object) -> object:
    """JSON knows no integers: 3.0 is one as good as 3, and JSON Schema says so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Code = Annotated[str, Field(pattern=_CODE)]
PlanHash = Annotated[str, Field(pattern=_LOWER_SHA256)]
ItemName = Annotated[str, Field(pattern=_ITEM_NAME)]
ClassName = Annotated[str, Field(pattern=_CLASS_NAME)]
Integer = Annotated[int, BeforeValidator(_integral)]
Canary = Annotated[int, Field(ge=1, le=100), BeforeValidator(_integral)]
#: What these functions ask for, as the description of the API says it.
_BARE: Final[dict[str, JsonValue]] = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
_PLAIN: Final[dict[str, JsonValue]] = {"pattern": rf"^[^\u0000-\u001f\u007f-\u009f{_TURNING}]*$"}
_LINES: Final[dict[str, JsonValue]] = {
    "pattern": rf"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f{_TURNING}]*$"
}
#: Kept without what is invisible, and without a path (``ingest_api.file_names.clean_file_name``).
FileName = Annotated[
    str, Field(min_length=1, max_length=255, json_schema_extra=_BARE), AfterValidator(_without_controls)
]
Label = Annotated[str, Field(min_length=1, max_length=64, json_schema_extra=_PLAIN), AfterValidator(_printable)]
Text = Annotated[str, Field(min_length=1, max_length=255, json_schema_extra=_PLAIN), AfterValidator(_printable)]
Note = Annotated[str, Field(max_length=2000, json_schema_extra=_LINES), AfterValidator(_writable)]
#: Integers stay within what every JSON reader keeps exact (RFC 8259, section 6).
Whole = Annotated[int, Field(ge=-(2**53) + 1, le=2**53 - 1)]
Value = Annotated[str, Field(max_length=1000), AfterValidator(_writable)] | bool | Whole | float | None
Email = Annotated[str, Field(max_length=254, json_schema_extra={"format": "idn-email"}), AfterValidator(mailable)]
#: An address to look for: documents from before may have one that is refused by now.
GivenEmail = Annotated[
    str,
    Field(max_length=254, pattern=_GIVEN_EMAIL),
]


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class DepositorInput(Input):
    """Who deposits: gets the mails about the document, in that language, addressed by that name."""

    email: Email = Field(repr=False)
    name: Text | None = Field(default=None, repr=False)
    language: Literal["fr", "en"] = "fr"


class UploadMetadata(Input):
    """What a portal says of a document. ``sha256`` of the clear bytes, if given, is checked."""

    type: Code
    dossier_id: UUID
    depositor: DepositorInput
    step_id: UUID | None = None
    parent_id: UUID | None = None
    file_name: FileName | None = None
    tags: Annotated[list[Label], Field(max_length=20)] = []
    sha256: Annotated[str, Field(pattern=_SHA256)] | None = None
    metadata: Annotated[dict[Label, Value], Field(max_length=MAX_METADATA_ENTRIES)] = {}


class SearchInput(Input):
    """What documents have to have: this file name, this depositor's address, or both."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}}
                for name in ("file_name", "depositor_email")
            ]
        }
    )

    file_name: FileName | None = Field(default=None, repr=False)
    depositor_email: GivenEmail | None = Field(default=None, repr=False)
    cursor: Annotated[str, Field(max_length=128)] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT), BeforeValidator(_whole)] = DEFAULT_LIMIT


class ValidateInput(Input):
    comment: Note | None = None


class RejectInput(Input):
    reason: Annotated[Note, Field(min_length=1)]


class StepInput(Input):
    """A step of the dossier's journey; document lists hold type codes."""

    code: Code
    name: Text
    mandatory_documents: Annotated[list[Code], Field(max_length=50)] = []
    optional_documents: Annotated[list[Code], Field(max_length=50)] = []


class DossierInput(Input):
    """A new dossier; steps in their order."""

    number: Code
    client_id: Code
    journey_type: Code
    priority: Annotated[int, Field(ge=0, le=9), BeforeValidator(_whole)] = 0
    steps: Annotated[list[StepInput], Field(max_length=50)] = []


class LinkInput(Input):
    """``purpose`` is a code that the audit log names; ``seconds`` is how long the link is good for."""

    purpose: Code
    seconds: Annotated[int, Field(ge=1, le=30 * 86_400), BeforeValidator(_whole)] = 900


class LinkView(BaseModel):
    """``url`` opens the content, without a token, for who has it: it is shown this once."""

    id: UUID
    document_id: UUID
    purpose: str
    url: str
    created_at: datetime
    expires_at: datetime


class RevocationInput(Input):
    """What no longer counts: one token by its claim ``jti``, a whole session by its claim ``sid``, or both.

    ``expires_at`` is when the token expires by itself, if that is known and still to come; its revocation is kept until then, and for as long as a
    link that it made may be good. A session's is kept for as long as the identity provider may issue tokens of it.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "string"}}} for name in ("token_id", "session_id")
            ]
        }
    )

    token_id: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(default=None, repr=False)
    session_id: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(default=None, repr=False)
    expires_at: AwareDatetime | None = None


class RevocationView(BaseModel):
    """Refused everywhere within 5 seconds; ``until`` is when the last of the revocations is forgotten."""

    until: datetime


class DecisionView(BaseModel):
    """A validation or rejection; ``by`` is a pseudonym."""

    status: Status
    by: str
    at: datetime
    note: str | None


class ArchiveView(BaseModel):
    """``planned`` is null until the archiving step has looked at the document."""

    planned: bool | None
    retention_years: int | None
    ged_id: str | None
    ged_path: str | None
    archived_at: datetime | None


class ProcessingView(BaseModel):
    """Whether the document goes on by itself. ``UNDER_WAY``: it does, at once or when what it waits for is back. ``STOPPED``: only an
    operator's act moves it; ``step`` says what was given up, ``code`` why, ``since`` when. ``AT_REST``: its state changes only if
    somebody acts; a thumbnail or a mail may still come. ``step``, ``code`` and ``since`` are null unless it is STOPPED.
    """

    status: ProcessingStatus
    step: Literal["integrity", "renditions", "archiving", "notification"] | None
    code: str | None
    since: datetime | None
    advice: str


class DocumentView(BaseModel):
    """A document. ``size`` in bytes, ``sha256`` of the clear bytes in lower-case hex, times in UTC."""

    id: UUID
    status: Status
    processing: ProcessingView
    tenant: str
    dossier_id: UUID
    step_id: UUID | None
    type: str
    mandatory: bool
    file_name: str
    media_type: str | None
    size: int | None
    sha256: str | None
    version: int
    parent_id: UUID | None
    depositor: str
    language: str
    tags: list[str]
    metadata: Mapping[str, Any]
    decision: DecisionView | None
    pending_decision: DecisionView | None
    archive: ArchiveView
    failure_code: str | None
    thumbnail_note: str | None
    created_at: datetime
    updated_at: datetime
    deposited_at: datetime | None
    links: Annotated[
        Mapping[str, str], links_of("self", "content", "thumbnail", "events", "dossier", perhaps=["receipt"])
    ]


class DocumentPage(BaseModel):
    """Newest first; ``next_cursor`` is null on the last page."""

    items: list[DocumentView]
    next_cursor: str | None


class StepView(BaseModel):
    id: UUID
    code: str
    name: str
    position: int
    status: str
    mandatory_documents: list[str]
    optional_documents: list[str]


class DossierView(BaseModel):
    id: UUID
    number: str
    client_id: str
    journey_type: str
    status: str
    current_step: str | None
    priority: int
    steps: list[StepView]
    created_at: datetime
    updated_at: datetime
    links: Annotated[Mapping[str, str], links_of("self", "documents")]


class DossierPage(BaseModel):
    """Newest first; ``next_cursor`` is null on the last page."""

    items: list[DossierView]
    next_cursor: str | None


class EventView(BaseModel):
    """One entry of a document's timeline; ``by`` is a pseudonym or a part of the system."""

    type: str
    by: str
    at: datetime
    details: Mapping[str, Any]


class EventList(BaseModel):
    """Oldest first."""

    items: list[EventView]


class DocumentTypeView(BaseModel):
    """What may be deposited under a type code. ``max_size`` in bytes, ``formats`` are media types.

    ``validation_rules`` are for whoever validates, ``metadata_template`` (name to kind of value) for whoever deposits:
    intake enforces neither.
    """

    code: str
    label: str
    description: str
    formats: list[str]
    max_size: int
    active: bool
    archived: bool
    retention_years: int
    validation_rules: Mapping[str, Any]
    metadata_template: Mapping[str, Any]


class DocumentTypeList(BaseModel):
    items: list[DocumentTypeView]


class FieldProblem(BaseModel):
    field: str
    code: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details. ``code`` is stable; ``traceId`` names the request in our logs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    advice: str
    traceId: str  # noqa: N815 - the member's name on the wire
    errors: list[FieldProblem] = []
