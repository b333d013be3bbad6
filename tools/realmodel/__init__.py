"""Real models: files in, Hugging Face directories and activations out. See docs/models.md."""


class InputError(Exception):
    """Something given to the tool is wrong. The message is one line: what, and what would be valid."""
