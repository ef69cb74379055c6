"""From raw values to batches: feature schema, encoder, shards, reader."""
