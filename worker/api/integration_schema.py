"""What the OpenAPI document says of integrations beyond what types tell: config by kind, JSON Patch, the gate."""

from __future__ import annotations

from typing import Any, Final

from worker.api.integration_config import REGIONS
from worker.api.json_patch import MOST_OPERATIONS

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string", "maxLength": 1024}
_WORD: Final[Schema] = {**_TEXT, "pattern": r"^\S*$"}
_TRUTH: Final[Schema] = {"type": "boolean"}
_HOST: Final[Schema] = {
    "type": "string",
    "pattern": r"^([A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+)$",
    "maxLength": 253,
}
_PORT: Final = r"^([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$"


def _said(schema: Schema, description: str, **more: Any) -> Schema:
    return {**schema, "description": description, **more}


def _config(title: str, required: list[str], properties: Schema) -> Schema:
    # Null is as good as absent, which the document leaves unsaid: whoever generates code from it is better off so.
    return {
        "title": title,
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


REDIS: Final = _config(
    "RedisConfig",
    ["host"],
    {
        "host": _said(_HOST, "Name or address; in place of it, unixSocket"),
        "port": {
            "anyOf": [
                {"type": "string", "pattern": _PORT},
                {"type": "integer", "minimum": 1, "maximum": 65535},
            ],
            "description": "Answered as a string",
            "default": "6379",
        },
        "username": {**_TEXT, "default": ""},
        "password": _said(_TEXT, "Masked in every answer; a mask that is sent back keeps it", default=""),
        "tlsEnabled": {**_TRUTH, "default": False},
        "prefix": _said(_WORD, "Of the store's keys, as your SDKs have it", default="launchdarkly"),
        "database": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0},
        "mode": _said(
            {"type": "string", "enum": ["standalone", "cluster", "sentinel"]},
            "A cluster has database 0 alone; sentinels want service",
            default="standalone",
        ),
        "nodes": _said({"type": "array", "items": _TEXT}, "Further addresses of a cluster or of sentinels, host:port"),
        "service": _said(_TEXT, "What sentinels call the primary"),
        "unixSocket": _said(_TEXT, "Path of a socket, in place of host and port"),
        "sentinelUsername": _TEXT,
        "sentinelPassword": _said(_TEXT, "Masked, as password is"),
        "tlsCaFile": _said(_TEXT, "PEM file on every machine that writes"),
        "tlsCertFile": _TEXT,
        "tlsKeyFile": _TEXT,
        "tlsCheckHostname": {**_TRUTH, "default": True},
    },
)
DYNAMODB: Final = _config(
    "DynamoDBConfig",
    ["tableName", "region", "roleArn"],
    {
        "tableName": {"type": "string", "pattern": r"^[A-Za-z0-9_.:/-]{1,1024}$"},
        "region": {"type": "string", "enum": list(REGIONS)},
        "roleArn": {
            "type": "string",
            "pattern": r"^(arn:[a-z0-9-]+:iam::[0-9]{12}:role/[!-~]{1,512})?$",
            "description": "A role to assume; empty: segsync's own credentials",
        },
        "externalId": {
            "type": "string",
            "pattern": r"^[A-Za-z0-9_+=,.@:/-]{2,1224}$",
            "description": "What the role asks for; made when it is left out",
        },
        "prefix": _said(_WORD, "Of the table's items, as your SDKs have it", default=""),
        "endpoint": _said(_TEXT, "Another than AWS's: http://host[:port] or https://host[:port]"),
        "writeMode": _said(
            {"type": "string", "enum": ["update", "transact"]},
            "A write unit for each member, or two for far less of our CPU",
            default="update",
        ),
    },
)
CONFIG: Final[Schema] = {"anyOf": [REDIS, DYNAMODB], "description": "By the kind of store"}

# As RFC 6902 has it; FastAPI's own checks would lose the difference between a null and nothing.
PATCH: Final[Schema] = {
    "title": "JSONPatch",
    "type": "array",
    "maxItems": MOST_OPERATIONS,
    "items": {
        "title": "PatchOperation",
        "type": "object",
        "required": ["op", "path"],
        "properties": {
            "op": {"type": "string", "enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": _said(_TEXT, "JSON pointer (RFC 6901)", examples=["/name"]),
            "from": _said(_TEXT, "JSON pointer, of move and copy"),
            "value": {"description": "Of add, replace and test"},
        },
    },
}

# Of routes behind the gate. Other values may stand beside it, as ``worker.api.access`` says.
BETA: Final[Schema] = {
    "parameters": [
        {
            "name": "LD-API-Version",
            "in": "header",
            "required": True,
            "description": "This resource is in beta",
            "schema": {"type": "string", "enum": ["beta"]},
        }
    ]
}
