"""What the models are worth: the same data, inputs, sizes and search for every one, and a report of all of it."""
