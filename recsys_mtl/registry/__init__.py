"""Bundles in the MLflow registry: numbered versions, aliases that point at them, and copies on local disk."""

from recsys_mtl.registry.alias import AliasMove, alias_moves, aliases, set_alias
from recsys_mtl.registry.copies import Fetched, copy_of, discard, discard_old, fetch
from recsys_mtl.registry.entries import BUNDLE, RegistryConfig, register
from recsys_mtl.registry.places import BundlePlace, describe

__all__ = [
    "BUNDLE",
    "AliasMove",
    "BundlePlace",
    "Fetched",
    "RegistryConfig",
    "alias_moves",
    "aliases",
    "copy_of",
    "describe",
    "discard",
    "discard_old",
    "fetch",
    "register",
    "set_alias",
]
