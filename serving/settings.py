"""Settings of the ranking service, from the environment; those of the model come with its bundle."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from recsys_mtl.config import ConfigError, describe
from recsys_mtl.storage.stores import is_address
from recsys_mtl.tracking import TrackingConfig
from serving.store.address import read_address

PREFIX = "RECSYS_MTL_"
REMOTE = ("models:", "runs:")


class Settings(BaseSettings):
    """Every field is read from the variable of its name in capitals behind ``RECSYS_MTL_``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    model: Annotated[str, Field(min_length=1)] = "models:/recsys-mtl@champion"
    """What to serve: ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, ``runs:/RUN/bundle`` or a bundle's directory,
    in an object store, too: ``s3://BUCKET/DIRECTORY``."""
    tracking_uri: Annotated[str, Field(min_length=1)] = TrackingConfig().uri
    """The MLflow server or database that ``models:/`` and ``runs:/`` are looked up in."""
    cache_dir: Path = Path("~/.cache/recsys-mtl")
    """Where bundles from the registry are kept."""
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

    @field_validator("store")
    @classmethod
    def _is_a_store(cls, address: str | None) -> str | None:
        if address is not None:
            read_address(address)
        return address

    @field_validator("cache_dir")
    @classmethod
    def _home(cls, path: Path) -> Path:
        return path.expanduser()

    @field_validator("port", mode="before")
    @classmethod
    def _not_a_service_link(cls, value: Any) -> Any:
        # Kubernetes sets RECSYS_MTL_PORT=tcp://10.0.0.1:8000 in every pod beside a Service called recsys-mtl.
        return cls.model_fields["port"].default if isinstance(value, str) and value.startswith("tcp://") else value


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


def check_address(model: str) -> None:
    """Find what is wrong with the address of a local bundle at once, before a server is started for it.

    Raises:
        ConfigError: there is no bundle.
    """
    remote = model.startswith(REMOTE) or is_address(model)  # those may come to be while the server runs
    if not remote and not (Path(model) / "model.yaml").is_file():
        raise ConfigError([f"model: {model!r} is not a bundle's directory: it has no model.yaml"])
