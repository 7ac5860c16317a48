"""Laws of the selective scan that hold for any inputs, drawn by Hypothesis, for the torch and the native backend."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mambattn.ops import list_backends, selective_scan, selective_scan_step

AVAILABLE = {status.backend for status in list_backends() if status.op == "selective_scan" and status.available}
PRECISIONS = [
    pytest.param(backend, dtype, tolerance, id=backend)
    for backend, dtype, tolerance in (("torch", torch.float64, 1e-12), ("native", torch.float32, 3e-6))
    if backend in AVAILABLE
]
laws = settings(max_examples=20, deadline=None)
shapes = st.tuples(st.integers(1, 3), st.integers(2, 70), st.integers(1, 20), st.integers(1, 9))
seeds = st.integers(0, 10_000)


def close(x, want, tolerance):
    torch.testing.assert_close(x, want, rtol=0, atol=tolerance * (1 + want.abs().max().item()))


SEQUENCES = ("u", "dt", "B", "C", "z")


@pytest.mark.parametrize(("backend", "dtype", "tolerance"), PRECISIONS)
class TestLaws:
    @laws
    @given(shape=shapes, seed=seeds, share=st.floats(0, 1), reverse=st.booleans())
    def test_splitting_and_carrying_the_state_changes_nothing(
        self, scan, backend, dtype, tolerance, shape, seed, share, reverse
    ):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        cut = 1 + int(share * (shape[1] - 2))
        options = {"dt_softplus": True, "return_final_state": True, "backend": backend, "reverse": reverse}
        whole, last_state = selective_scan(**inputs, **options)
        halves = [slice(0, cut), slice(cut, None)]
        state, outputs = inputs.pop("initial_state"), {}
        for half in reversed(halves) if reverse else halves:
            part = {name: x[:, half] if name in SEQUENCES else x for name, x in inputs.items()}
            outputs[half.start], state = selective_scan(**part, initial_state=state, **options)
        close(torch.cat([outputs[0], outputs[cut]], 1), whole, tolerance)
        close(state, last_state, tolerance)

    @laws
    @given(shape=shapes, seed=seeds, share=st.floats(0, 1))
    def test_the_future_does_not_matter(self, scan, backend, dtype, tolerance, shape, seed, share):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        cut = 1 + int(share * (shape[1] - 2))
        changed = {name: x.clone() for name, x in inputs.items()}
        for name in SEQUENCES:
            changed[name][:, cut:] = 7.0
        y, other = (selective_scan(**x, dt_softplus=True, backend=backend) for x in (inputs, changed))
        assert torch.equal(y[:, :cut], other[:, :cut])
        assert not torch.equal(y[:, cut:], other[:, cut:])

    @laws
    @given(shape=shapes, seed=seeds, factor=st.floats(-3, 3))
    def test_linear_in_the_input(self, scan, backend, dtype, tolerance, shape, seed, factor):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        del inputs["initial_state"]
        first, second = inputs.pop("u"), scan.make_inputs(*shape, seed=seed + 1)["u"].to(dtype)
        y_1, y_2, y_sum = (
            selective_scan(u, **inputs, dt_softplus=True, backend=backend)
            for u in (first, second, first + factor * second)
        )
        close(y_1 + factor * y_2, y_sum, tolerance * 5)

    @laws
    @given(shape=shapes, seed=seeds)
    def test_a_loop_of_steps_is_the_forward(self, scan, backend, dtype, tolerance, shape, seed):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        whole, last_state = selective_scan(**inputs, dt_softplus=True, return_final_state=True, backend=backend)
        state, outputs = inputs.pop("initial_state"), []
        for t in range(shape[1]):
            u, dt, B, C, z = (inputs[name][:, t] for name in SEQUENCES)
            y, state = selective_scan_step(
                *(u, dt, inputs["A"], B, C, inputs["D"]),
                state=state,
                z=z,
                dt_bias=inputs["dt_bias"],
                dt_softplus=True,
                backend=backend,
            )
            outputs.append(y)
        close(torch.stack(outputs, 1), whole, tolerance)
        close(state, last_state, tolerance)

    @laws
    @given(shape=shapes, seed=seeds)
    def test_without_decay_the_state_is_a_cumulative_sum(self, scan, backend, dtype, tolerance, shape, seed):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        u, dt, B, C = (inputs[name] for name in ("u", "dt", "B", "C"))
        y = selective_scan(u, dt, torch.zeros_like(inputs["A"]), B, C, backend=backend)
        sums = torch.cumsum((dt * u).double()[..., None] * B.double()[:, :, None], 1)
        close(y.double(), torch.einsum("btdn,btn->btd", sums, C.double()), tolerance)

    @laws
    @given(shape=shapes, seed=seeds)
    def test_reverse_is_the_scan_of_the_flipped_sequence(self, scan, backend, dtype, tolerance, shape, seed):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        flipped = {name: x.flip(1) if name in SEQUENCES else x for name, x in inputs.items()}
        y = selective_scan(**inputs, reverse=True, backend=backend)
        close(y.flip(1), selective_scan(**flipped, backend=backend), tolerance)

    @laws
    @given(shape=shapes, seed=seeds, share=st.floats(0, 1))
    def test_packed_sequences_do_not_see_each_other(self, scan, backend, dtype, tolerance, shape, seed, share):
        inputs = {name: x.to(dtype) for name, x in scan.make_inputs(*shape, seed=seed).items()}
        cut = 1 + int(share * (shape[1] - 2))
        seq_idx = (torch.arange(shape[1]) >= cut).long().expand(shape[0], -1)
        whole = selective_scan(**inputs, seq_idx=seq_idx, backend=backend)
        for half, state in ((slice(0, cut), inputs.pop("initial_state")), (slice(cut, None), None)):
            part = {name: x[:, half] if name in SEQUENCES else x for name, x in inputs.items()}
            close(selective_scan(**part, initial_state=state, backend=backend), whole[:, half], tolerance)
