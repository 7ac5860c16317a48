"""The whole network of a tabular model, and how one is built from its settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambattn._errors import ConfigError
from mambattn.configs import MLPConfig, PreprocessingConfig, ResNetConfig, TabularModelConfig
from mambattn.tabular.backbones import MLPBackbone, ResNetBackbone, TokenBackbone, TokenModelConfig
from mambattn.tabular.batch import TableBatch
from mambattn.tabular.heads import Head
from mambattn.tabular.preprocessing import TablePreprocessor
from mambattn.tabular.tokenizer import TableTokenizer
from mambattn.training import seeded

__all__ = ["TabularNetwork", "build_network", "make_preprocessor"]


class TabularNetwork(nn.Module):
    """Tokenizer, backbone and head, one after the other.

    Parameters
    ----------
    tokenizer : TableTokenizer
        Rows to tokens.
    backbone : TokenBackbone, ResNetBackbone or MLPBackbone
        Tokens to one vector a row.
    head : Head
        Vectors to outputs.

    Examples
    --------
    >>> from mambattn.configs import MLPConfig
    >>> preprocessor = TablePreprocessor().fit([[1.0, "a"], [2.0, "b"], [3.0, "a"]])
    >>> network = build_network(MLPConfig(d_model=8), preprocessor, 1, torch.Generator().manual_seed(0))
    >>> network(preprocessor.transform([[1.5, "b"]])).shape
    torch.Size([1, 1])
    """

    def __init__(
        self, tokenizer: TableTokenizer, backbone: TokenBackbone | ResNetBackbone | MLPBackbone, head: Head
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.backbone = backbone
        self.head = head

    def forward(self, batch: TableBatch) -> Tensor:
        """Give the outputs of some rows.

        Parameters
        ----------
        batch : TableBatch
            The rows.

        Returns
        -------
        Tensor of shape (rows, n_outputs)
            Logits, or numbers in the units of the training targets.
        """
        return self.head(self.backbone(self.tokenizer(batch)))


def make_preprocessor(
    model_config: TabularModelConfig, preprocessing_config: PreprocessingConfig, random_state: int
) -> TablePreprocessor:
    """Make the preprocessor that a model needs, not fitted.

    Parameters
    ----------
    model_config : TabularModelConfig
        Settings of the model.
    preprocessing_config : PreprocessingConfig
        Settings of the preprocessing.
    random_state : int
        Seed.

    Returns
    -------
    TablePreprocessor
        The preprocessor; with embedding_type "ple" it also finds the bins of the tokenizer.

    Raises
    ------
    ConfigError
        If the two settings contradict each other: one encoding of numbers upon another.

    Examples
    --------
    >>> from mambattn.configs import MLPConfig
    >>> make_preprocessor(MLPConfig(embedding_type="ple"), PreprocessingConfig(), 0).embedding_bins
    32
    """
    kind, encoding = model_config.embedding_type, preprocessing_config.numerical_preprocessing
    if kind != "linear" and encoding in ("ple", "splines"):
        raise ConfigError(
            f"`embedding_type` {kind!r} encodes single numbers, however numerical_preprocessing={encoding!r} gives "
            "vectors. Use embedding_type='linear', or numerical_preprocessing='quantile'."
        )
    bins = model_config.n_bins if kind == "ple" else None
    return TablePreprocessor(preprocessing_config, random_state, embedding_bins=bins)


def build_network(
    model_config: TabularModelConfig, preprocessor: TablePreprocessor, n_outputs: int, generator: torch.Generator
) -> TabularNetwork:
    """Build the network of a model for the table that its preprocessor was fitted on.

    Parameters
    ----------
    model_config : TabularModelConfig
        Settings of any of the five models.
    preprocessor : TablePreprocessor
        A fitted preprocessor, from `make_preprocessor` with the same settings.
    n_outputs : int
        Outputs a row.
    generator : torch.Generator
        Whence all initial weights and the shuffle come; torch's global generators stay as they are.

    Returns
    -------
    TabularNetwork
        The network, on the CPU, in training mode.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with seeded(seed):
        schema = preprocessor.schema
        tokenizer = TableTokenizer(
            schema,
            model_config.d_model,
            width=preprocessor.width,
            embedding_type=model_config.embedding_type,
            edges=preprocessor.embedding_edges,
            n_frequencies=model_config.n_frequencies,
            frequency_scale=model_config.frequency_scale,
            categorical_preprocessing=preprocessor.config.categorical_preprocessing,
        )
        backbone = _build_backbone(model_config, schema.n_columns)
        head = Head(backbone.d_out, model_config.head_layer_sizes, n_outputs, dropout=model_config.head_dropout)
        return TabularNetwork(tokenizer, backbone, head)


def _build_backbone(config: TabularModelConfig, n_tokens: int) -> TokenBackbone | ResNetBackbone | MLPBackbone:
    """Build the backbone of a model."""
    shared: dict[str, Any] = {"norm": config.norm, "dropout": config.dropout}
    d_in = n_tokens * config.d_model
    if isinstance(config, ResNetConfig):
        return ResNetBackbone(d_in, config.d_hidden, config.n_layers, **shared)
    if isinstance(config, MLPConfig):
        return MLPBackbone(d_in, config.layer_sizes, **shared)
    assert isinstance(config, TokenModelConfig)
    return TokenBackbone(config, n_tokens)
