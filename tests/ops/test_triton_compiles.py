"""The GPU kernels compile for a GPU that is not there: the interpreter takes what the compiler refuses.

A child process, for the choice between the two is made when triton is imported. It runs the ops on CPU tensors, with
each launch replaced by a compilation of the kernel for the arguments of that launch.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mambattn.ops._triton import launch as shared
from mambattn.ops.conv import triton_backend as conv_backend
from mambattn.ops.scan import triton_backend as scan_backend, triton_step as scan_step
from mambattn.ops.ssd_scan import triton_backend as ssd_backend, triton_step as ssd_step

compiled = set()
TYPES = {
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16", torch.int32: "*i32", torch.uint8: "*u8"
}


def compile_instead(kernel, programs, *arguments, num_warps, num_stages=3, **constants):
    constants |= {n: x for n, x in zip(kernel.arg_names, arguments) if x is None or (isinstance(x, int) and x == 1)}
    signature = {
        name: "constexpr" if name in constants
        else TYPES[arguments[i].dtype] if torch.is_tensor(arguments[i]) else "i32"
        for i, name in enumerate(kernel.arg_names)
    }
    source = ASTSource(kernel, signature, constants)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    # The assembler gets these products wrong where many registers are spilled, as the parts of float32 do.
    assert constants.get("PRECISION", "ieee") == "ieee" or "wgmma" not in made.asm["ptx"], kernel.fn.__name__
    compiled.add(kernel.fn.__name__)


# Those that import the function by name before the kernels are needed.
for module in (scan_backend, scan_step, ssd_backend, ssd_step, conv_backend, shared):
    module.launch = compile_instead


def ssd(dtype, everything, d_head=64, d_state=128, seq_len=1000, heads=2):
    def new(*shape, dtype=torch.float32):
        return torch.zeros(*shape, dtype=dtype, requires_grad=True)

    x, z = (new(1, seq_len, heads, d_head, dtype=dtype) for _ in range(2))
    B, C = (new(1, seq_len, 1, d_state, dtype=dtype) for _ in range(2))
    options = new(heads), z, new(heads), new(1, heads, d_head, d_state), torch.zeros(1, seq_len, dtype=torch.int64)
    options = options if everything else [None] * 5
    y, state = ssd_backend.ssd_triton(x, new(1, seq_len, heads), new(heads), B, C, *options, True, 64, True)
    (y.sum() + state.sum()).backward()


def conv(dtype, everything):
    x, past = (torch.zeros(2, n, 70, dtype=dtype, requires_grad=True) for n in (200, 3))
    weight, bias = torch.zeros(70, 4, requires_grad=True), torch.zeros(70, requires_grad=True)
    options = (bias, past, torch.zeros(2, 200, dtype=torch.int64)) if everything else (None, None, None)
    conv_backend.causal_conv1d_triton(x, weight, *options, "silu")[0].sum().backward()


def scan(dtype, everything, seq_len=1000, d_state=16):
    def new(*shape, dtype=torch.float32):
        return torch.zeros(*shape, dtype=dtype, requires_grad=True)

    u, dt, z = (new(1, seq_len, 64, dtype=dtype) for _ in range(3))
    B, C = (new(1, seq_len, 1, d_state, dtype=dtype) for _ in range(2))
    options = new(64), z, new(64), new(1, 64, d_state), torch.zeros(1, seq_len, dtype=torch.int64)
    options = options if everything else [None] * 5
    y, state = scan_backend.selective_scan_triton(u, dt, new(64, d_state), B, C, *options, everything, False, True)
    (y.sum() + state.sum()).backward()


scan(torch.bfloat16, True)
scan(torch.float32, False, 64, 3)
for everything in (False, True):
    for dtype in (torch.bfloat16, torch.float32):
        ssd(dtype, everything)
        conv(dtype, everything)
ssd(torch.float16, False, 3, 5, 40)
ssd(torch.float32, False, 100, 200, 40)
ssd(torch.bfloat16, True, 1, 1, 1, 1)  # sizes of 1 become constants
zeros = torch.zeros
conv_backend.causal_conv1d_step_triton(zeros(2, 9), zeros(9, 4), zeros(9), zeros(2, 3, 9), "silu")
ssd_step.ssd_step_triton(
    *(zeros(2, 4, 5), zeros(2, 4), zeros(4), zeros(2, 2, 7), zeros(2, 2, 7), zeros(4), zeros(2, 4, 5), zeros(4)),
    *(zeros(2, 4, 5, 7), True),
)
scan_step.selective_scan_step_triton(
    *(zeros(2, 8), zeros(2, 8), zeros(8, 7), zeros(2, 2, 7), zeros(2, 2, 7), zeros(8), zeros(2, 8), zeros(8)),
    *(zeros(2, 8, 7), True),
)
print(*sorted(compiled))
"""


@pytest.mark.slow
def test_all_kernels_compile(tmp_path):
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    child = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [
        *("advance", "conv_backward", "conv_forward", "conv_step", "decays", "forward", "join_segments"),
        *(
            "pass_states",
            "scan_backward",
            "scan_forward",
            "state_gradients",
            "step_gradients",
            "sweep",
            "token_gradients",
        ),
    ]
