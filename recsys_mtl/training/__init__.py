"""Training: sharding, optimisers, the step, the loop."""
