"""Gradient × map in models of transformers, from gradients by their own tensors: gated values, weights, the stream."""

import pytest
import torch
from hf_models import FAMILIES, ids, make
from stacks import off

from mambattn.explain import attention_maps, gradient_times_map

EYE = torch.eye(9)
# So large that what the residuals carry does not hide the maps.
TARGETS = {"one position": lambda y: 1e3 * y[:, 7, 3], "all positions": lambda y: 1e3 * y[:, :, 3].mean(1)}


def slopes(model, tokens, target):
    """Give gradients by what each mixer multiplies or projects, by the stream before each layer, and behind the last.

    Of a state space that is what its projection back is given; of attention the weights, as the model has them.
    """
    model.set_attn_implementation("eager")
    at, streams, left = {}, [], []

    def hear(module, _, given, output):
        at[module] = output[1]

    hooks = [m.register_forward_hook(hear, with_kwargs=True) for m in model.modules() if hasattr(m, "q_proj")]
    hooks += [
        m.out_proj.register_forward_pre_hook(lambda _, args, m=m: at.update({m: args[0]}))
        for m in model.modules()
        if hasattr(m, "A_log")
    ]
    backbone = getattr(model, "backbone", None) or model.model
    for layer in backbone.layers:
        hooks.append(layer.register_forward_pre_hook(lambda _, args: streams.append(args[0])))
        hooks.append(layer.register_forward_hook(lambda _, __, y: left.append(y[0] if isinstance(y, tuple) else y)))
    embeddings = model.get_input_embeddings()(tokens).detach().requires_grad_()
    # Given embeddings, Falcon-H1 does not multiply them.
    output = model(inputs_embeds=embeddings * (2.0 if "FalconH1" in type(model).__name__ else 1.0), use_cache=False)
    for hook in hooks:
        hook.remove()
    found = torch.autograd.grad(target(output.logits).sum(), [*at.values(), *streams, left[-1]])
    gated = {m: (value.detach(), slope) for (m, value), slope in zip(at.items(), found, strict=False)}
    return backbone.layers, gated, found[len(at) : -1], found[-1]


def maps_by_mixer(model, tokens):
    """Give the maps of all channels or heads of each mixer, by depth and whether it is attention."""
    found = {}
    for one in attention_maps(model, tokens, channels="all"):
        are_heads = [one.kind == "global attention" or name.startswith("attention") for name in one.labels]
        for is_attention in set(are_heads):
            chosen = [number for number, one_is in enumerate(are_heads) if one_is == is_attention]
            found[one.layer, is_attention] = one.values[:, chosen]
    return found


def equation(model, tokens, target):
    """Spell equation 24 out; a shared block is a corner of one matrix over the stream beside the embeddings."""
    layers, gated, _, end = slopes(model, tokens, target)
    maps = maps_by_mixer(model, tokens)
    total = torch.eye(18)
    for index, layer in enumerate(layers):
        shares = {True: [], False: []}
        for mixer in [m for m in layer.modules() if m in gated]:
            is_attention, (value, slope) = hasattr(mixer, "q_proj"), gated[mixer]
            if is_attention:
                assert off(maps[index, True], value) <= 1e-5
                shares[True].append((slope * value).relu().mean(1))
            else:
                shares[False].append((slope.mean(-1)[:, :, None] * maps[index, False].mean(1)).relu())
        if hasattr(layer, "shared_transformer"):
            (aside,), (own,) = shares[True], shares[False]
            corner, beside = own + own @ aside, own @ aside
        elif shares[True] + shares[False]:
            corner = torch.stack(shares[True] + shares[False]).mean(0)
            beside = torch.zeros_like(corner)
        else:
            continue
        matrix = torch.cat([torch.cat([EYE + corner, beside], 2), EYE.new_zeros(2, 9, 18)], 1)
        matrix[:, 9:, 9:] = EYE
        total = matrix @ total
    flow = (end.norm(dim=-1) / end.norm(dim=-1).sum(1, keepdim=True))[:, None] @ total[:, :9]
    return flow[:, 0, :9] + flow[:, 0, 9:]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_published_equation_comes_from_the_models_own_gradients(family, target):
    model, tokens = make(family), ids()
    got = gradient_times_map(model, tokens, TARGETS[target])
    want = equation(model, tokens, TARGETS[target])
    assert off(got.values, want) <= 1e-5


def scaled(x):
    low, high = x.min(), x.max()
    return (x - low) / (high - low)


def released(model, tokens):
    """Spell the released form out, token 7 being read, with matrices over positions, row by row."""
    layers, _, streams, _ = slopes(model, tokens, TARGETS["one position"])
    maps = maps_by_mixer(model, tokens)
    found = []
    for row in range(2):
        flow, origin = EYE[7], torch.zeros(9)
        for index in reversed(range(len(layers))):
            s = scaled(streams[index][row].relu().amax(1))
            rows = {
                kind: scaled(maps[index, kind][row, :, 7].relu()).mean(0) * s
                for kind in (True, False)
                if (index, kind) in maps
            }
            if not rows:
                continue
            if hasattr(layers[index], "shared_transformer"):
                own, aside = rows[False].expand(9, 9), rows[True].expand(9, 9)
                both = torch.cat([EYE + own, own], 1)
                flow, to_aside = (flow @ (both / both.sum(1, keepdim=True))).chunk(2)
                both = torch.cat([aside, aside], 1)
                to_stream, to_origin = (to_aside @ (both / both.sum(1, keepdim=True))).chunk(2)
                flow, origin = flow + to_stream, origin + to_origin
            else:
                matrix = EYE + torch.stack(list(rows.values())).mean(0)
                flow = flow @ (matrix / matrix.sum(1, keepdim=True))
        found.append(flow + origin)
    return torch.stack(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_released_form_fuses_rows_with_slopes_of_the_models_stream(family):
    model, tokens = make(family), ids()
    got = gradient_times_map(model, tokens, (7, 3), "released").values
    assert off(got, released(model, tokens)) <= 1e-5
    torch.testing.assert_close(got.sum(1), torch.ones(2))
    assert not got[:, 8].any()
    assert (got[:, :7] > 0).any()


@pytest.mark.parametrize("form", ["equation", "released"])
def test_nothing_is_left_on_the_model(form):
    model = make("zamba2").train()
    gradient_times_map(model, ids(), (7, 3), form)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
