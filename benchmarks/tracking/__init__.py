"""MLflow as people use it: how fast it takes a run's points, and what a browser shows of runs and versions."""
