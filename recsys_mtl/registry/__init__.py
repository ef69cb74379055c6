"""Bundles in the MLflow registry: numbered versions, aliases that point at them, and copies on local disk."""

from recsys_mtl.registry.alias import AliasMove, alias_moves, aliases, set_alias, way_back
from recsys_mtl.registry.copies import Fetched, copy_of, discard, discard_old, fetch
from recsys_mtl.registry.entries import BUNDLE, RegistryConfig, register
from recsys_mtl.registry.places import BundlePlace, describe
from recsys_mtl.registry.versions import Version, annotate, describe_version, version_of_run, versions

__all__ = [
    "BUNDLE",
    "AliasMove",
    "BundlePlace",
    "Fetched",
    "RegistryConfig",
    "Version",
    "alias_moves",
    "aliases",
    "annotate",
    "copy_of",
    "describe",
    "describe_version",
    "discard",
    "discard_old",
    "fetch",
    "register",
    "set_alias",
    "version_of_run",
    "versions",
    "way_back",
]
