"""MinIO: the object store of the full profile.

Its lowest version of TLS is 1.2, whatever it is told (``newTLSConfig`` in its cmd/utils.go); our clients take no less than 1.3.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import urllib3
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException, S3Error
from minio.minioadmin import MinioAdmin
from minio.objectlockconfig import YEARS, ObjectLockConfig

from deploy.native import certificates, files
from deploy.native.cache import Recipe
from deploy.native.errors import PartFailed
from deploy.native.parts import http
from deploy.native.parts.base import FULL, QUESTION_SECONDS, NotReady, Part
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command

ADMIN = "dpj-admin"
USER = "dpj"
BUCKET = "dpj-documents"
#: Audit checkpoints: a locked bucket, and a user who can put and read there and nothing else.
CHECKPOINT_USER = "dpj-checkpoints"
CHECKPOINT_BUCKET = "dpj-checkpoints"
RETENTION_YEARS = 10


class MinIO(Part):
    name: ClassVar[str] = "minio"
    port: ClassVar[str] = "minio"
    profiles: ClassVar[frozenset[Profile]] = FULL
    recipe: ClassVar[Recipe | None] = Recipe("minio", "2026-02-12", "go", "go/minio", "github.com/minio/minio")

    def prepare(self, site: StackSite) -> None:
        if site.tls:
            ours, folder = certificates.pair(site, self.name), files.private_folder(_certificates(site))
            files.write_private(folder / "public.crt", ours.certificate.read_bytes())
            files.write_private(folder / "private.key", ours.key.read_bytes())

    def command(self, site: StackSite) -> Command:
        environment = {
            "MINIO_ROOT_USER": ADMIN,
            "MINIO_ROOT_PASSWORD": site.secret("minio_admin"),
            "MINIO_BROWSER": "off",  # no console, and no second port
            "MINIO_UPDATE": "off",
            "HOME": str(site.data("minio")),
        }
        tls = ("--certs-dir", str(_certificates(site))) if site.tls else ()
        arguments = ("server", "--quiet", *tls, "--address", site.address("minio"), str(site.data("minio") / "drive"))
        return Command((str(self.built / "minio"), *arguments), environment, site.data("minio"))

    def ask(self, site: StackSite) -> None:
        http.get_ok(f"{site.url('minio')}/minio/health/ready", certificates.trusting(site))

    def set_up(self, site: StackSite) -> None:
        pool = urllib3.PoolManager(timeout=QUESTION_SECONDS * 2, retries=False, ssl_context=certificates.trusting(site))
        try:
            admin = MinioAdmin(
                endpoint=site.address("minio"),
                credentials=StaticProvider(ADMIN, site.secret("minio_admin")),
                secure=site.tls,
                http_client=pool,
            )
            admin.user_add(USER, site.secret("minio"))
            admin.user_add(CHECKPOINT_USER, site.secret("minio_checkpoints"))
            for name, policy in _policies().items():
                admin.policy_add(name, policy=policy)
            _allow(admin, USER, "readwrite")
            _allow(admin, USER, "dpj-no-checkpoints")
            _allow(admin, CHECKPOINT_USER, "dpj-checkpoints")
            _lock(site, pool)
            # The user may do anything with objects and buckets, nothing with the server itself.
            client = Minio(
                endpoint=site.address("minio"),
                access_key=USER,
                secret_key=site.secret("minio"),
                secure=site.tls,
                http_client=pool,
            )
            if not client.bucket_exists(bucket_name=BUCKET):
                client.make_bucket(bucket_name=BUCKET)
        except (MinioException, MinioAdminException, urllib3.exceptions.HTTPError) as error:
            status, reason = _status_and_code(error)
            if 400 <= status < 500:
                raise PartFailed(self.name, f"its users and buckets can't be created ({reason})", "") from None
            # It says that it is ready before it knows its users; on a busy machine that takes some seconds.
            raise NotReady(f"its users and buckets can't be created yet ({reason})") from None
        finally:
            pool.clear()


def _status_and_code(error: Exception) -> tuple[int, str]:
    """The answer's status, 0 where none came, and the server's code: the rest of an answer may hold a user's secret."""
    if isinstance(error, MinioAdminException):
        # Its text: "admin request failed; Status: 503, Body: {"Code": ...}".
        status, code = re.search(r"Status: (\d+)", str(error)), re.search(r'"Code":\s*"(\w+)"', str(error))
        return int(status[1]) if status else 0, code[1] if code else type(error).__name__
    if isinstance(error, S3Error):
        return error.response.status, str(error.code)
    return 0, type(error).__name__


def _certificates(site: StackSite) -> Path:
    return site.folder / "config" / "minio-certs"


def _lock(site: StackSite, pool: urllib3.PoolManager) -> None:
    """The bucket of checkpoints. What is in it stays, whoever asks: COMPLIANCE mode has no way out."""
    root = Minio(
        endpoint=site.address("minio"),
        access_key=ADMIN,
        secret_key=site.secret("minio_admin"),
        secure=site.tls,
        http_client=pool,
    )
    if not root.bucket_exists(bucket_name=CHECKPOINT_BUCKET):
        root.make_bucket(bucket_name=CHECKPOINT_BUCKET, object_lock=True)
    root.set_object_lock_config(CHECKPOINT_BUCKET, ObjectLockConfig(COMPLIANCE, RETENTION_YEARS, YEARS))


def _policies() -> dict[str, dict[str, Any]]:
    bucket = f"arn:aws:s3:::{CHECKPOINT_BUCKET}"
    may = {
        bucket: ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetBucketObjectLockConfiguration"],
        f"{bucket}/*": ["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion"],
    }
    allowed = [{"Effect": "Allow", "Action": actions, "Resource": [resource]} for resource, actions in may.items()]
    denied = [{"Effect": "Deny", "Action": ["s3:*"], "Resource": [bucket, f"{bucket}/*"]}]
    return {
        "dpj-checkpoints": {"Version": "2012-10-17", "Statement": allowed},
        "dpj-no-checkpoints": {"Version": "2012-10-17", "Statement": denied},
    }


def _allow(admin: MinioAdmin, user: str, policy: str) -> None:
    try:
        admin.attach_policy([policy], user=user)
    except MinioAdminException as error:
        if "PolicyChangeAlreadyApplied" not in str(error):
            raise
