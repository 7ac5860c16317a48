"""The next token of a language model of transformers, explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambattn._errors import BackendUnavailableError, ConfigError, DataError
from mambattn.cli._explained import Explained, layer_maps

if TYPE_CHECKING:
    from mambattn.cli._explain_scores import MethodScore

__all__ = ["explain_text"]

_LONGEST = 512


def explain_text(
    model: str,
    text: str | None,
    ids: str | None,
    *,
    target: str | None,
    method: str,
    evaluate: bool,
    seed: int,
    say: Callable[[str], None],
) -> Explained:
    """Explain which token a language model puts behind a text, or behind ids; `say` is told what is going on."""
    import torch

    from mambattn.cli._explain_scores import methods_of, score_methods
    from mambattn.explain.attribution import integrated_gradients, occlusion
    from mambattn.explain.flow import receptive_field, rollout
    from mambattn.explain.relevance import lrp
    from mambattn.explain.trace import trace

    say("loading the language model")
    network, tokenizer = _loaded(model, needs_tokenizer=text is not None)
    n_tokens = network.get_input_embeddings().num_embeddings
    known = _ids_of(ids, n_tokens) if text is None else tokenizer(text)["input_ids"]
    if not 2 <= len(known) <= _LONGEST:
        raise ConfigError(
            f"The text must have from 2 to {_LONGEST} tokens, however it has {len(known)}. Give another one."
        )
    x = torch.tensor([known])
    say("reading the text")
    with torch.no_grad():
        logits = network(x).logits[0, -1]
    chosen = int(logits.argmax()) if target is None else _target_of(target, tokenizer if text else None, n_tokens)
    output = (len(known) - 1, chosen)
    say("explaining the next token")
    traced = trace(network, x)
    score = {"lrp": lrp, "integrated_gradients": integrated_gradients, "occlusion": occlusion}[method]
    found = score(network, x, output)
    scores: tuple[MethodScore, ...] = ()
    if evaluate:
        methods = methods_of(x, output, None, lambda _, flow: flow[:, output[0]])
        scores = score_methods(methods, network, x, output, None, index=output, seed=seed, say=say)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    probability = float(logits.softmax(0)[chosen])
    facts = {
        "model": f"{type(network).__name__}, {n_parameters:,} parameters",
        "tokens": f"{len(known):,}",
        "explained": f"the logit of {_name(chosen, tokenizer)!r} as the next token, of probability {probability:.3f}",
        "method": method,
        "completeness error": f"{found.completeness_error.max().item():.1e}",
        "absorbed by biases and constants": f"{found.absorbed.mean().item():.0%}",
    }
    return Explained(
        title=f"What {type(network).__name__} looks at",
        names=tuple(_name(token, tokenizer) for token in known),
        maps=layer_maps(traced),
        flow=rollout(network, x),
        attribution=found,
        reaches=receptive_field(network, x),
        labels=("the text",),
        facts=facts,
        scores=scores,
    )


def _loaded(model: str, *, needs_tokenizer: bool) -> tuple[Any, Any]:
    """Read the model and, where there is one, its tokenizer from a folder; nothing is downloaded."""
    try:
        import transformers
    except ImportError:
        raise BackendUnavailableError(
            "Language models need transformers, which is not installed. Install it with `pip install 'mambattn[hf]'`."
        ) from None
    if not (Path(model) / "config.json").is_file():
        raise ConfigError(
            f"{model} must be the folder of a language model of transformers, however it has no config.json. Give the "
            "folder that save_pretrained wrote, or DATA for a model file of this library."
        )
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    network = _read(transformers.AutoModelForCausalLM, model, "language model", dtype="float32")
    # Without files of its own a folder would get an empty tokenizer of the family's kind.
    if any(Path(model).glob("tokenizer*")):
        return network.eval(), _read(transformers.AutoTokenizer, model, "tokenizer")
    if needs_tokenizer:
        raise DataError(f"{model} has no tokenizer, which --text needs. Give token ids, such as --ids 1,2,3.")
    return network.eval(), None


def _read(reader: Any, model: str, what: str, **options: Any) -> Any:
    try:
        return reader.from_pretrained(model, local_files_only=True, **options)
    except Exception as error:  # the readers of weights, settings and words have errors of their own
        says = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{model} holds no {what} that can be read: {says}") from error


def _ids_of(text: str | None, n_tokens: int) -> list[int]:
    try:
        ids = [int(part) for part in (text or "").split(",")]
    except ValueError:
        raise ConfigError(
            f"--ids must be numbers with commas between, such as 1,2,3, however it is {text!r}."
        ) from None
    for one in ids:
        _check_id("--ids", one, n_tokens)
    return ids


def _check_id(option: str, token: int, n_tokens: int) -> None:
    if not 0 <= token < n_tokens:
        raise ConfigError(f"{option} must be token ids from 0 to {n_tokens - 1}, however there is {token}.")


def _target_of(target: str, tokenizer: Any, n_tokens: int) -> int:
    """Find a next token: by its text where there is a text, with or without a space before it, else by its id."""
    if tokenizer is None:
        if not target.isdecimal():
            raise ConfigError(f"--target must be a token id where --ids are given, however it is {target!r}.")
        _check_id("--target", int(target), n_tokens)
        return int(target)
    for spelling in (target, f" {target}"):
        ids = tokenizer(spelling, add_special_tokens=False)["input_ids"]
        if len(ids) == 1:
            return ids[0]
    raise ConfigError(f"--target must be one token, however {target!r} is several. Give its first one.")


def _name(token: int, tokenizer: Any) -> str:
    return (tokenizer.decode([token]) if tokenizer is not None else "") or str(token)
