"""A training run or an evaluation as one self-contained HTML file."""

from homespun_trainer.page.page import PAGE, render, write

__all__ = ["PAGE", "render", "write"]
