"""Shared vocabulary of Homespun: types, settings, prompts, storage. Imports the standard library only."""

__version__ = "0.1.0"
