"""The examples at the end of a command's help."""


def examples(*lines: str) -> str:
    """Return an epilog that shows lines as they are: the backspace tells the help formatter not to join them."""
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)
