"""Zamba2's shared blocks: beside the stream, on the embeddings too, and into what the next mixer reads."""

import pytest
import torch
from hf_models import ids, make
from stacks import off

from mambattn._errors import ConfigError
from mambattn.explain import attention_maps, contributions, knockout, lrp, rollout
from mambattn.explain.hf.state_space import mamba2_route
from mambattn.explain.trace import trace

TWO_BLOCKS = {"num_hidden_layers": 5, "layers_block_type": ["hybrid", "mamba", *["hybrid"] * 3], "num_mem_blocks": 2}
BIASED = {"add_bias_linear": True}


def held_in_place(model):
    """Hook a Zamba2 so that its own gradient follows the rules of relevance; its output stays."""

    def ratio(module, args, y):
        return args[0] * (y / args[0]).detach()

    def constant(module, args, y):
        return y.detach()

    def halved(module, args, y):
        return (y + y.detach()) / 2

    def mixed(module, args, given, y):
        return mamba2_route(module, given["hidden_states"].detach()).halved(given["hidden_states"])

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if "norm" in last and not name.endswith("mamba.norm"):
            module.register_forward_hook(ratio)
        elif last in ("q_proj", "k_proj") or "_q_adapter_list." in name or "_k_adapter_list." in name:
            module.register_forward_hook(constant)
        elif last == "act_fn" and "feed_forward" in name:
            module.register_forward_hook(ratio)
        elif last == "feed_forward":
            module.register_forward_hook(halved)
        elif hasattr(module, "A_log"):
            module.register_forward_hook(mixed, with_kwargs=True)
    return model


@pytest.mark.parametrize("changes", [{}, TWO_BLOCKS, BIASED])
def test_relevance_is_the_gradient_of_the_model_with_its_routing_held_in_place(changes):
    tokens = ids()
    found = lrp(make("zamba2", **changes).double(), tokens, (8, 3))
    model = held_in_place(make("zamba2", **changes).double())
    embeddings = model.get_input_embeddings()(tokens).detach().requires_grad_()
    score = model(inputs_embeds=embeddings, use_cache=False).logits[:, 8, 3]
    assert off(score, make("zamba2", **changes).double()(tokens, use_cache=False).logits[:, 8, 3]) <= 1e-6
    (gradient,) = torch.autograd.grad(score.sum(), embeddings)
    assert off(found.values, (gradient * embeddings).sum(-1).detach()) <= 1e-6
    assert (found.completeness_error <= 1e-6).all()


def vectors(layer, parts):
    """Give what each token of each part brings to each position, from the Jacobian of the held mixer."""

    def run(x):
        return layer.mixing_routes[0].output(layer.entered(x))

    jacobian = torch.autograd.functional.jacobian(run, layer.read)[0, :, :, 0]
    return torch.cat([torch.einsum("ipjq,jq->ijp", jacobian, part[0]) for part in parts], dim=1)


def shares(brought, y, kind):
    if kind == "norm":
        size = brought.square().sum(-1).sqrt()
    else:
        size = torch.relu(y[0].abs().sum(-1, keepdim=True) - (y[0, :, None] - brought).abs().sum(-1))
    return size / size.sum(1, keepdim=True)


def spelled_out(model, tokens, kind):
    """Follow the stream through all layers; a hybrid one reads it, and what its block takes of it and of embeddings."""
    n = tokens.shape[1]
    flow, values = torch.eye(n), []
    scans = {(one.layer, one.kind): one.values[0, 0] for one in attention_maps(model, tokens)}
    for layer in trace(model, tokens).layers:
        own = [layer.x]
        flows = flow
        if layer.aside is not None:
            mixer = layer.aside.mixer
            halves = [mixer.x.clone(), mixer.x.clone()]
            halves[0][..., 32:] = 0
            halves[1][..., :32] = 0
            if kind == "paper":
                beside = scans[layer.layer, mixer.kind] @ (flow + torch.eye(n))
            else:
                taken = shares(vectors(mixer, halves), mixer.y, kind)
                beside = taken[:, :n] @ flow + taken[:, n:]
            own.append(layer.read - layer.x)
            flows = torch.cat([flow, beside])
        if kind == "paper":
            flow = flow + sum(scans[layer.layer, layer.kind] @ part for part in flows.split(n))
        else:
            brought = vectors(layer, own)
            brought[range(n), range(n)] += layer.x[0]
            flow = shares(brought, layer.y, kind) @ flows
        values.append(flow)
    return torch.stack(values)


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, TWO_BLOCKS])
@pytest.mark.parametrize("kind", ["norm", "alti", "paper"])
def test_a_rollout_goes_through_the_block_and_to_the_embeddings(kind, changes):
    model, tokens = make("zamba2", **changes), ids(6)[:1]
    flow = rollout(model, tokens, kind)
    assert off(flow.values[:, 0], spelled_out(model, tokens, kind)) <= 1e-5
    assert flow.layers == tuple(range(len(model.model.layers)))
    assert not flow.values.triu(1).any()
    some = rollout(model, tokens, kind, positions=[5, 2])
    assert off(some.total, flow.total[:, [5, 2]]) <= 1e-5
    if kind != "paper":
        assert (flow.values >= 0).all()
        torch.testing.assert_close(flow.values.sum(-1), torch.ones(flow.values.shape[:3]))


@torch.no_grad()
def test_a_baseline_carries_nothing_through_the_block():
    """All that differs comes from the one token that does, by way of the embeddings too."""
    model = make("zamba2", **TWO_BLOCKS)
    baseline = model.get_input_embeddings()(ids())[:1]
    x = baseline.clone()
    x[:, 3] += 1
    for kind in ("norm", "alti"):
        total = rollout(model, x, kind, baseline=baseline).total[0]
        torch.testing.assert_close(total[3:], torch.eye(9)[3].expand(6, -1))


@torch.no_grad()
def test_either_mixer_of_a_layer_can_be_chosen():
    model, tokens = make("zamba2"), ids()
    with pytest.raises(ConfigError, match=r"`kind` must choose one .* in layer 2, global attention and Mamba-2"):
        contributions(model, tokens, layer=2)
    layer = trace(model, tokens).layers[2]
    attention, own = (contributions(model, tokens, 2, kind) for kind in ("global attention", "Mamba-2"))
    assert off(attention.values.sum(2) + attention.bias, layer.aside.mixer.y) <= 1e-5
    assert off(layer.x + own.values.sum(2) + own.bias, layer.y) <= 1e-5


@torch.no_grad()
def test_a_cut_edge_of_the_block_is_a_weight_of_zero():
    """Where the layer's own mixer reads no other token, against attention with one weight set to 0 by hand."""
    model, tokens = make("zamba2"), ids()
    mamba, attention = model.model.layers[3].mamba_decoder.mamba, model.model.layers[3].shared_transformer.self_attn
    mamba.A_log += 20
    mamba.conv1d.weight[..., :-1] = 0
    cut = knockout(model, tokens, {3: [(2, 8)]})
    heard = {}
    hook = attention.register_forward_hook(
        lambda module, args, given, out: heard.update(x=given["hidden_states"], w=out[1]), with_kwargs=True
    )
    model.set_attn_implementation("eager")
    before = model(tokens, use_cache=False).logits
    hook.remove()
    adapter = attention.linear_v_adapter_list[attention.layer_dic[3]]
    values = (attention.v_proj(heard["x"]) + adapter(heard["x"])).unflatten(-1, (4, -1))
    lost = attention.o_proj((heard["w"][:, :, 8, 2, None] * values[:, 2]).flatten(1))

    def without(module, args, output):
        y = output[0].clone()
        y[:, 8] -= lost
        return (y, *output[1:])

    hook = attention.register_forward_hook(without)
    after = model(tokens, use_cache=False).logits
    hook.remove()
    assert off(cut.before, before) <= 1e-5
    assert off(cut.change, after - before) <= 1e-4
    assert cut.change.abs().sum((0, 2)).nonzero().flatten().tolist() == [8]
