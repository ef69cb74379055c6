"""The gate: who may ask for what, decided before anything of a request's body is read."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import keys
from serving.errors import answer, problem
from serving.keyring import Keyring
from serving.request_log import note_of

OPEN: frozenset[keys.Scope] = frozenset()
SCOPES: Mapping[str, frozenset[keys.Scope]] = {
    "/v1/rank": frozenset({"rank"}),
    "/v1/score": frozenset({"rank"}),
    "/v1/events": frozenset({"rank"}),
    "/v1/models": frozenset({"rank", "admin"}),
    "/v1/traffic": frozenset({"admin"}),
    "/healthz": OPEN,
    "/readyz": OPEN,
    "/metrics": OPEN,
    "/docs": OPEN,
    "/openapi.json": OPEN,
}
"""By path, the scopes of which a key needs one. What is not listed needs ``admin``: a path that is written in another
way than its route can so never need less than the route."""
OTHERS: frozenset[keys.Scope] = frozenset({"admin"})
METRICS: frozenset[keys.Scope] = frozenset({"metrics", "admin"})

CHALLENGE = 'Bearer realm="recsys-mtl"'


class Gate:
    """Pure ASGI, around everything that reads bodies."""

    def __init__(self, app: ASGIApp, keyring: Keyring, registry: CollectorRegistry, *, protect_metrics: bool) -> None:
        self.app, self.keyring = app, keyring
        self.scopes = {**SCOPES, "/metrics": METRICS} if protect_metrics else SCOPES
        self.count = Counter(
            "recsys_key_requests", "Requests by the name of their API key.", ("key",), registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through that is allowed to be here."""
        needed = self.scopes.get(scope["path"], OTHERS) if scope["type"] == "http" else OPEN
        if not needed:
            await self.app(scope, receive, send)
            return
        secret = secret_of(Headers(scope=scope))
        key = None if secret is None else keys.find(secret, self.keyring.now())
        if key is not None:
            note_of(scope).key = key.name
            self.count.labels(key.name).inc()
        if key is not None and needed & key.scopes:
            await self.app(scope, receive, send)
        else:
            await refusal(key, needed, is_given=secret is not None)(scope, receive, send)


def secret_of(headers: Headers) -> bytes | None:
    """Return the key that a request brings: as a bearer's, or in a header of its own."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    given = token.strip() if kind.lower() == "bearer" else ""
    return (given or headers.get("x-api-key", "").strip()).encode("latin-1") or None


def refusal(key: keys.Key | None, needed: frozenset[keys.Scope], *, is_given: bool) -> ASGIApp:
    """Say what is missing; a body that is on its way is not waited for."""
    headers = {"Connection": "close"}
    if key is not None:
        words = " or ".join(sorted(needed))
        headers["WWW-Authenticate"] = f'{CHALLENGE}, error="insufficient_scope", scope="{" ".join(sorted(needed))}"'
        return answer(403, [problem((), f"the key {key.name!r} lacks the scope {words}", "forbidden")], headers)
    headers["WWW-Authenticate"] = f'{CHALLENGE}, error="invalid_token"' if is_given else CHALLENGE
    message = "the API key is not valid" if is_given else "an API key is needed: Authorization: Bearer KEY"
    return answer(401, [problem((), message, "unauthorized")], headers)
