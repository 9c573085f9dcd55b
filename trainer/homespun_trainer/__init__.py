"""Corpora into adapters; see ARCHITECTURE.md."""

import logging

# With the extra qlora, peft imports it, and it warns that a package is missing that would fetch kernels from a hub.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
