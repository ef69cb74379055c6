"""Settings of the ranking service, from the environment; those of the model come with its bundle."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from recsys_mtl.config import ConfigError, describe
from recsys_mtl.storage.stores import is_address
from recsys_mtl.tracking import TrackingConfig
from serving.keys import read_keys, split_keys
from serving.logs import LogFormat
from serving.store.address import read_address

PREFIX = "RECSYS_MTL_"
REMOTE = ("models:", "runs:")

DRAIN_SECONDS = 30
"""How long a stop waits for requests in flight."""

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Role = Literal["champion", "challenger", "pinned"]
"""What a model is there for: the champion answers, the challenger wants to, a pinned one is there to be asked."""


class Settings(BaseSettings):
    """Every field is read from the variable of its name in capitals behind ``RECSYS_MTL_``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    model: Annotated[str, Field(min_length=1)] = "models:/recsys-mtl@champion"
    """What to serve: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``runs:/RUN/bundle`` or a bundle's directory,
    in an object store, too: ``s3://BUCKET/DIRECTORY``."""
    challenger: Annotated[str, Field(min_length=1)] | None = None
    """A second model, such as ``models:/recsys-mtl@challenger``: for a share of the users, for shadow scoring, and for
    requests that ask for it."""
    pinned: Annotated[tuple[str, ...], NoDecode] = ()
    """More models, separated by blanks or commas, for requests that ask for them by version."""
    challenger_percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0.0
    """Share of the users whom the challenger answers, until ``PUT /v1/traffic`` changes it."""
    shadow: bool = False
    """Whether the challenger scores, unseen, what the champion answers, until ``PUT /v1/traffic`` changes it."""
    shadow_queue: PositiveInt = 64
    """Requests that may wait for shadow scoring; further ones are left out, and counted."""
    poll_seconds: PositiveFloat = 15.0
    """How often the registry is asked where an alias points."""
    workers: PositiveInt = 1
    """Processes that answer, each with scoring threads of its own."""
    supervise: bool = False
    """Whether even a single worker gets a supervisor, which starts it again when it dies; several always have one."""
    tracking_uri: Annotated[str, Field(min_length=1)] = TrackingConfig().uri
    """The MLflow server or database that ``models:/`` and ``runs:/`` are looked up in."""
    cache_dir: Path = Path("~/.cache/recsys-mtl")
    """Where bundles from the registry are kept."""
    cache_versions: PositiveInt = 5
    """Versions of each model that stay there, those that served last; copies in use stay, too."""
    host: str = "127.0.0.1"
    """Address to listen on; ``0.0.0.0`` for every network interface."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes any free one."""
    store: Annotated[str, Field(min_length=1)] | None = None
    """Feature store that completes requests: ``parquet:DIRECTORY`` or ``redis://HOST:PORT/DB``; none if not given."""
    store_timeout_ms: Annotated[float, Field(gt=0, le=60_000)] = 20.0
    """How long a request waits for the store; then it goes on without."""
    max_candidates: PositiveInt = 5000
    """Largest number of candidates of one request."""
    intra_op_threads: PositiveInt = 1
    """Threads that one request's matrix products are spread over. One gives the most requests per second."""
    scoring_threads: PositiveInt = 1
    """Requests that are scored at the same time; the others wait their turn."""
    score_together: Annotated[int, Field(ge=0)] = 64
    """Candidates of requests that wait for their turn anyway and are then scored at once; 0 scores each by itself."""
    max_waiting: Annotated[int, Field(ge=0)] = 128
    """Requests of a process that may wait for their turn; further ones are refused at once, with 429."""
    max_body_bytes: PositiveInt = 16 * 2**20
    """Largest body of a request."""
    request_timeout_s: PositiveFloat = 10.0
    """How long a request may take, from its first byte to the last one of its answer."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    """How long a service that is told to stop goes on answering, while ``/readyz`` sends load balancers elsewhere."""
    api_keys: Annotated[str | None, Field(repr=False)] = None
    """Who may ask: ``NAME:SCOPE[,SCOPE]:SHA256`` of each key, separated by blanks; ``recsys-mtl serve-key`` makes them.
    Without keys, here or in the file, everybody may."""
    api_keys_file: Path | None = None
    """File with more keys, one a line; it is read again when it changes."""
    protect_metrics: bool = False
    """Whether ``/metrics`` needs a key of scope ``metrics``, too."""
    drift_share: Share = 0.1
    """By how much a feature's share of unknown or missing values may differ from the test split's without an alarm."""
    log_format: LogFormat | None = None
    """``json`` or ``text``; if not given, text on a terminal and JSON elsewhere."""
    log_requests: Share = 1.0
    """Share of the requests that get a line in the log."""
    log_bodies_share: Share = 0.0
    """Share of the requests whose body goes into the log with it: what users did is in there."""

    @field_validator("api_keys")
    @classmethod
    def _are_keys(cls, keys: str | None) -> str | None:
        read_keys(split_keys(keys or ""))
        return keys

    @field_validator("protect_metrics")
    @classmethod
    def _has_keys(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("api_keys") is None and info.data.get("api_keys_file") is None:
            raise ValueError(f"there are no keys for it: set {PREFIX}API_KEYS or {PREFIX}API_KEYS_FILE, too")
        return value

    @field_validator("store")
    @classmethod
    def _is_a_store(cls, address: str | None) -> str | None:
        if address is not None:
            read_address(address)
        return address

    @field_validator("pinned", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return re.split(r"[\s,]+", value.strip(", \t\n")) if isinstance(value, str) and value.strip() else value or ()

    @field_validator("challenger_percent", "shadow")
    @classmethod
    def _has_a_challenger(cls, value: Any, info: ValidationInfo) -> Any:
        if value and info.data.get("challenger") is None:
            raise ValueError(f"there is no challenger for it: set {PREFIX}CHALLENGER, too")
        return value

    @field_validator("cache_dir")
    @classmethod
    def _home(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("port", mode="before")
    @classmethod
    def _not_a_service_link(cls, value: Any) -> Any:
        # Kubernetes sets RECSYS_MTL_PORT=tcp://10.0.0.1:8000 in every pod beside a Service called recsys-mtl.
        return cls.model_fields["port"].default if isinstance(value, str) and value.startswith("tcp://") else value

    @property
    def models(self) -> tuple[tuple[Role, str], ...]:
        """The address of every model, with its role."""
        challenger: tuple[tuple[Role, str], ...] = () if self.challenger is None else (("challenger", self.challenger),)
        return (("champion", self.model), *challenger, *(("pinned", uri) for uri in self.pinned))


def read_settings(**overrides: Any) -> Settings:
    """Read the environment; ``overrides``, such as options of a command line, go before it unless they are None.

    Raises:
        ConfigError: every setting that is wrong, by the name of its variable.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigError(PREFIX + describe({**p, "loc": (str(p["loc"][0]).upper(),)}, {}) for p in problems) from None


def check_addresses(settings: Settings) -> None:
    """Find what is wrong with the addresses of local bundles at once, before a server is started for them.

    Raises:
        ConfigError: there is no bundle at one of them.
    """
    fields = {"champion": "model", "challenger": "challenger", "pinned": "pinned"}
    problems = [
        f"{fields[role]}: {uri!r} is not a bundle's directory: it has no model.yaml"
        for role, uri in settings.models
        if not is_remote(uri) and not (Path(uri) / "model.yaml").is_file()
    ]
    if problems:
        raise ConfigError(problems)


def is_remote(uri: str) -> bool:
    """Say whether a bundle may come to be, or to be reachable, while the server runs."""
    return uri.startswith(REMOTE) or is_address(uri)
