"""The Helm chart, what its values may be, and where ``helm`` comes from."""
