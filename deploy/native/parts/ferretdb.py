"""The MongoDB protocol: FerretDB on a PostgreSQL cluster of its own (go/ferretdb).

FerretDB's own TLS can't be told a lowest version: in a stack with TLS our program before it ends TLS 1.3, and FerretDB itself
listens on a socket in its private folder.
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import quote

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from deploy.native import certificates
from deploy.native.cache import Recipe
from deploy.native.parts.base import FULL, QUESTION_SECONDS, NotReady, Part
from deploy.native.parts.postgres import MongoPostgres
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command


class FerretDB(Part):
    name: ClassVar[str] = "ferretdb"
    port: ClassVar[str] = "ferretdb"
    profiles: ClassVar[frozenset[Profile]] = FULL
    recipe: ClassVar[Recipe | None] = Recipe(
        "ferretdb",
        "1.24.2",
        "go",
        "go/ferretdb",
        tags="ferretdb_no_sqlite",  # its other back end is as large as all the rest
    )
    needs: ClassVar[tuple[str, ...]] = (MongoPostgres.name,)

    def url(self, site: StackSite) -> str:
        """For the application. FerretDB hands user and password on to PostgreSQL: no client gets in without them."""
        user, password = MongoPostgres.role, site.secret(MongoPostgres.port)
        trust = f"&tls=true&tlsCAFile={quote(str(certificates.authority_file(site)))}" if site.tls else ""
        return f"mongodb://{user}:{password}@{site.address(self.port)}/?authMechanism=PLAIN{trust}"

    def command(self, site: StackSite) -> Command:
        arguments, mode = ["-listen", site.address(self.port)], "disable"
        if site.tls:
            ours = certificates.pair(site, self.name)
            # The socket's name is short because it is looked up from the folder that the server runs in.
            arguments += ["-certificate", str(ours.certificate), "-key", str(ours.key), "-socket", "ferretdb.sock"]
            mode = f"verify-full&sslrootcert={quote(str(certificates.authority_file(site)))}"
        database = f"postgres://{site.address(MongoPostgres.port)}/{MongoPostgres.role}?sslmode={mode}"
        environment = {"FERRETDB_POSTGRESQL_URL": database}
        return Command((str(self.built / "ferretdb"), *arguments), environment, site.data("ferretdb"))

    def ask(self, site: StackSite) -> None:
        milliseconds = int(QUESTION_SECONDS * 1000)
        client: MongoClient[dict[str, Any]] = MongoClient(
            self.url(site),
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=milliseconds,
            directConnection=True,
        )
        try:
            client.admin.command("ping")
            client["dpj"].list_collection_names()  # ping alone does not reach PostgreSQL
        except PyMongoError as error:
            raise NotReady(type(error).__name__) from None
        finally:
            client.close()
