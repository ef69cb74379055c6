"""An earlier model on later data: what grew since is unknown to it, and all the rest is as it was."""

from dataclasses import replace

import torch

from recsys_mtl.bundle import Bundle
from recsys_mtl.config import ConfigError
from recsys_mtl.data.encode import Encoder
from recsys_mtl.data.growth import growth_differences
from recsys_mtl.inference.engine import table_name
from recsys_mtl.training.warm_start import row_sources


def grown(bundle: Bundle, encoder: Encoder) -> Bundle:
    """Let a model read data whose encoding is its own, or has grown from it.

    Each value that it does not know gets a copy of its table's unknown row, which is what the value is to it.

    Raises:
        ConfigError: the encoding is another one.
    """
    mine, wanted = bundle.encoder.spec.fingerprint, encoder.spec.fingerprint
    if mine == wanted:
        return bundle
    if difference := next(growth_differences(bundle.encoder, encoder), None):
        raise ConfigError([f"{mine}, which the data do not continue: {difference}"])
    sources = row_sources(bundle.encoder, encoder)
    tables = {
        name: table[torch.from_numpy(sources[table_name(name)])] if table_name(name) in sources else table
        for name, table in bundle.tables.items()
    }
    manifest = bundle.manifest.model_copy(update={"fingerprint": wanted})
    return replace(bundle, manifest=manifest, encoder=encoder, tables=tables)
