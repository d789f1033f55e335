"""What an operator's commands about personal texts are made of."""

from __future__ import annotations

from uuid import uuid4

from crypto.column_key_care import ColumnKeyFiles
from processors.personal_care import PersonalCare
from processors.recording import Origin
from runtime.wiring import Site
from storage.personal_columns_postgres import PostgresPersonalColumns


def create_personal_care(site: Site, operator: str) -> PersonalCare:
    """Acts of the operator of that login name. Await ``codec.check`` before: acts are audited, and audit lines encoded."""
    keys = ColumnKeyFiles(site.settings.column_key_file, site.settings.lookup_key_file)
    kept = PostgresPersonalColumns(site.postgres)
    return PersonalCare(keys, kept, site.texts, site.database, site.clock, site.operator(operator))


def operator_origin(site: Site, operator: str) -> Origin:
    """Who is at the terminal, as the audit log names him."""
    return Origin(actor=site.operator(operator), at=site.clock.now(), correlation_id=uuid4())
