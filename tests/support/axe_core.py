"""axe-core, from the npm registry once, pinned by hash, into the cache. Run as a program it says where the script is."""

from __future__ import annotations

import fcntl
import sys
import tarfile
from pathlib import Path
from typing import Final

from deploy.native.downloads import PinnedFile, fetch
from deploy.native.files import cache_root

AXE: Final = PinnedFile(
    "https://registry.npmjs.org/axe-core/-/axe-core-4.11.0.tgz",
    "39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107",
    594_490,
)


def script() -> Path:
    """Where it is. Raises DownloadFailed."""
    folder = cache_root() / f"axe-core-{AXE.sha256[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "axe.min.js"
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            packed = folder / "axe-core.tgz"
            fetch(AXE, packed)
            with tarfile.open(packed) as archive:
                member = archive.extractfile("package/axe.min.js")
                assert member is not None
                unpacked = folder / "axe.new"
                unpacked.write_bytes(member.read())
            unpacked.replace(found)
    return found


if __name__ == "__main__":
    sys.stdout.write(f"{script()}\n")
