"""A schedule of layers as one module: every layer a norm, a mixer and a residual."""

from mambattn.stack.block import Block
from mambattn.stack.describe import LayerDescription, StackDescription
from mambattn.stack.layers import make_mixer
from mambattn.stack.stack import Stack

__all__ = ["Block", "LayerDescription", "Stack", "StackDescription", "make_mixer"]
