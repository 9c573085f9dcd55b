"""`homespun eval`: what each layer adds, on any repository."""
