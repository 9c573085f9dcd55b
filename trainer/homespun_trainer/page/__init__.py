"""A training run or an evaluation as one self-contained HTML file."""

from homespun_trainer.page.page import PAGE, file, render, write

__all__ = ["PAGE", "file", "render", "write"]
