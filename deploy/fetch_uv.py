"""Fetches uv, pinned by hash, for machines that have none: ``python3 -m deploy.fetch_uv FOLDER`` makes FOLDER/bin/uv.

Standard library alone, neither pip nor venv: Debian has these in packages of their own. The package index is that of
``UV_DEFAULT_INDEX``, ``UV_INDEX_URL`` or ``PIP_INDEX_URL``, else pip's configuration, else PyPI; ``native/downloads.py`` has what
holds for proxies and certificate authorities.
"""

from __future__ import annotations

import configparser
import html.parser
import json
import os
import platform
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit, urlunsplit

from deploy.native import downloads, files
from deploy.native.downloads import DownloadFailed, PinnedFile

PYPI: Final = "https://pypi.org/simple"
PINS: Final = Path(__file__).resolve().parent / "uv.txt"
INDEX_SETTINGS: Final = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
#: The simple index as JSON (PEP 691), else as HTML (PEP 503).
ACCEPTED: Final = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"


def index() -> str:
    """The package index's URL, maybe with user and password; no slash at its end."""
    chosen = next((value for name in INDEX_SETTINGS if (value := os.environ.get(name))), None) or _configured()
    # UV_DEFAULT_INDEX may be NAME=URL.
    name, equals, url = (chosen or PYPI).partition("=")
    return (url if equals and "/" not in name else chosen or PYPI).rstrip("/")


def _configured() -> str | None:
    """``index-url`` of pip's configuration files, the user's first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    places = [home / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf", Path("/etc/pip.conf")]
    if chosen := os.environ.get("PIP_CONFIG_FILE"):
        places.insert(0, Path(chosen))
    for place in places:
        parser = configparser.RawConfigParser()
        try:
            parser.read(place, "utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for option in ("index-url", "index_url"):
            if found := parser.get("global", option, fallback=None):
                return found
    return None


def pinned(machine: str) -> tuple[str, str, int]:
    """File name, SHA-256 and size in bytes of the wheel for ``machine``. Raises DownloadFailed where there is none."""
    for line in PINS.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            _, of, digest, size, name = line.split()
            if of == machine:
                return name, digest, int(size)
    raise DownloadFailed(f"no uv is pinned for {machine}: install uv yourself (https://docs.astral.sh/uv)")


def locate(name: str, url: str) -> str:
    """The URL of the file ``name`` of package uv in the index at ``url``. Raises DownloadFailed."""
    page = f"{url}/uv/"
    body, kind = downloads.get(page, ACCEPTED)
    try:
        links = _json_links(body) if kind.endswith("json") else _html_links(body)
        found = next((link for link in links if urlsplit(link).path.rpartition("/")[2] == name), None)
    except (ValueError, KeyError, TypeError):
        found = None
    if found is None:
        raise DownloadFailed(f"{downloads.without_password(page)} has no {name} (another index: UV_DEFAULT_INDEX)")
    file = urlsplit(urljoin(page, found))._replace(fragment="")
    if file.hostname == urlsplit(page).hostname and "@" not in file.netloc:
        file = file._replace(netloc=urlsplit(page).netloc)
    return urlunsplit(file)


def _json_links(body: bytes) -> Iterator[str]:
    return (str(file["url"]) for file in json.loads(body)["files"])


def _html_links(body: bytes) -> Iterator[str]:
    parser = _Links()
    parser.feed(body.decode("utf-8"))
    return iter(parser.found)


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def fetch(folder: Path) -> None:
    """Make ``folder``/bin/uv, whole or not at all. Raises DownloadFailed, OSError."""
    program = folder / "bin" / "uv"
    program.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / "lock"):
        if program.exists():
            return
        name, digest, size = pinned(platform.machine())
        wheel = folder / name
        downloads.fetch(PinnedFile(locate(name, index()), digest, size), wheel)
        with zipfile.ZipFile(wheel) as content:
            member = next(each for each in content.namelist() if each.endswith(".data/scripts/uv"))
            unfinished = folder / "uv.new"
            with content.open(member) as source, unfinished.open("wb") as target:
                shutil.copyfileobj(source, target)
        unfinished.chmod(0o755)
        unfinished.replace(program)
        wheel.unlink()


def main(arguments: list[str]) -> int:
    try:
        fetch(Path(arguments[0]))
    except (DownloadFailed, OSError) as error:
        print(f"uv can't be fetched: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
