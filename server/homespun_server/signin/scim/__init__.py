"""The identity provider announces people and groups, and takes them back: SCIM 2.0 (RFC 7643, 7644)."""
