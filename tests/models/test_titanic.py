"""The first example of the documentation, on real rows with missing numbers and categories."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from mambattn.configs import MambAttentionConfig, PreprocessingConfig, TrainerConfig
from mambattn.models import MambAttentionClassifier, load

PREDICT = (
    "import sys, numpy as np, pandas as pd\n"
    "from mambattn.models import load\n"
    "frame = pd.read_csv(sys.argv[1], dtype={name: str for name in ('Pclass', 'Sex', 'Embarked', 'Deck')})\n"
    "np.save(sys.argv[3], load(sys.argv[2]).predict_proba(frame.drop(columns='Survived')))\n"
)


@pytest.fixture
def model():
    return MambAttentionClassifier(
        model_config=MambAttentionConfig(d_model=64, n_layers=4, n_attention_layers=1, n_mamba_per_attention=1,
                                         n_heads=8, last_layer="attn"),
        preprocessing_config=PreprocessingConfig(numerical_preprocessing="quantile"),
        trainer_config=TrainerConfig(lr=3e-4, batch_size=128, max_epochs=100),
        random_state=101,
    )  # fmt: skip


@pytest.fixture
def path(data_dir):
    return data_dir / "titanic.csv"


def check(model, path, tmp_path, auc):
    frame = pd.read_csv(path, dtype=dict.fromkeys(("Pclass", "Sex", "Embarked", "Deck"), str))
    X, y = frame.drop(columns="Survived"), frame["Survived"]
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, stratify=y, random_state=0)
    model.fit(X_train, y_train)
    assert model.schedule_ == "MAMAMA"
    assert roc_auc_score(y_test, model.predict_proba(X_test)[:, 1]) > auc
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict_proba(X), model.predict_proba(X))
    out = tmp_path / "out.npy"
    subprocess.run([sys.executable, "-c", PREDICT, str(path), str(tmp_path / "model"), str(out)], check=True)
    np.testing.assert_array_equal(np.load(out), model.predict_proba(X))


def test_with_few_epochs(model, path, tmp_path):
    model.set_params(trainer_config__max_epochs=4, trainer_config__lr=1e-3, model_config__d_state=16)
    check(model, path, tmp_path, auc=0.75)


@pytest.mark.slow
def test_as_it_stands(model, path, tmp_path):
    check(model, path, tmp_path, auc=0.8)
