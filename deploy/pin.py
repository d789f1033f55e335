"""Makes the lists of pinned downloads anew, after a change of version. For maintainers; nothing at run time needs Maven or pip.

python -m deploy.pin jars                   from native/maven/*/pom.xml, with Maven
python -m deploy.pin wheels [NAME==VERSION] native/wheels/*/wheel.txt, with pip: at their versions, or NAME at another one
python -m deploy.pin uv VERSION             uv.txt, with pip
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from deploy import fetch_uv
from deploy.native import cache, downloads, jars

#: By machine, the platforms whose wheels run there (PEP 600): the newest glibc that is asked for is 2.28.
PLATFORMS = {
    machine: tuple(
        f"{tag}_{machine}" for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
    )
    for machine in cache.WHEEL_MACHINES
}
_ARTIFACT = re.compile(r"(?P<group>[\w.-]+):(?P<name>[\w.-]+):\w+:[\w.:-]*(?:compile|runtime):(?P<file>/\S+)")


def pin_jars(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        listing = Path(scratch) / "list"
        options = [f"-DoutputFile={listing}", "-DincludeScope=runtime", "-DoutputAbsoluteArtifactFilename=true"]
        subprocess.run(
            ["mvn", "--batch-mode", "--quiet", "--strict-checksums", *options, "dependency:list"],
            cwd=folder,
            check=True,
        )
        found = [_jar(match) for match in _ARTIFACT.finditer(listing.read_text("utf-8"))]
    lines = [
        "# Made from pom.xml by `python -m deploy.pin jars`: SHA-256, bytes, place in the part's folder, path in a Maven repository.",
        *(f"{jar.sha256} {jar.size} {jar.target} {jar.path}" for jar in sorted(found, key=lambda jar: jar.path)),
    ]
    (folder / jars.LIST).write_text("\n".join(lines) + "\n", "utf-8")


def _jar(match: re.Match[str]) -> jars.Jar:
    file = Path(match["file"])
    group = match["group"].replace(".", "/")
    if file.suffix == ".war":
        target = "webapp/"
    elif file.suffix == ".zip":
        target = "./"  # a distribution, in a folder of its own name
    elif match["name"] == "jetty-runner":
        target = "jetty-runner.jar"
    else:
        target = f"libs/{file.name}"
    path = f"{group}/{match['name']}/{file.parent.name}/{file.name}"
    return jars.Jar(downloads.sha256(file), file.stat().st_size, target, path)


def pin_wheel(path: Path, wanted: str | None) -> None:
    """``wanted``: NAME==VERSION; a file of another name stays as it is."""
    former = path.read_text("utf-8")
    pinned = re.search(r"^(\S+)==(\S+) ", former, re.MULTILINE)
    if pinned is None:
        raise ValueError(f"{path} pins nothing")
    requirement = wanted or f"{pinned[1]}=={pinned[2]}"
    if requirement.partition("==")[0] != pinned[1]:
        return
    comments = [line for line in former.splitlines() if line.startswith("#")]
    hashes = [
        f"    --hash=sha256:{downloads.sha256(wheel)}"
        for _, wheel in sorted(_wheels(requirement).items(), reverse=True)
    ]
    path.write_text("\n".join([*comments, " \\\n".join([requirement, *hashes])]) + "\n", "utf-8")


def pin_uv(version: str) -> None:
    lines = ["# Made by `python -m deploy.pin uv`: version, machine, SHA-256, bytes, file."]
    for machine, wheel in _wheels(f"uv=={version}").items():
        lines.append(f"{version} {machine} {downloads.sha256(wheel)} {wheel.stat().st_size} {wheel.name}")
    fetch_uv.PINS.write_text("\n".join(lines) + "\n", "utf-8")


def _wheels(requirement: str) -> dict[str, Path]:
    """The wheel per machine, in the pip's temporary folder of this process."""
    found = {}
    for machine, platforms in PLATFORMS.items():
        folder = Path(tempfile.mkdtemp())
        options = ["--no-deps", "--only-binary", ":all:", "--python-version", cache.WHEEL_PYTHON, "--dest", str(folder)]
        tags = [word for platform in platforms for word in ("--platform", platform)]
        subprocess.run(["pip", "download", "--quiet", *options, *tags, requirement], check=True)
        [found[machine]] = folder.iterdir()
    return found


def main(arguments: list[str]) -> int:
    match arguments:
        case ["jars"]:
            for pom in sorted((cache.SOURCES / "maven").glob("*/pom.xml")):
                pin_jars(pom.parent)
        case ["wheels", *rest] if len(rest) <= 1:
            for path in sorted((cache.SOURCES / "wheels").glob(f"*/{cache.WHEEL_LIST}")):
                pin_wheel(path, rest[0] if rest else None)
        case ["uv", version]:
            pin_uv(version)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
