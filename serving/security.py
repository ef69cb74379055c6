"""What the API's description says of keys."""

from typing import Any

from fastapi import FastAPI

from serving.gate import SCOPES

SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer KEY`."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same in another header."},
}


def describe_keys(app: FastAPI) -> None:
    """Let `/openapi.json` say which endpoints need a key, and `/docs` ask for it."""
    generate = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = generate()
            schema["components"]["securitySchemes"] = SCHEMES
            for path, operations in schema["paths"].items():
                for operation in operations.values():
                    operation["security"] = [{name: []} for name in SCHEMES] if SCOPES[path] else []
        return generate()

    app.openapi = described  # type: ignore[method-assign]  # FastAPI's own way to change the description
