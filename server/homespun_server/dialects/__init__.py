"""The wire formats that clients speak: JSON bodies to requests, completions to JSON. Pure; no HTTP.

    fields      reading a body: every mistake is named, no value is repeated
    templates   prompts that a client put together for a model, taken apart again
    calls       what one call of any dialect is, and how it is answered
    openai, mistral, tabby, llama_cpp, ollama, tgi    a dialect each
    refusals    errors, with the fields that each dialect's clients read
    schemas     the same in JSON Schema, for /openapi.json

Unknown fields are left alone, since real clients send more than any of these documents.
"""

from homespun_server.dialects.fields import BadRequestError, parse_body
from homespun_server.dialects.refusals import error_body

__all__ = ["BadRequestError", "error_body", "parse_body"]
