"""The version of the HTTP interface."""

from __future__ import annotations

from typing import Final

VERSION: Final = "1"
