"""Programs: prepare, train, evaluate, compare, promote, and the command line over them."""
