"""The ranking service for minutes under load, while everything around it changes, breaks and comes back."""
