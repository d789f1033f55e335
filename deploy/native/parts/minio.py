"""MinIO: the object store of the full profile."""

from __future__ import annotations

from typing import ClassVar

import urllib3
from minio import Minio
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException, MinioException
from minio.minioadmin import MinioAdmin

from deploy.native.cache import Recipe
from deploy.native.errors import PartFailed
from deploy.native.parts import http
from deploy.native.parts.base import FULL, QUESTION_SECONDS, Part
from deploy.native.site import Profile, Site
from deploy.native.supervisor import Command

ADMIN = "dpj-admin"
USER = "dpj"
BUCKET = "dpj-documents"


class MinIO(Part):
    name: ClassVar[str] = "minio"
    port: ClassVar[str] = "minio"
    profiles: ClassVar[frozenset[Profile]] = FULL
    recipe: ClassVar[Recipe | None] = Recipe("minio", "2026-02-12", "go", "go/minio", "github.com/minio/minio")

    def command(self, site: Site) -> Command:
        environment = {
            "MINIO_ROOT_USER": ADMIN,
            "MINIO_ROOT_PASSWORD": site.secret("minio_admin"),
            "MINIO_BROWSER": "off",  # no console, and no second port
            "MINIO_UPDATE": "off",
            "HOME": str(site.data("minio")),
        }
        arguments = ("server", "--quiet", "--address", site.address("minio"), str(site.data("minio") / "drive"))
        return Command((str(self.built / "minio"), *arguments), environment, site.data("minio"))

    def ask(self, site: Site) -> None:
        http.get_ok(f"http://{site.address('minio')}/minio/health/ready")

    def set_up(self, site: Site) -> None:
        pool = urllib3.PoolManager(timeout=QUESTION_SECONDS * 2, retries=False)
        try:
            admin = MinioAdmin(
                endpoint=site.address("minio"),
                credentials=StaticProvider(ADMIN, site.secret("minio_admin")),
                secure=False,
                http_client=pool,
            )
            admin.user_add(USER, site.secret("minio"))
            _allow(admin)
            # The user may do anything with objects and buckets, nothing with the server itself.
            client = Minio(
                endpoint=site.address("minio"),
                access_key=USER,
                secret_key=site.secret("minio"),
                secure=False,
                http_client=pool,
            )
            if not client.bucket_exists(bucket_name=BUCKET):
                client.make_bucket(bucket_name=BUCKET)
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise PartFailed(self.name, f"its user and bucket can't be created ({type(error).__name__})", "") from None
        finally:
            pool.clear()


def _allow(admin: MinioAdmin) -> None:
    try:
        admin.attach_policy(["readwrite"], user=USER)
    except MinioAdminException as error:
        if "PolicyChangeAlreadyApplied" not in str(error):
            raise
