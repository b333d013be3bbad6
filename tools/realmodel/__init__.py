"""A real model's attention inputs, for `xq compare`: files in, activations out. See docs/models.md."""


class InputError(Exception):
    """Something given to the tool is wrong. The message is one line: what, and what would be valid."""
