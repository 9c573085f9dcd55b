"""The doors: pages for browsers, OAuth's endpoints for editors, SCIM for the identity provider."""
