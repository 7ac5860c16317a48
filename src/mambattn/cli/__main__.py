"""``python -m mambattn.cli`` is the command ``mambattn``."""

from mambattn.cli import main

main(prog_name="mambattn")
