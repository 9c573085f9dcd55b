"""What every page for a browser has in common: a layout, a stylesheet, and headers under which nothing else runs."""
