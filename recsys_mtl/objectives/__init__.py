"""Objectives: logits and labels to a loss."""
