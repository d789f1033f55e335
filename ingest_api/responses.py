"""JSON answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel
from starlette.responses import Response


def json_response(model: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A model as JSON."""
    return Response(model.model_dump_json(), status, dict(headers or {}), "application/json")


def json_value_response(value: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Response:
    """A JSON value as it is."""
    return Response(orjson.dumps(value), status, dict(headers), "application/json")
