"""Pinned downloads over real sockets: refused where a byte is wrong, resumed where they were cut, through proxies and private CAs."""

from __future__ import annotations

import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest

from deploy import fetch_uv
from deploy.native import downloads, jars, site
from deploy.native.certificates import authority_file, ensure, pair
from deploy.native.downloads import DownloadFailed, PinnedFile, fetch
from deploy.native.errors import BuildFailed, Cancelled
from tests.support import tls_handshakes

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Repository(ThreadingHTTPServer):
    """Serves ``files`` by path. ``cuts`` are bytes after which an answer ends early, one per answer; ``asked`` is what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.kinds: dict[str, str] = {}
        self.moved: dict[str, str] = {}
        self.cuts: list[int] = []
        self.ranges = True
        self.asked: list[tuple[str, str | None, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Repository

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        asked_range = self.headers.get("Range")
        self.server.asked.append((self.path, asked_range, self.headers.get("Authorization")))
        if self.path in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[self.path])
            self.end_headers()
            return
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(asked_range.removeprefix("bytes=").removesuffix("-")) if asked_range and self.server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", self.server.kinds.get(self.path, "application/java-archive"))
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else None
        self.wfile.write(body[start:] if cut is None else body[start : start + cut])


@contextmanager
def serving(repository: Repository) -> Iterator[Repository]:
    thread = threading.Thread(target=repository.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield repository
    finally:
        repository.shutdown()
        thread.join()
        repository.server_close()


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *(
            "SSL_CERT_FILE",
            "REQUESTS_CA_BUNDLE",
            "CURL_CA_BUNDLE",
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "NO_PROXY",
            "DPJ_MAVEN_URL",
        ),
        *(
            "http_proxy",
            "https_proxy",
            "no_proxy",
            "PIP_CONFIG_FILE",
            "PIP_INDEX_URL",
            "UV_INDEX_URL",
            "UV_DEFAULT_INDEX",
        ),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.005)
    monkeypatch.setenv("DPJ_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def repository() -> Iterator[Repository]:
    with serving(Repository()) as found:
        found.files["/a.jar"] = CONTENT
        yield found


def pinned(repository: Repository) -> PinnedFile:
    return PinnedFile(f"{repository.url}/a.jar", DIGEST, len(CONTENT))


def test_what_is_whole_is_not_fetched_again(repository: Repository, tmp_path: Path) -> None:
    for _ in range(2):
        fetch(pinned(repository), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert len(repository.asked) == 1


@pytest.mark.parametrize(
    "served",
    [
        pytest.param(CONTENT[:-1] + b"x", id="another byte"),
        pytest.param(CONTENT + b"x", id="a byte more"),
        pytest.param(CONTENT[:-1], id="a byte less"),
        pytest.param(b"<html>Log in to the proxy</html>", id="a page"),
    ],
)
def test_another_file_is_refused(repository: Repository, tmp_path: Path, served: bytes) -> None:
    repository.files["/a.jar"] = served
    with pytest.raises(DownloadFailed) as refused:
        fetch(pinned(repository), tmp_path / "a")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "a").exists()
    repository.files["/a.jar"] = CONTENT
    fetch(pinned(repository), tmp_path / "a")  # what was left of the other does no harm
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_damaged_file_that_lies_there_is_fetched_anew(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(CONTENT[:-1])
    fetch(pinned(repository), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_cut_download_goes_on_where_it_was_cut(repository: Repository, tmp_path: Path) -> None:
    repository.cuts = [1000, 50_000]
    fetch(pinned(repository), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [asked[1] for asked in repository.asked] == [None, "bytes=1000-", "bytes=51000-"]


def test_a_killed_download_goes_on_in_the_next_call(repository: Repository, tmp_path: Path) -> None:
    chunks = 0

    def give_up() -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 3:
            raise Cancelled("given up")

    with pytest.raises(Cancelled):
        fetch(pinned(repository), tmp_path / "a", give_up)
    have = (tmp_path / "a.part").stat().st_size
    assert 0 < have < len(CONTENT)
    fetch(pinned(repository), tmp_path / "a")
    assert repository.asked[-1][1] == f"bytes={have}-"
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_wrong_beginning_is_thrown_away(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    fetch(pinned(repository), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [asked[1] for asked in repository.asked] == ["bytes=1000-", None]


def test_a_server_without_ranges_sends_it_all_again(repository: Repository, tmp_path: Path) -> None:
    repository.cuts, repository.ranges = [1000], False
    fetch(pinned(repository), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_what_is_not_there_is_asked_for_once(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match=r"/b\.jar: HTTP 404$"):
        fetch(PinnedFile(f"{repository.url}/b.jar", DIGEST, 1), tmp_path / "b")
    assert len(repository.asked) == 1


def test_a_proxy_is_used(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", repository.url)
    repository.files["http://repository.example/a.jar"] = CONTENT
    fetch(PinnedFile("http://repository.example/a.jar", DIGEST, len(CONTENT)), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_password_goes_to_the_repository_and_to_nobody_else(repository: Repository, tmp_path: Path) -> None:
    with serving(Repository()) as elsewhere:
        elsewhere.files["/b.jar"] = CONTENT
        repository.moved["/b.jar"] = f"{elsewhere.url}/b.jar"
        url = repository.url.replace("//", "//me:s%40cret@")
        fetch(PinnedFile(f"{url}/b.jar", DIGEST, len(CONTENT)), tmp_path / "b")
        assert repository.asked[-1][2] == "Basic bWU6c0BjcmV0"
        assert elsewhere.asked == [("/b.jar", None, None)]
    with pytest.raises(DownloadFailed) as failed:
        fetch(PinnedFile(f"{url}/c.jar", DIGEST, 1), tmp_path / "c")
    assert "cret" not in str(failed.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_private_authority_is_trusted_where_it_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site.load_or_create("mine", "embedded")
    ensure(here, ["repository"])
    secured, ours = Repository(), pair(here, "repository")
    context = tls_handshakes.serving(ours.certificate, ours.key)
    secured.socket = context.wrap_socket(secured.socket, server_side=True)
    secured.files["/a.jar"] = CONTENT
    with serving(secured):
        file = PinnedFile(f"https://127.0.0.1:{secured.server_port}/a.jar", DIGEST, len(CONTENT))
        with pytest.raises(DownloadFailed, match=r"certificate.*\(set SSL_CERT_FILE to the file"):
            fetch(file, tmp_path / "a")
        monkeypatch.setenv(name, str(authority_file(here)))
        fetch(file, tmp_path / "a")
        assert (tmp_path / "a").read_bytes() == CONTENT
        monkeypatch.setenv(name, str(tmp_path / "none.pem"))
        with pytest.raises(DownloadFailed, match=r"none\.pem: no certificates can be read there"):
            fetch(file, tmp_path / "b")


def a_list(folder: Path, repository: Repository, wares: dict[str, tuple[str, bytes]]) -> Path:
    """A recipe's folder whose list pins ``wares``: content by path, with its target."""
    folder.mkdir()
    lines = []
    for path, (target, content) in wares.items():
        repository.files[f"/maven/{path}"] = content
        lines.append(f"{hashlib.sha256(content).hexdigest()} {len(content)} {target} {path}")
    (folder / "jars.txt").write_text("# a comment\n" + "\n".join(lines) + "\n")
    (folder / "web.xml").write_text("ours")
    (folder / "repository.properties").write_text("ours")
    return folder


def a_war(names: list[str]) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "theirs")
    return content.getvalue()


def test_jars_come_from_the_repository_that_is_set(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    war = a_war(
        ["WEB-INF/web.xml", "WEB-INF/classes/a", "WEB-INF/lib/log4j-core-2.6.jar", "WEB-INF/cmis10/deep/x.wsdl"]
    )
    wares = {f"g/a/{i}/a-{i}.jar": (f"libs/a-{i}.jar", bytes([i]) * 100_000) for i in range(20)}
    inputs = a_list(tmp_path / "in", repository, {**wares, "g/w/1/w-1.war": ("webapp/", war)})
    monkeypatch.setenv("DPJ_MAVEN_URL", f"{repository.url}/maven/")
    jars.install(inputs, tmp_path / "out", tmp_path / "kept", lambda: None)
    assert {path.name for path in (tmp_path / "out" / "libs").iterdir()} == {f"a-{i}.jar" for i in range(20)}
    web = tmp_path / "out" / "webapp"
    assert {str(path.relative_to(web)) for path in web.rglob("*") if path.is_file()} == {
        *("WEB-INF/web.xml", "WEB-INF/classes/a", "WEB-INF/classes/repository.properties"),
    }
    assert (web / "WEB-INF" / "web.xml").read_text() == "ours"
    assert not (tmp_path / "kept").exists()


def test_after_a_failure_the_rest_is_fetched(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wares = {f"{i}.jar": (f"libs/{i}.jar", bytes([i]) * 1000) for i in range(4)}
    inputs = a_list(tmp_path / "in", repository, wares)
    monkeypatch.setenv("DPJ_MAVEN_URL", f"{repository.url}/maven")
    repository.files["/maven/3.jar"] = b"x" * 1000
    with pytest.raises(BuildFailed, match=r"^\S+/3\.jar has another SHA-256 .*\(another repository: DPJ_MAVEN_URL\)$"):
        jars.install(inputs, tmp_path / "out", tmp_path / "kept", lambda: None)
    assert not (tmp_path / "out").exists()
    repository.files["/maven/3.jar"] = bytes([3]) * 1000
    repository.asked.clear()
    jars.install(inputs, tmp_path / "out", tmp_path / "kept", lambda: None)
    assert [asked[0] for asked in repository.asked] == ["/maven/3.jar"]


def test_an_archive_can_not_write_beside_its_folder(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = a_list(tmp_path / "in", repository, {"w.war": ("webapp/", a_war(["a", "../../escaped"]))})
    monkeypatch.setenv("DPJ_MAVEN_URL", f"{repository.url}/maven")
    with pytest.raises(BuildFailed, match="outside"):
        jars.install(inputs, tmp_path / "out", tmp_path / "kept", lambda: None)
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("form", ["json", "html"])
def test_uv_comes_from_the_users_index(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    wheel = BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv-9.data/scripts/uv", "#!/bin/sh\necho uv 9\n")
        archive.writestr("uv-9.data/scripts/uvx", "")
    name, content = "uv-9-py3-none-manylinux_2_17_x86_64.whl", wheel.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "uv.txt").write_text(f"# pins\n9 {fetch_uv.platform.machine()} {digest} {len(content)} {name}\n")
    monkeypatch.setattr(fetch_uv, "PINS", tmp_path / "uv.txt")
    repository.files[f"/files/{name}"] = content
    if form == "json":
        links = {"files": [{"url": "../../files/other.whl"}, {"url": f"../../files/{name}"}]}
        repository.kinds["/simple/uv/"] = "application/vnd.pypi.simple.v1+json"
        repository.files["/simple/uv/"] = json.dumps(links).encode()
    else:
        repository.kinds["/simple/uv/"] = "text/html"
        repository.files["/simple/uv/"] = f'<a>x</a><a href="../../files/{name}#sha256={digest}">uv</a>'.encode()
    (tmp_path / "config" / "pip").mkdir(parents=True)
    (tmp_path / "config" / "pip" / "pip.conf").write_text(
        f"[global]\nindex-url = {repository.url.replace('//', '//me:secret@')}/simple/\n"
    )
    assert fetch_uv.main([str(tmp_path / "uv-9")]) == 0
    program = tmp_path / "uv-9" / "bin" / "uv"
    assert program.read_text().startswith("#!/bin/sh")
    assert program.stat().st_mode & 0o111
    assert {asked[2] for asked in repository.asked} == {"Basic bWU6c2VjcmV0"}
    assert not (tmp_path / "uv-9" / name).exists()


def test_an_index_without_it_is_one_line(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"mirror={repository.url}/simple")
    repository.files["/simple/uv/"] = b"<html></html>"
    repository.kinds["/simple/uv/"] = "text/html"
    assert fetch_uv.main([str(tmp_path / "uv")]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "another index: UV_DEFAULT_INDEX" in told
