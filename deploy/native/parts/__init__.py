"""All parts of the stack, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Collection

from deploy.native.parts.base import Part
from deploy.native.parts.clamd import Clamd
from deploy.native.parts.collector import Collector
from deploy.native.parts.ferretdb import FerretDB
from deploy.native.parts.ged import Ged
from deploy.native.parts.kafka import Kafka
from deploy.native.parts.keycloak import Keycloak
from deploy.native.parts.minio import MinIO
from deploy.native.parts.observability import Alertmanager, Prometheus
from deploy.native.parts.postgres import MongoPostgres, Postgres
from deploy.native.parts.redis import Redis
from deploy.native.parts.registry import Registry
from deploy.native.parts.smtp import Smtp
from deploy.native.parts.toxiproxy import Toxiproxy
from deploy.native.parts.vault import Vault
from deploy.native.parts.victorialogs import VictoriaLogs
from deploy.native.site import Profile

ALL: tuple[Part, ...] = (
    Kafka(),
    Registry(),
    Postgres(),
    MongoPostgres(),
    FerretDB(),
    Ged(),
    Smtp(),
    MinIO(),
    Vault(),
    Clamd(),
    Redis(),
    Toxiproxy(),
    Alertmanager(),
    Prometheus(),
    VictoriaLogs(),
    Collector(),
    Keycloak(),
)
#: What `--with` may add to a stack.
EXTRAS: tuple[str, ...] = tuple(dict.fromkeys(part.extra for part in ALL if part.extra))


def of(profile: Profile, extras: Collection[str], left_out: Collection[str] = ()) -> list[Part]:
    """The parts of a stack; ``extras`` are the words for those it has on request, ``left_out`` those it does without."""
    return [
        part
        for part in ALL
        if profile in part.profiles and (not part.on_request or part.extra in extras) and part.name not in left_out
    ]
