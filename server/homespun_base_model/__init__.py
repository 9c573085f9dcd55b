"""The built-in base model: data only. MODEL_CARD.md says what it is, how it was trained and how weak it is."""

from pathlib import Path

PATH = Path(__file__).resolve().parent
"""A Hugging Face model directory: config, tokenizer and safetensors."""
