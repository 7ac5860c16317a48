"""What ``mambattn explain --text`` says of a tiny language model of transformers."""

import json
import shutil

import pytest
import torch
from click.testing import CliRunner

from mambattn.cli import main
from mambattn.cli._explained import Explained, layer_maps
from mambattn.explain.results import Attribution
from mambattn.explain.trace import trace

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = ["<unk>", "the", "cat", "sat", "on", "mat", "dog", "[b]"]


def run(*arguments):
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def done(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Mamba with a tokenizer of eight words, and one without."""
    here = tmp_path_factory.mktemp("language")
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=len(WORDS), hidden_size=16, state_size=4, num_hidden_layers=2, initializer_range=0.5
    )
    model = transformers.MambaForCausalLM(config)
    model.save_pretrained(here / "bare")
    model.save_pretrained(here / "whole")
    words = tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    tokenizer = tokenizers.Tokenizer(words)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(here / "whole")
    return here


def zamba2():
    """Make a model with a block of attention beside its second layer."""
    torch.manual_seed(0)
    config = transformers.Zamba2Config(
        vocab_size=8, hidden_size=16, num_hidden_layers=2, layers_block_type=["mamba", "hybrid"], hybrid_layer_ids=[1],
        mamba_d_state=4, n_mamba_heads=2, mamba_headdim=16, mamba_ngroups=1, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=16, num_mem_blocks=1, use_mem_eff_path=False, use_cache=False,
    )  # fmt: skip
    return transformers.Zamba2ForCausalLM(config).eval()


def logits(folder, ids):
    model = transformers.MambaForCausalLM.from_pretrained(folder / "bare").eval()
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1]


def test_the_next_token_is_explained(folder, tmp_path):
    result = done(folder / "whole", "--text", "the cat sat on [b]", "--json", "--out", tmp_path)
    content = json.loads(result.stdout)
    assert content["names"] == ["the", "cat", "sat", "on", "[b]"]
    want = logits(folder, [1, 2, 3, 4, 7])
    assert f"the logit of {WORDS[int(want.argmax())]!r}" in content["facts"]["explained"]
    found = content["attribution"]
    # Relevance and what biases absorb add up to the logit of the model itself.
    assert sum(found["values"][0]) == pytest.approx(float(want.max()) * (1 - found["absorbed"][0]), rel=1e-3)
    assert "[b]" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "explain.html", "results.json", "layers.png", "receptive_field.png", "rollout.png", "tokens.png"
    }  # fmt: skip


def test_a_token_is_chosen_by_its_text_or_id(folder):
    by_text = json.loads(done(folder / "whole", "--text", "the cat", "--target", "dog", "--json").stdout)
    by_id = json.loads(done(folder / "bare", "--ids", "1,2", "--target", 6, "--json").stdout)
    assert "'dog'" in by_text["facts"]["explained"]
    assert "'6'" in by_id["facts"]["explained"]
    assert by_id["names"] == ["1", "2"]
    assert by_text["attribution"] == by_id["attribution"]


def test_methods_are_tested_on_the_text(folder):
    result = done(folder / "bare", "--ids", "1,2,3,4,5,6", "--evaluate", "--json")
    scores = {score["method"]: score for score in json.loads(result.stdout)["scores"]}
    assert scores["lrp"]["completeness_error"] <= 1e-3
    assert scores["rollout by norms"]["completeness_error"] is None
    assert "gradient × map" in scores


def test_a_block_beside_the_layers_is_part_of_maps_and_flow(tmp_path):
    zamba2().save_pretrained(tmp_path / "zamba2")
    result = done(tmp_path / "zamba2", "--ids", "1,2,3", "--out", tmp_path / "out", "--json")
    assert float(json.loads(result.stdout)["facts"]["completeness error"]) <= 1e-4
    assert (tmp_path / "out" / "rollout.png").exists()


def test_heads_are_those_of_the_attention_among_what_mixes_in_one_layer():
    found = layer_maps(trace(zamba2(), torch.tensor([[1, 2, 3]])))
    assert [(one.layer, one.labels) for one in found] == [
        (0, ("mean",)), (1, ("mean", "head 0", "head 1")), (1, ("mean",))
    ]  # fmt: skip
    torch.testing.assert_close(found[1].values[:, 1:].mean(1), found[1].values[:, 0])


def test_bad_input_is_one_clear_message(folder, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    for arguments, message in (
        ((folder / "bare", "--text", "the cat"), "has no tokenizer, which --text needs"),
        ((folder / "bare", "--ids", "1,x"), "--ids must be numbers with commas between"),
        ((folder / "bare", "--ids", "1,8"), "from 0 to 7, however there is 8"),
        ((folder / "bare", "--ids", "1"), "from 2 to 512 tokens, however it has 1"),
        ((folder / "bare", "--ids", "1,2", "--target", "dog"), "--target must be a token id"),
        ((folder / "whole", "--text", "the cat", "--target", "the cat"), "'the cat' is several"),
        ((tmp_path, "--ids", "1,2"), "holds no language model that can be read"),
        ((folder / "gone", "--ids", "1,2"), "has no config.json"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert message in result.stderr, arguments


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("model.safetensors", "x", "language model"),
        ("config.json", "{", "language model"),
        ("tokenizer.json", "{", "tokenizer"),
        ("tokenizer.json", "{}", "tokenizer"),
    ],
)
def test_a_broken_file_is_told(folder, tmp_path, file, content, what):
    shutil.copytree(folder / "whole", tmp_path / "broken")
    (tmp_path / "broken" / file).write_text(content)
    result = run(tmp_path / "broken", "--text", "the cat")
    assert result.exit_code == 2, result.output
    assert f"broken holds no {what} that can be read: " in result.stderr


def test_weights_of_another_shape_are_told(folder, tmp_path):
    shutil.copytree(folder / "bare", tmp_path / "broken")
    config = tmp_path / "broken" / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 16', '"hidden_size": 24'))
    result = run(tmp_path / "broken", "--ids", "1,2")
    assert result.exit_code == 2, result.output
    assert "holds no language model that can be read" in result.stderr


def test_a_line_break_is_shown_on_a_line_of_its_own():
    attribution = Attribution("lrp", torch.tensor([[1.0, 2.0]]), torch.zeros(1), torch.zeros(1))
    found = Explained("", ("a", "\n"), (), None, attribution, (), ("the text",), {})
    assert [cell.plain for cell in found.summary().columns[0].cells] == ["a", "↵"]


def test_what_to_install_is_said(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", None)
    result = run(folder / "bare", "--ids", "1,2")
    assert result.exit_code == 2
    assert "pip install 'mambattn[hf]'" in result.stderr
