"""PostgreSQL from the system's own binaries: one cluster for the documents, in the full profile one below FerretDB.

PostgreSQL refuses to run as root; started by root it runs as ``postgres``, whose data can't lie below folders that only
root may enter: then it is kept in ``/var/lib/dpj/<id of the stack>``.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
from functools import cache
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import asyncpg

from deploy.native import certificates, files, prerequisites
from deploy.native.errors import PartFailed, StackError
from deploy.native.parts.base import FULL, QUESTION_SECONDS, NotReady, Part, run_tool
from deploy.native.ports import LOOPBACK
from deploy.native.site import Profile, Site
from deploy.native.supervisor import Command

INIT_SECONDS = 120.0
OF_ROOT = Path("/var/lib/dpj")
ACCOUNT = "postgres"
ADMIN = "dpj_admin"


class Postgres(Part):
    """``role`` owns the one database of the same name and may create more (tests make their own)."""

    name: ClassVar[str] = "postgres"
    port: ClassVar[str] = "postgres"
    role: ClassVar[str] = "dpj"
    connections: ClassVar[int] = 200

    def version(self) -> str:
        return _version()

    def dsn(self, site: Site) -> str:
        """For the application, with its password."""
        trust = ""
        if site.tls:
            ca = quote(str(certificates.authority_file(site)))
            trust = f"?sslmode=verify-full&sslrootcert={ca}&ssl_min_protocol_version=TLSv1.3"
        return f"postgresql://{self.role}:{site.secret(self.port)}@{site.address(self.port)}/{self.role}{trust}"

    def prepare(self, site: Site) -> None:
        cluster = self._cluster(site)
        if not (cluster / "PG_VERSION").exists():
            self._initialise(site, cluster)
        if site.tls:
            self._prepare_tls(site, cluster)

    def _prepare_tls(self, site: Site, cluster: Path) -> None:
        """What the server reads is in the cluster's own folder: its account may enter no other of ours."""
        ours = certificates.pair(site, self.name)
        contents = {
            "tls.pem": ours.certificate.read_text("ascii"),
            "tls.key": ours.key.read_text("ascii"),
            # Whoever comes without TLS finds no line that lets him in.
            "tls_hba.conf": f"hostssl all all {LOOPBACK}/32 scram-sha-256\n",
        }
        for name, content in contents.items():
            files.write_private(cluster / name, content)
            _give_away(cluster / name)

    def _initialise(self, site: Site, cluster: Path) -> None:
        # Built beside its place: an initdb that was interrupted must not count.
        unfinished = cluster.with_name(f"{cluster.name}.new")
        password = cluster.with_name(f"{cluster.name}.password")
        shutil.rmtree(unfinished, ignore_errors=True)
        places = (f"--pgdata={unfinished}", f"--username={ADMIN}", f"--pwfile={password}")
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        initdb = (str(_binaries() / "initdb"), *places, *options)
        try:
            files.write_private(password, site.secret(f"{self.port}_admin"))
            _give_away(password)
            run_tool(site, self.name, Command(initdb, {}, cluster.parent, user=_account()), INIT_SECONDS)
        finally:
            password.unlink(missing_ok=True)
        unfinished.rename(cluster)

    def command(self, site: Site) -> Command:
        cluster = self._cluster(site)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": site.ports[self.port],
            "unix_socket_directories": "",
            "max_connections": self.connections,
            "shared_buffers": "64MB",
            "log_line_prefix": "%m [%p] ",
            "password_encryption": "scram-sha-256",
        }
        if site.tls:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": "tls.pem",
                "ssl_key_file": "tls.key",
                "ssl_min_protocol_version": "TLSv1.3",
                "hba_file": str(cluster / "tls_hba.conf"),
            }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return Command(
            (str(_binaries() / "postgres"), "-D", str(cluster), *options),
            {"HOME": str(cluster), "LC_ALL": "C.UTF-8"},
            cluster,
            user=_account(),
            stop=signal.SIGINT,  # "fast": ends clients' sessions instead of waiting for them
        )

    def ask(self, site: Site) -> None:
        try:
            asyncio.run(self._select_one(site))
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise NotReady(type(error).__name__) from None

    def set_up(self, site: Site) -> None:
        try:
            asyncio.run(self._create(site))
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise PartFailed(
                self.name, f"its role and database can't be created ({type(error).__name__})", ""
            ) from None

    def wipe(self, site: Site) -> None:
        if os.geteuid() == 0:
            shutil.rmtree(OF_ROOT / site.id, ignore_errors=True)

    async def _connect(self, site: Site, database: str) -> asyncpg.Connection[asyncpg.Record]:
        return await asyncpg.connect(
            host=LOOPBACK,
            port=site.ports[self.port],
            user=ADMIN,
            password=site.secret(f"{self.port}_admin"),
            database=database,
            ssl=certificates.trusting(site) or False,
            timeout=QUESTION_SECONDS,
            command_timeout=QUESTION_SECONDS * 6,
        )

    async def _select_one(self, site: Site) -> None:
        connection = await self._connect(site, "postgres")
        try:
            await connection.fetchval("SELECT 1")
        finally:
            await connection.close(timeout=QUESTION_SECONDS)

    async def _create(self, site: Site) -> None:
        connection = await self._connect(site, "postgres")
        try:
            verb = (
                "ALTER"
                if await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", self.role)
                else "CREATE"
            )
            # The generated password is base64url: nothing in it needs quoting.
            await connection.execute(f"{verb} ROLE {self.role} LOGIN CREATEDB PASSWORD '{site.secret(self.port)}'")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", self.role):
                await connection.execute(f"CREATE DATABASE {self.role} OWNER {self.role}")
        finally:
            await connection.close(timeout=QUESTION_SECONDS)

    def _cluster(self, site: Site) -> Path:
        if os.geteuid() != 0:
            return site.data(self.port) / "cluster"
        OF_ROOT.mkdir(parents=True, exist_ok=True)
        OF_ROOT.chmod(0o711)
        folder = files.private_folder(OF_ROOT / site.id)
        _give_away(folder)
        return folder / self.port


class MongoPostgres(Postgres):
    """The cluster below FerretDB: its own, so that stopping one database does not stop the other."""

    name: ClassVar[str] = "mongo-pg"
    profiles: ClassVar[frozenset[Profile]] = FULL
    port: ClassVar[str] = "mongo"
    role: ClassVar[str] = "ferretdb"
    connections: ClassVar[int] = 100


def _account() -> str | None:
    return ACCOUNT if os.geteuid() == 0 else None


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        os.chown(path, account.pw_uid, account.pw_gid)


@cache
def _binaries() -> Path:
    folder = prerequisites.postgres_folder()
    if folder is None:
        raise StackError("no PostgreSQL server binaries")
    return folder


@cache
def _version() -> str:
    return prerequisites.output(str(_binaries() / "postgres"), "--version").split()[2]
