"""Rubrics to Tokens: rubric-based reinforcement learning with token-level credit."""

__version__ = "0.1.0"
