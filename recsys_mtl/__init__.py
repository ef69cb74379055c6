"""Multi-task ranking models on sharded embedding tables: the library."""
