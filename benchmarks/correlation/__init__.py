"""The synthetic experiment of the MMoE paper: how much sharing hurts as two tasks have less to do with each other."""
