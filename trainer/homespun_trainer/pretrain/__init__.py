"""Making the built-in base model: permissive repositories -> text -> samples -> training -> a Hugging Face directory.

Every step reads what the one before it published and can be run again: what is there already is kept.
"""
