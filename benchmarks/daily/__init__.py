"""Going on from yesterday's model against training anew on everything: quality of each day's predictions, and cost."""
