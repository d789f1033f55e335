"""What an operator's commands about personal texts are made of."""

from __future__ import annotations

from uuid import uuid4

from crypto.column_key_files import ColumnKeyFiles
from processors.documents.transitions import Origin
from processors.operators.personal_text_keys import PersonalKeyAdministration
from runtime.wiring.site import Site
from storage.postgres.keys.personal_columns import PostgresPersonalColumns


def create_personal_key_administration(
    site: Site, operator: str, *, actor: str | None = None
) -> PersonalKeyAdministration:
    """Acts of the operator of that login name, or of the pseudonym ``actor``. Await ``codec.check`` before: acts are audited, and audit lines encoded."""
    keys = ColumnKeyFiles(site.settings.column_key_file, site.settings.lookup_key_file)
    kept = PostgresPersonalColumns(site.postgres)
    parts = (keys, kept, site.texts, site.database, site.clock, actor or site.operator(operator))
    return PersonalKeyAdministration(*parts, site.second_person_for_keys(), site.restore_guard.check)


def operator_origin(site: Site, operator: str) -> Origin:
    """Who is at the terminal, as the audit log names him."""
    return Origin(actor=site.operator(operator), at=site.clock.now(), correlation_id=uuid4())
