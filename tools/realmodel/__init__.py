"""Real models: reads their files, and writes Hugging Face directories and activations. See docs/models.md."""


class InputError(Exception):
    """An input of the tool is wrong. The message is one line that says what is wrong and what would be valid."""
