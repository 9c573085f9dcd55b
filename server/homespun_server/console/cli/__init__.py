"""What the console shows, as commands."""
