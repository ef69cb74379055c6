"""The ranking service under load, beside the model's own forward pass and what else a team would serve it with."""
