"""Parts of the chart's values that occur more than once, most of them as Kubernetes spells them."""

from typing import Annotated, Any

from pydantic import Field

from recsys_mtl.config import Config

Object = dict[str, Any]
"""A piece of a manifest; what may be in it, Kubernetes says."""
Quantity = str | int | float
PlainText = Annotated[str, Field(pattern=r"^[^']*$")]
"""An argument of a command that a shell reads: quotes would end it."""


class Image(Config):
    """One of our images, in a registry of yours."""

    repository: Annotated[str, Field(min_length=1)]
    tag: str
    """Empty is the chart's ``appVersion``."""
    digest: Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64})?$")]
    """Goes before the tag: what runs is then what was checked."""


class SecretKey(Config):
    """A value in a Secret of yours. The chart makes no Secrets and takes no passwords."""

    secretName: str
    secretKey: Annotated[str, Field(min_length=1)]


class Resources(Config):
    """What containers ask for, and what they may take."""

    requests: Annotated[dict[str, Quantity], Field(json_schema_extra={"required": ["cpu", "memory"]})]
    limits: Annotated[dict[str, Quantity], Field(json_schema_extra={"required": ["memory"]})]


class Placement(Config):
    """On which nodes pods may be, and what of them they take."""

    resources: Resources
    nodeSelector: dict[str, str]
    tolerations: list[Object]
    affinity: Object


class ServiceAccount(Config):
    """Who the pods are, for a cloud that gives roles to service accounts."""

    annotations: dict[str, str]


class Pod(Placement):
    """Pods of a Deployment."""

    podAnnotations: dict[str, str]
    priorityClassName: str
    serviceAccount: ServiceAccount


class Ingress(Config):
    """An address outside of the cluster."""

    enabled: bool
    className: str
    annotations: dict[str, str]
    host: str
    tlsSecret: str
    """Secret with the certificate of ``host``; empty: no TLS here."""
    paths: list[str]
    """Prefixes of what is reachable from outside."""
