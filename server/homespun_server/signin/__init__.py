"""Signing in: with the company's identity provider, with a token, and from an editor that shows a code."""
