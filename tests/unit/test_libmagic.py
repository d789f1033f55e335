"""The libmagic of the package, on machines whose system has none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Run in a process of its own: a library that is loaded stays. The system's is hidden from both who look for it.
WITHOUT_THE_SYSTEMS = """
import ctypes, ctypes.util
of_ctypes, first = ctypes.CDLL.__init__, True
def hidden(self, name=None, *rest, **more):
    global first
    if name == "libmagic.so.1" and first:
        first = False
        raise OSError("no such library")
    of_ctypes(self, name, *rest, **more)
ctypes.CDLL.__init__ = hidden
ctypes.util.find_library = lambda name: None
from ingest_api.libmagic import TABLE
from ingest_api.sniffing import MagicSniffer
used = {line.split()[-1] for line in open("/proc/self/maps") if "libmagic" in line}
sniffer = MagicSniffer()
print(TABLE, *used)
print(sniffer.sniff(b"%PDF-2.0\\n"), sniffer.sniff(b"MZ" + bytes(200)), sniffer.sniff(b"GIF89a" + bytes(20)))
"""


def test_the_packages_is_used_where_the_system_has_none() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_THE_SYSTEMS], capture_output=True, text=True, check=True)
    places, answers = done.stdout.splitlines()
    assert [Path(place).parent.name for place in places.split()] == ["pylibmagic", "pylibmagic"]
    assert answers == "application/pdf application/x-dosexec image/gif"
    assert "pylibmagic" not in done.stderr
