"""The feature store: what is known of users and items, for requests that bring no more than their ids."""
