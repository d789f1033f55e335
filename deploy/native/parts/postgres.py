"""PostgreSQL, the system's or a wheel's: one cluster for the documents, in the full profile one below FerretDB.

PostgreSQL refuses to run as root; started by root it runs as ``postgres`` (``nobody`` where there is no such account), whose data
can't lie below folders that only root may enter: then it is kept in ``/var/lib/dpj/<id of the stack>``. A cluster stays with the
account and the major version that it was made by.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import asyncpg

from deploy.native import certificates, files, prerequisites, programs
from deploy.native.cache import OF_ROOT
from deploy.native.errors import PartFailed, StackError
from deploy.native.parts.base import BRIEF, FULL, QUESTION_SECONDS, NotReady, Part, run_tool
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import Program
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command

INIT_SECONDS = 120.0
ACCOUNTS = ("postgres", "nobody")
ADMIN = "dpj_admin"


class Postgres(Part):
    """``role`` owns the one database of the same name and may create more (tests make their own)."""

    name: ClassVar[str] = "postgres"
    port: ClassVar[str] = "postgres"
    role: ClassVar[str] = "dpj"
    connections: ClassVar[int] = 200

    def version(self, site: StackSite) -> str:
        found = self._program(site)
        return found.version if found else ""

    def programs(self, site: StackSite) -> tuple[Program | None, ...]:
        return (self._program(site),)

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        major = self._major(site)
        if self._program(site):
            return []
        if major is not None and programs.postgres(tls=site.tls):
            return [prerequisites.postgres_of(major, site.name)]
        return [prerequisites.POSTGRES_TLS if site.tls and programs.postgres() else prerequisites.POSTGRES]

    def dsn(self, site: StackSite) -> str:
        """For the application, with its password."""
        trust = ""
        if site.tls:
            ca = quote(str(certificates.authority_file(site)))
            trust = f"?sslmode=verify-full&sslrootcert={ca}&ssl_min_protocol_version=TLSv1.3"
        return f"postgresql://{self.role}:{site.secret(self.port)}@{site.address(self.port)}/{self.role}{trust}"

    def prepare(self, site: StackSite) -> None:
        cluster = self._cluster(site)
        if not (cluster / "PG_VERSION").exists():
            self._initialise(site, cluster)
        if site.tls:
            self._prepare_tls(site, cluster)

    def _prepare_tls(self, site: StackSite, cluster: Path) -> None:
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
            _give_away(cluster / name, site)

    def _initialise(self, site: StackSite, cluster: Path) -> None:
        # Built beside its place: an initdb that was interrupted must not count.
        unfinished = cluster.with_name(f"{cluster.name}.new")
        password = cluster.with_name(f"{cluster.name}.password")
        shutil.rmtree(unfinished, ignore_errors=True)
        places = (f"--pgdata={unfinished}", f"--username={ADMIN}", f"--pwfile={password}")
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
        initdb = (self._path(site, "initdb"), *places, *options)
        try:
            files.write_private(password, site.secret(f"{self.port}_admin"))
            _give_away(password, site)
            run_tool(site, self.name, Command(initdb, {}, cluster.parent, user=_account(site)), INIT_SECONDS)
        finally:
            password.unlink(missing_ok=True)
        unfinished.rename(cluster)

    def command(self, site: StackSite) -> Command:
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
        if os.environ.get(BRIEF):
            # Not synchronous_commit: pages of commits that are not flushed are never all-visible, and plans differ.
            settings |= {"fsync": "off", "full_page_writes": "off"}
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
            (self._path(site, "postgres"), "-D", str(cluster), *options),
            {"HOME": str(cluster), "LC_ALL": "C.UTF-8"},
            cluster,
            user=_account(site),
            stop=signal.SIGINT,  # "fast": ends clients' sessions instead of waiting for them
        )

    def ask(self, site: StackSite) -> None:
        try:
            asyncio.run(self._select_one(site))
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise NotReady(type(error).__name__) from None

    def set_up(self, site: StackSite) -> None:
        try:
            asyncio.run(self._create(site))
        except (asyncpg.PostgresError, OSError, TimeoutError) as error:
            raise PartFailed(
                self.name, f"its role and database can't be created ({type(error).__name__})", ""
            ) from None

    def wipe(self, site: StackSite) -> None:
        if os.geteuid() == 0:
            shutil.rmtree(OF_ROOT / site.id, ignore_errors=True)

    async def _connect(self, site: StackSite, database: str) -> asyncpg.Connection[asyncpg.Record]:
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

    async def _select_one(self, site: StackSite) -> None:
        connection = await self._connect(site, "postgres")
        try:
            await connection.fetchval("SELECT 1")
        finally:
            await connection.close(timeout=QUESTION_SECONDS)

    async def _create(self, site: StackSite) -> None:
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

    def _cluster(self, site: StackSite) -> Path:
        if os.geteuid() != 0:
            return site.data(self.port) / "cluster"
        OF_ROOT.mkdir(parents=True, exist_ok=True)
        OF_ROOT.chmod(0o711)
        account = _account(site)
        folder = files.private_folder(OF_ROOT / site.id)
        if account is not None:
            _chown(folder, account)
        return folder / self.port

    def _major(self, site: StackSite) -> int | None:
        """Of the data that are there; None if there are none."""
        try:
            return int((self._cluster(site) / "PG_VERSION").read_text("ascii"))
        except FileNotFoundError:
            return None

    def _program(self, site: StackSite) -> Program | None:
        return programs.postgres(self._major(site), tls=site.tls)

    def _path(self, site: StackSite, name: str) -> str:
        found = self._program(site)
        if found is None:
            raise StackError("no PostgreSQL server")
        return found.path(name)


class MongoPostgres(Postgres):
    """The cluster below FerretDB: its own, so that stopping one database does not stop the other."""

    name: ClassVar[str] = "mongo-pg"
    profiles: ClassVar[frozenset[Profile]] = FULL
    port: ClassVar[str] = "mongo"
    role: ClassVar[str] = "ferretdb"
    connections: ClassVar[int] = 100


def _account(site: StackSite) -> str | None:
    """Whom the server runs as; None: as ourselves. Data that are there belong to whom they were made by."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(FileNotFoundError, KeyError):
        owner = (OF_ROOT / site.id).stat().st_uid
        if owner != 0:
            return pwd.getpwuid(owner).pw_name
    known = {account.pw_name for account in pwd.getpwall()}
    found = next((name for name in ACCOUNTS if name in known), None)
    if found is None:
        raise StackError("PostgreSQL does not run as root, and there is neither an account postgres nor nobody")
    return found


def _give_away(path: Path, site: StackSite) -> None:
    account = _account(site)
    if account is not None:
        _chown(path, account)


def _chown(path: Path, account: str) -> None:
    entry = pwd.getpwnam(account)
    os.chown(path, entry.pw_uid, entry.pw_gid)
