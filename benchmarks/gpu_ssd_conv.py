"""Check and time the GPU kernels of ssd, causal_conv1d and the one-token steps: python benchmarks/gpu_ssd_conv.py.

Every op is first compared with its definition in float64, outputs and all gradients, then timed at the shapes of
mamba-ssm's figures on an H200 (medians), whole and kernel by kernel. --check or --time does one part alone, --json FILE
keeps the times.
"""

import argparse
import json
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from triton.testing import do_bench, do_bench_cudagraph

from mambattn.ops import causal_conv1d, causal_conv1d_step, selective_scan_step, ssd, ssd_step

LIMITS = {torch.float32: 3e-6, torch.bfloat16: 1e-2}
# (batch, seq_len, n_heads), d_head 64, d_state 128: ms of mamba_chunk_scan_combined, forward and forward + backward
PEERS = {(8, 2048, 24): (0.748, 3.754), (1, 32768, 32): (0.664, 4.900), (32, 2048, 32): (1.231, 5.246)}
CONVS = [(8, 2048, 1792), (1, 32768, 2304), (32, 2048, 2304)]  # x, B and C of those shapes


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, device="cuda", dtype=torch.float32).to(dtype)


def ssd_inputs(
    batch: int,
    seq_len: int,
    heads: int,
    groups: int,
    d_head: int,
    d_state: int,
    dtype: torch.dtype,
    *,
    everything: bool,
) -> dict[str, Tensor]:
    """Draw inputs as a Mamba-2 layer makes them; the gate and the initial state are for the check alone."""
    tensors = {
        "x": draw(batch, seq_len, heads, d_head, dtype=dtype),
        "dt": draw(batch, seq_len, heads, dtype=dtype),
        "A": -(1 + 15 * torch.rand(heads, device="cuda")),
        "B": draw(batch, seq_len, groups, d_state, dtype=dtype),
        "C": draw(batch, seq_len, groups, d_state, dtype=dtype),
        "D": torch.ones(heads, device="cuda"),
        "dt_bias": torch.linspace(-6.9, -2.3, heads, device="cuda"),
    }
    if everything:
        tensors["z"] = draw(batch, seq_len, heads, d_head, dtype=dtype)
        tensors["initial_state"] = draw(batch, heads, d_head, d_state)
    return tensors


def conv_inputs(batch: int, seq_len: int, d_inner: int, dtype: torch.dtype, *, everything: bool) -> dict[str, Tensor]:
    tensors = {"x": draw(batch, seq_len, d_inner, dtype=dtype), "weight": draw(d_inner, 4), "bias": draw(d_inner)}
    return tensors | ({"initial_state": draw(batch, 3, d_inner, dtype=dtype)} if everything else {})


def run(
    op: Callable[..., tuple[Tensor, Tensor]], tensors: dict[str, Tensor], backend: str, **options
) -> dict[str, Tensor]:
    """Give both outputs and the gradient of every tensor under a fixed random functional."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in tensors.items()}
    y, state = op(**leaves, **options, return_final_state=True, backend=backend)
    generator = torch.Generator("cuda").manual_seed(1)
    weights = [torch.randn(out.shape, generator=generator, device="cuda").to(out.dtype) for out in (y, state)]
    grads = torch.autograd.grad((y, state), list(leaves.values()), weights)
    return {"y": y.detach(), "state": state.detach()} | dict(zip(leaves, grads, strict=True))


def error(got: Tensor, want: Tensor) -> float:
    return ((got.double() - want).norm() / want.norm().clamp_min(1e-30)).item()


def check(name: str, op: Callable, tensors: dict[str, Tensor], limit: float, **options) -> None:
    got, again, plain = (run(op, tensors, backend, **options) for backend in ("triton", "triton", "torch"))
    truth = run(op, {key: tensor.double() for key, tensor in tensors.items()}, "reference", **options)
    errors = {key: (error(got[key], want), error(plain[key], want)) for key, want in truth.items()}
    off = {key: pair for key, pair in errors.items() if not pair[0] <= max(limit, 2 * pair[1])}
    same = all(torch.equal(got[key], again[key]) for key in got)
    worst = max(errors, key=lambda key: errors[key][0])
    print(
        f"{'ok  ' if same and not off else 'OFF '}{name:58s} worst {worst} {errors[worst][0]:.1e} "
        f"(torch {errors[worst][1]:.1e}){'' if same else ', two runs differ'}"
        + "".join(f", {key} {mine:.1e} (torch {theirs:.1e})" for key, (mine, theirs) in off.items())
    )


def check_all() -> None:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives with NaN
    for dtype, limit in LIMITS.items():
        short = str(dtype).removeprefix("torch.")
        for seq_len in (1, 2, 63, 257, 4096):
            packed = (torch.rand(2, seq_len, device="cuda") < 0.05).cumsum(1) % 2
            for seq_idx in (None, packed):
                kind = "packed" if seq_idx is not None else ""
                for sizes in ((3, 1, 64, 128), (4, 2, 24, 20)):
                    inputs = ssd_inputs(2, seq_len, *sizes, dtype, everything=True)
                    check(
                        f"ssd {short} 2 x {seq_len} {sizes} {kind}",
                        ssd,
                        inputs,
                        limit,
                        dt_softplus=True,
                        seq_idx=seq_idx,
                    )
                for d_inner in (256, 77):
                    inputs = conv_inputs(2, seq_len, d_inner, dtype, everything=True)
                    options = {"activation": "silu", "seq_idx": seq_idx}
                    check(f"conv {short} 2 x {seq_len} x {d_inner} {kind}", causal_conv1d, inputs, limit, **options)
        for sizes in ((2, 2, 200, 256), (2, 1, 1, 1)):
            inputs = ssd_inputs(2, 300, *sizes, dtype, everything=True)
            check(f"ssd {short} 2 x 300 {sizes}", ssd, inputs, limit, dt_softplus=True)
        strong = ssd_inputs(2, 1000, 4, 1, 64, 64, dtype, everything=True)
        strong["A"], strong["dt_bias"] = -torch.tensor([1e-4, 1.0, 100.0, 2000.0], device="cuda"), torch.zeros(4).cuda()
        check(f"ssd {short} strong decay", ssd, strong, limit, dt_softplus=True)
    torch.use_deterministic_algorithms(False)


def kernels_of(call: Callable[[], object]) -> Iterator[tuple[str, float]]:
    """Give the names and the mean milliseconds of the kernels that a call launches."""
    call()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(5):
            call()
        torch.cuda.synchronize()
    for event in sorted(profiled.key_averages(), key=lambda event: -event.self_device_time_total):
        if event.self_device_time_total > 5:
            yield event.key, event.self_device_time_total / 5000


def times(
    op: Callable[..., Tensor], tensors: dict[str, Tensor], **options
) -> tuple[dict[str, float], Callable[[], object]]:
    """Give ms of the forward without gradients and of forward + backward, and the latter as a call.

    A graph leaves out Python and the launches, which weigh more than the kernels where these take under a millisecond.
    """
    leaves = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    weight = torch.randn_like(op(**leaves, **options))

    def both() -> object:
        return torch.autograd.grad(op(**leaves, **options), list(leaves.values()), weight)

    with torch.no_grad():
        forward = do_bench(lambda: op(**leaves, **options), return_mode="median")
        forward_graph = do_bench_cudagraph(lambda: op(**leaves, **options), return_mode="median")
    ms = {"forward_ms": forward, "total_ms": do_bench(both, return_mode="median")}
    graphs = {"forward_graph_ms": forward_graph, "total_graph_ms": do_bench_cudagraph(both, return_mode="median")}
    return ms | graphs, both


def line_of(ms: dict[str, float]) -> str:
    return "{forward_ms:.3f} / {total_ms:.3f}, as graphs {forward_graph_ms:.3f} / {total_graph_ms:.3f}".format(**ms)


def time_all() -> list[dict]:
    rows = []
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}; median ms, forward / forward + backward")
    for (batch, seq_len, heads), peer in PEERS.items():
        for dtype in (torch.bfloat16, torch.float32):
            inputs = ssd_inputs(batch, seq_len, heads, 1, 64, 128, dtype, everything=False)
            ms, call = times(ssd, inputs, dt_softplus=True, backend="triton")
            short = str(dtype).removeprefix("torch.")
            row = {"op": "ssd", "sizes": [batch, seq_len, heads, 64, 128], "dtype": short} | ms
            line = f"ssd {(batch, seq_len, heads)} {short}: {line_of(ms)}"
            if dtype == torch.bfloat16:
                ratios = peer[0] / ms["forward_graph_ms"], peer[1] / ms["total_graph_ms"]
                row |= {"peer_forward_ms": peer[0], "peer_total_ms": peer[1]}
                line += f", mamba_chunk_scan_combined {peer[0]} / {peer[1]}"
                line += f", ratio {ratios[0]:.2f} / {ratios[1]:.2f} (1.5 wanted)"
            else:
                torch_ms, _ = times(ssd, inputs, dt_softplus=True, backend="torch")
                row |= {f"torch_{name}": value for name, value in torch_ms.items()}
                line += f"; torch backend {line_of(torch_ms)}"
            rows.append(row)
            print(line)
            for name, ms in kernels_of(call):
                print(f"    {ms:8.3f}  {name[:90]}")
    for shape in CONVS:
        for dtype in (torch.bfloat16, torch.float32):
            inputs = conv_inputs(*shape, dtype, everything=False)
            ms, call = times(causal_conv1d, inputs, activation="silu", backend="triton")
            moved = inputs["x"].nbytes / 1e9
            forward, backward = ms["forward_graph_ms"], ms["total_graph_ms"] - ms["forward_graph_ms"]
            short = str(dtype).removeprefix("torch.")
            rows.append({"op": "causal_conv1d", "sizes": list(shape), "dtype": short} | ms)
            print(
                f"conv {shape} {short}: {line_of(ms)}, "
                f"{2 * moved / forward:.2f} TB/s forward, {3 * moved / backward:.2f} TB/s backward"
            )
            for name, ms in kernels_of(call):
                print(f"    {ms:8.3f}  {name[:90]}")
    for batch in (1, 64, 1024):
        time_steps(batch)
    return rows


@torch.no_grad()
def time_steps(batch: int) -> None:
    half = {"dtype": torch.bfloat16}
    x, z = (draw(batch, 24, 64, **half) for _ in range(2))
    B, C = (draw(batch, 1, 128, **half) for _ in range(2))
    dt, bias, D = draw(batch, 24, **half), draw(24), draw(24)
    state, conv_state = draw(batch, 24, 64, 128), draw(batch, 3, 1792, **half)
    u, weight = draw(batch, 1792, **half), draw(1792, 4)
    scan = (x.flatten(1), z.flatten(1), -draw(1536, 16).exp(), B[..., :16], C[..., :16], draw(1536))
    scan_state = draw(batch, 1536, 16)
    calls = {
        "ssd_step": lambda backend: ssd_step(
            x, dt, D, B, C, D, state=state, z=z, dt_bias=bias, dt_softplus=True, backend=backend
        ),
        "selective_scan_step": lambda backend: selective_scan_step(
            *scan, state=scan_state, z=scan[0], dt_softplus=True, backend=backend
        ),
        "causal_conv1d_step": lambda backend: causal_conv1d_step(
            u, weight, state=conv_state, activation="silu", backend=backend
        ),
    }
    for name, call in calls.items():
        ms = {
            backend: do_bench(lambda f=call, b=backend: f(b), return_mode="median") for backend in ("triton", "torch")
        }
        print(f"{name} batch {batch}: {ms['triton'] * 1e3:.1f} µs, torch {ms['torch'] * 1e3:.1f} µs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--json")
    chosen = parser.parse_args()
    if chosen.check or not chosen.time:
        check_all()
    if chosen.time or not chosen.check:
        rows = time_all()
        if chosen.json:
            machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}
            with open(chosen.json, "w") as file:
                json.dump({"machine": machine, "how": __doc__, "rows": rows}, file, indent=1)
