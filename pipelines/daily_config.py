"""What a day's pipeline does around the training: where its rows come from, who judges it, who hears of it."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from pipelines.policy import Policy
from pipelines.prepare.table_config import as_list
from recsys_mtl.config import Config, read_yaml

DAY = "{day}"
State = Literal["promote", "keep", "reject", "failed"]
Texts = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_list), Field(min_length=1)]


class PrepareConfig(Config):
    """Where the rows of new days come from; without it somebody else prepares them."""

    schema_file: Annotated[str, Field(min_length=1)]
    """Schema of the table, as for ``recsys-mtl prepare table``."""
    source: Texts
    """Files or patterns; ``{day}`` stands for the day as ``YYYY-MM-DD``."""
    ready: Annotated[str, Field(min_length=1)] | None = None
    """File that says that a day's files are whole, such as ``logs/{day}/_SUCCESS``."""
    hold_out: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Share of a day's users whose rows are not learnt, but judged by."""

    @model_validator(mode="after")
    def _names_the_day(self) -> Self:
        named = {"source": self.source, "ready": () if self.ready is None else (self.ready,)}
        if lacking := [key for key, texts in named.items() if any(DAY not in text for text in texts)]:
            raise ValueError(f"{' and '.join(lacking)}: every text has to name the day as {DAY}")
        return self


def _as_policy(value: Any) -> Any:
    return read_yaml(Path(value)) if isinstance(value, str) else value


class JudgeConfig(Config):
    """How a day's version is judged, and what the next day goes on from."""

    policy: Annotated[Policy, BeforeValidator(_as_policy, json_schema_input_type=str | Policy)] = Policy()
    """A mapping, or a YAML file that holds one."""
    days: PositiveInt = 3
    """Held-out rows of so many days, the day itself among them; days whose version was rejected do not count, and the
    validation rows of the base are a day. A day with wrong labels is found out by the days before it."""
    go_on_from: Literal["accepted", "champion", "newest"] = "accepted"
    """Where the next day begins: with the newest version that was neither rejected nor rolled back from, and does not
    come from one that was; with the champion, so that what was not promoted is forgotten; or with the newest, whatever
    was said of it."""


class PublishStep(Config):
    """Where the newest values of users and items go."""

    to: Annotated[str, Field(min_length=1)]
    """``parquet:DIRECTORY``, ``parquet:s3://...`` or ``redis://HOST:PORT/DB``."""


class NotifyConfig(Config):
    """Who is told how a day went."""

    url: Annotated[str, Field(pattern=r"^(https?://|\$[A-Za-z_]\w*$)")] | None = None
    """Gets a POST with a JSON body. ``$NAME`` takes the address from the environment: it is often a secret."""
    command: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Program and arguments; gets the same JSON on its standard input."""
    when: Annotated[tuple[State, ...], Field(min_length=1)] = ("promote", "keep", "reject", "failed")
    """Which ends of a day are told: verdicts ``promote``, ``keep`` and ``reject``, and ``failed``, a broken step."""
    timeout_s: PositiveFloat = 10.0
    """Seconds that the address, and the program, may take."""

    @model_validator(mode="after")
    def _tells_someone(self) -> Self:
        if self.url is None and self.command is None:
            raise ValueError("tells nobody: give url or command")
        return self


class Pipeline(Config):
    """The steps of a day besides its training."""

    prepare: PrepareConfig | None = None
    judge: JudgeConfig = JudgeConfig()
    publish: PublishStep | None = None
    notify: NotifyConfig | None = None

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of all steps, in order."""
        optional = {"prepare": self.prepare, "publish": self.publish, "notify": self.notify}
        every = ("prepare", "train", "judge", "publish", "notify")
        return tuple(name for name in every if optional.get(name, self) is not None)
