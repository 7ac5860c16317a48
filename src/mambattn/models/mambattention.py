"""MambAttention: classifier and regressor."""

from __future__ import annotations

from mambattn.configs import MambAttentionConfig
from mambattn.models._classifier import TabularClassifier
from mambattn.models._regressor import TabularRegressor

__all__ = ["MambAttentionClassifier", "MambAttentionRegressor"]


class MambAttentionClassifier(TabularClassifier):
    """Mamba and attention layers, one after the other, over one token a column.

    A token a column goes through the stack of `MambAttentionConfig.layer_schedule`: Mamba (arXiv 2312.00752) where it
    says ``M``, attention where it says ``A``, each with a norm and a residual. The tokens are then pooled, normed and
    read by an MLP head.

    Parameters
    ----------
    model_config : MambAttentionConfig or None, default None
        Settings of the network; None is the defaults.
    preprocessing_config : PreprocessingConfig or None, default None
        How columns become numbers; None is the defaults.
    trainer_config : TrainerConfig or None, default None
        How the network is trained; None is the defaults.
    random_state : int, numpy.random.RandomState or None, default None
        Seed of the split, the weights, the order of the rows and dropout. Two fits with one integer are equal to the
        bit on one machine with as many threads.
    class_weight : dict, "balanced" or None, default None
        Weights of the classes in the loss; "balanced" gives each class the same total weight.

    Attributes
    ----------
    classes_ : numpy.ndarray
        The labels, sorted, in their own type.
    n_features_in_ : int
        Columns of the table.
    feature_names_in_ : numpy.ndarray
        Their names, where they are all text.
    network_ : mambattn.tabular.TabularNetwork
        The trained network.
    preprocessor_ : mambattn.tabular.TablePreprocessor
        The fitted preprocessing.
    history_ : mambattn.training.History
        Learning curves.
    schedule_ : str or None
        Schedule of the stack, one letter a layer.
    n_parameters_ : int
        How many numbers were trained.
    fit_seconds_ : float
        Wall-clock time of the fit.
    stopped_by_ : str
        What ended the training: "max_epochs", "patience", "max_seconds" or "interrupt".

    Examples
    --------
    >>> from mambattn.configs import MambAttentionConfig, TrainerConfig
    >>> table = [[0.0, "a"], [1.0, "b"]] * 10
    >>> labels = ["no", "yes"] * 10
    >>> model = MambAttentionClassifier(
    ...     model_config=MambAttentionConfig(d_model=16, n_layers=1, d_state=8, n_heads=4),
    ...     trainer_config=TrainerConfig(lr=0.01, max_epochs=30, verbose=0),
    ...     random_state=0,
    ... ).fit(table, labels)
    >>> model.predict([[1.0, "b"], [0.0, "a"]]).tolist()
    ['yes', 'no']
    >>> model.schedule_
    'MA'
    """

    _model_config = MambAttentionConfig


class MambAttentionRegressor(TabularRegressor):
    """Mamba and attention layers, one after the other, over one token a column.

    A token a column goes through the stack of `MambAttentionConfig.layer_schedule`: Mamba (arXiv 2312.00752) where it
    says ``M``, attention where it says ``A``, each with a norm and a residual. The tokens are then pooled, normed and
    read by an MLP head.

    Parameters
    ----------
    model_config : MambAttentionConfig or None, default None
        Settings of the network; None is the defaults.
    preprocessing_config : PreprocessingConfig or None, default None
        How columns become numbers; None is the defaults.
    trainer_config : TrainerConfig or None, default None
        How the network is trained; None is the defaults.
    random_state : int, numpy.random.RandomState or None, default None
        Seed of the split, the weights, the order of the rows and dropout. Two fits with one integer are equal to the
        bit on one machine with as many threads.

    Attributes
    ----------
    target_mean_, target_scale_ : float
        Mean and standard deviation of the training target, which is standardised inside.
    n_features_in_ : int
        Columns of the table.
    feature_names_in_ : numpy.ndarray
        Their names, where they are all text.
    network_ : mambattn.tabular.TabularNetwork
        The trained network.
    preprocessor_ : mambattn.tabular.TablePreprocessor
        The fitted preprocessing.
    history_ : mambattn.training.History
        Learning curves.
    schedule_ : str or None
        Schedule of the stack, one letter a layer.
    n_parameters_ : int
        How many numbers were trained.
    fit_seconds_ : float
        Wall-clock time of the fit.
    stopped_by_ : str
        What ended the training: "max_epochs", "patience", "max_seconds" or "interrupt".

    Examples
    --------
    >>> from mambattn.configs import MambAttentionConfig, TrainerConfig
    >>> table = [[0.0, "a"], [1.0, "b"]] * 10
    >>> target = [10.0, 20.0] * 10
    >>> model = MambAttentionRegressor(
    ...     model_config=MambAttentionConfig(d_model=16, n_layers=1, d_state=8, n_heads=4),
    ...     trainer_config=TrainerConfig(lr=0.01, max_epochs=30, verbose=0),
    ...     random_state=0,
    ... ).fit(table, target)
    >>> bool(abs(model.predict([[1.0, "b"]])[0] - 20) < 3)
    True
    >>> model.schedule_
    'MA'
    """

    _model_config = MambAttentionConfig
