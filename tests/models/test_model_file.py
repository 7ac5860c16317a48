"""Saving and loading: equal to the bit, in this process and in a new one; bad files are refused in one sentence."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from mambattn._errors import DataError
from mambattn.configs import MambAttentionConfig, MLPConfig, PreprocessingConfig, TrainerConfig
from mambattn.models import MambAttentionClassifier, MambAttentionRegressor, MLPClassifier, MLPRegressor, load
from mambattn.training import FORMAT_VERSION, ModelFile
from mambattn.training.checkpoint import digest

TRAINER = TrainerConfig(lr=0.02, max_epochs=4, batch_size=32, verbose=0)
HYBRID = MambAttentionConfig(
    d_model=8, n_layers=1, n_heads=2, d_state=4, shuffle_embeddings=True, use_cls=True, pooling_method="cls"
)
SMALL = MLPConfig(d_model=4, layer_sizes=(8,))


@pytest.fixture(scope="module")
def table():
    rng = np.random.RandomState(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60), "z": rng.choice(["a", "b", None], 60)})
    frame.loc[::9, "x"] = np.nan
    return frame


@pytest.fixture(scope="module")
def fitted(table):
    return MambAttentionClassifier(HYBRID, trainer_config=TRAINER, random_state=3, class_weight={"no": 2.0}).fit(
        table, np.where(table["y"] > 0, "yes", "no")
    )


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "model.mambattn"
    fitted.save(path)
    return path


# What comes back


@pytest.mark.parametrize(
    "scaling", ["none", "standardization", "minmax", "quantile", "robust", "yeo-johnson", "splines", "ple"]
)
def test_every_preprocessing_predicts_identically(table, tmp_path, scaling):
    target = table["y"].to_numpy() * 1e5
    model = MambAttentionRegressor(
        HYBRID, PreprocessingConfig(numerical_preprocessing=scaling), TRAINER, random_state=0
    ).fit(table, target)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict(table), model.predict(table))


@pytest.mark.parametrize("embedding", ["linear", "plr", "ple"])
def test_every_embedding_predicts_identically(table, tmp_path, embedding):
    model = MLPClassifier(SMALL.replace(embedding_type=embedding), trainer_config=TRAINER, random_state=0)
    model.fit(table, table["y"] > 0).save(tmp_path / "m")
    np.testing.assert_array_equal(load(tmp_path / "m").predict_proba(table), model.predict_proba(table))


def test_a_new_process_predicts_identically(fitted, saved, table, tmp_path):
    table.to_pickle(tmp_path / "table.pkl")
    code = (
        "import sys, numpy as np, pandas as pd\n"
        "from mambattn.models import load\n"
        "np.save(sys.argv[3], load(sys.argv[1]).predict_proba(pd.read_pickle(sys.argv[2])))\n"
    )
    out = tmp_path / "out.npy"
    subprocess.run([sys.executable, "-c", code, str(saved), str(tmp_path / "table.pkl"), str(out)], check=True)
    np.testing.assert_array_equal(np.load(out), fitted.predict_proba(table))


def test_everything_else_comes_back(fitted, saved, table):
    model = MambAttentionClassifier.load(saved)
    assert type(load(saved)) is MambAttentionClassifier
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.classes_.dtype == fitted.classes_.dtype
    assert model.history_ == fitted.history_
    assert model.feature_names_in_.tolist() == ["x", "y", "z"]
    assert (model.schedule_, model.n_parameters_, model.stopped_by_) == ("MA", fitted.n_parameters_, "max_epochs")
    assert model.fit_seconds_ == fitted.fit_seconds_
    assert model.get_params() == {**fitted.get_params(), "preprocessing_config": PreprocessingConfig()}
    again = clone(model).fit(table, np.where(table["y"] > 0, "yes", "no"))
    np.testing.assert_array_equal(again.predict_proba(table), fitted.predict_proba(table))


@pytest.mark.parametrize(
    "labels",
    [[False, True], [-5, 7], [1.0, 2.0], ["ä", "b"], np.array([1, "one"], object), np.array([True, "x"], object)],
    ids=repr,
)
def test_labels_come_back_in_their_type(table, tmp_path, labels):
    y = np.asarray(labels)[(table["y"] > 0).astype(int)]
    model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0).fit(table, y)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.classes_.dtype == model.classes_.dtype
    assert [type(label) for label in again.classes_.tolist()] == [type(label) for label in model.classes_.tolist()]
    np.testing.assert_array_equal(again.predict(table), model.predict(table))


@pytest.mark.parametrize("labels", [[np.int64(3), np.int64(4)], [np.str_("a"), np.str_("b")]], ids=repr)
def test_numpy_scalars_as_labels_are_saved(table, tmp_path, labels):
    y = np.array(labels, dtype=object)[(table["y"] > 0).astype(int)]
    weight = {labels[0]: np.float64(2.0), labels[1]: 1}
    model = MLPClassifier(SMALL, trainer_config=TRAINER, random_state=0, class_weight=weight).fit(table, y)
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.class_weight == weight
    assert again.predict(table).tolist() == model.predict(table).tolist()


def test_saving_again_gives_the_same_bytes_and_leaves_no_parts(fitted, saved):
    first = saved.read_bytes()
    load(saved).save(saved)
    again = load(saved)
    assert again.get_params() == load(saved).get_params()
    assert saved.read_bytes() == first
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_the_file_is_plain_safetensors_with_json(saved):
    with safe_open(saved, framework="np") as opened:
        header = json.loads(opened.metadata()["mambattn"])
        names = set(opened.keys())
    assert header["format_version"] == FORMAT_VERSION
    assert header["model"] == "MambAttentionClassifier"
    assert header["facts"]["model_config"]["d_model"] == 8
    assert "network.backbone.permutation" in names


def test_unfitted_model_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        MLPRegressor().save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_no_folder(fitted, tmp_path):
    with pytest.raises(DataError, match=r"There is no folder '.*nowhere' to save a model in"):
        fitted.save(tmp_path / "nowhere" / "model")


def test_labels_that_json_lacks(table, tmp_path):
    y = np.array(["2020-01-01", "2021-01-01"], dtype="datetime64[D]")[(table["y"] > 0).astype(int)]
    model = MLPClassifier(SMALL, trainer_config=TRAINER).fit(table, y)
    assert model.predict(table).dtype == y.dtype
    with pytest.raises(DataError, match=r"labels that are text, numbers or booleans, however .* is a date"):
        model.save(tmp_path / "m")


# Bad files


def truncated(path, content, tensors):
    path.write_bytes(path.read_bytes()[:-100])


def cut_header(path, content, tensors):
    path.write_bytes(path.read_bytes()[:20])


def empty(path, content, tensors):
    path.write_bytes(b"")


def pickled(path, content, tensors):
    path.write_bytes(pickle.dumps({"a": 1}))


def text(path, content, tensors):
    path.write_text("age,sex\n1,f\n")


def foreign(path, content, tensors):
    save_file(tensors, path)


def a_folder(path, content, tensors):
    path.unlink()
    path.mkdir()


def flipped_weight(path, content, tensors):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


def edited_json(path, content, tensors):
    data = path.read_bytes()
    assert data.count(b'\\"yes\\"') == 1
    path.write_bytes(data.replace(b'\\"yes\\"', b'\\"yep\\"'))


def broken_json(path, content, tensors):
    save_file(tensors, path, metadata={"mambattn": "{"})


def forged(path, content, tensors):
    save_file(tensors, path, metadata={"mambattn": json.dumps(content | {"sha256": "0" * 64})})


def unsigned(path, content, tensors):
    del content["sha256"]
    save_file(tensors, path, metadata={"mambattn": json.dumps(content)})


def rewritten(change):
    """Change the content and sign it anew, as a careful forger or a faulty program would."""

    def write(path, content, tensors):
        change(content, tensors)
        unsigned = {key: value for key, value in content.items() if key != "sha256"}
        text = json.dumps(unsigned | {"sha256": digest(unsigned, tensors)})
        save_file(tensors, path, metadata={"mambattn": text})

    return write


def setting(*keys, to):
    def change(content, tensors):
        target = content
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = to

    return rewritten(change)


def removing(*keys):
    def change(content, tensors):
        target = content
        for key in keys[:-1]:
            target = target[key]
        del target[keys[-1]]

    return rewritten(change)


def tensor(name, value):
    def change(content, tensors):
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value

    return rewritten(change)


HEAD = "network.head.layers.1.weight"
BAD_FILES = {
    "truncated": (truncated, "must be a safetensors file, however it cannot be read as one .* truncated or of another"),
    "cut in the header": (cut_header, "must be a safetensors file, however it cannot be read"),
    "empty": (empty, "must be a safetensors file, however it cannot be read"),
    "pickle": (pickled, "must be a safetensors file, however it cannot be read"),
    "text": (text, "must be a safetensors file, however it cannot be read"),
    "foreign": (foreign, "must be a model file of mambattn, however its header has no 'mambattn' entry"),
    "folder": (a_folder, "There is no model file at .* Check the path"),
    "flipped bit": (flipped_weight, "was changed after it was written: its checksum does not fit"),
    "edited JSON": (edited_json, "was changed after it was written: its checksum does not fit"),
    "broken JSON": (broken_json, "the 'mambattn' entry of the header must be JSON, however"),
    "forged checksum": (forged, "was changed after it was written: its checksum does not fit"),
    "no checksum": (unsigned, "lacks the entry 'sha256'"),
    "newer format": (
        setting("format_version", to=FORMAT_VERSION + 1),
        r"has format version 2, .* reads up to 1\. Install",
    ),
    "format of text": (setting("format_version", to="one"), "`format_version` must be a positive integer, .*'one'"),
    "unknown entry": (setting("extra", to=1), "has the unknown entry 'extra'. Known: format_version"),
    "missing entry": (removing("facts"), "lacks the entry 'facts'. Save the model again"),
    "unknown fact": (setting("facts", "extra", to=1), "has the unknown entry 'extra'. Known: params"),
    "missing fact": (removing("facts", "target"), "lacks the entry 'target'"),
    "no name": (setting("model", to=["MLPClassifier"]), r"`model` must be a name and `facts` an object, .*\['MLPCl"),
    "facts of text": (setting("facts", to="none"), "`facts` an object, however .* `facts` is a str"),
    "settings in a list": (setting("facts", "model_config", to=[]), "does not describe a MambAttentionClassifier"),
    "unknown class": (
        setting("model", to="XGBClassifier"),
        "holds a 'XGBClassifier', which this mambattn does not know",
    ),
    "unknown setting": (
        setting("facts", "model_config", "d_modle", to=3),
        "does not describe a MambAttentionClassifier: MambAttentionConfig has no setting 'd_modle'. Did you mean",
    ),
    "impossible setting": (setting("facts", "model_config", "d_model", to=-8), "`d_model` must be an integer"),
    "other widths": (
        setting("facts", "model_config", "d_model", to=16),
        "must be torch.float32 of shape .* however it is",
    ),
    "fewer classes": (
        setting("facts", "target", "labels", to=["no", "yes", "maybe"]),
        r"tensor 'head.layers.1.*' must be torch.float32 of shape \(3.*\), however it is torch.float32 of shape \(2",
    ),
    "preprocessing without a schema": (removing("facts", "preprocessing", "schema"), "A saved preprocessing must hold"),
    "column without a kind": (
        removing("facts", "preprocessing", "schema", "columns", 0, "kind"),
        "A saved column must hold 'name', 'kind' and 'categories'",
    ),
    "a category twice": (
        setting("facts", "preprocessing", "schema", "columns", 2, "categories", to=["a", "a"]),
        "and a list of distinct categories, however",
    ),
    "history without a loss": (removing("facts", "history", "val_loss"), "does not describe .*val_loss"),
    "missing tensor": (tensor(HEAD, None), f"lacks tensor '{HEAD.removeprefix('network.')}'"),
    "unknown tensor": (tensor("network.extra", torch.zeros(1)), "has the unknown tensor 'extra'"),
    "tensor of nothing known": (tensor("extra", torch.zeros(1)), "has the unknown tensor 'extra'"),
    "wrong shape": (tensor(HEAD, torch.zeros(2, 3)), r"must be torch.float32 of shape \(2, 8\), however .* \(2, 3\)"),
    "wrong type": (tensor(HEAD, torch.zeros(2, 8).double()), "must be torch.float32 .* however it is torch.float64"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(saved, name):
    spoil, message = BAD_FILES[name]
    with safe_open(saved, framework="pt") as opened:
        content = json.loads(opened.metadata()["mambattn"])
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    spoil(saved, content, tensors)
    with pytest.raises(DataError, match=message) as caught:
        load(saved)
    assert saved.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"There is no model file at .*nothing.* Check the path"):
        load(tmp_path / "nothing")


def test_wrong_class(saved):
    with pytest.raises(
        DataError, match=r"must hold a MLPRegressor, however it holds a MambAttentionClassifier. Use mamb"
    ):
        MLPRegressor.load(saved)


def test_a_model_file_by_itself(tmp_path):
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "scalar": torch.tensor(2), "flags": torch.tensor([True, False])}
    ModelFile(model="X", facts={"k": [1, 2.5, "ü"]}, tensors=tensors).write(tmp_path / "f")
    back = ModelFile.read(tmp_path / "f")
    assert (back.model, back.facts) == ("X", {"k": [1, 2.5, "ü"]})
    assert back.tensors.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(back.tensors[name], value)
        assert back.tensors[name].dtype == value.dtype
