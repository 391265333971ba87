"""Load the model of `--model`, adapt it to the recipe, and compare its tokenizer with the data's."""

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.model import Model
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.errors import ModelError, UsageError
from llmkit.models.kernels.output_layer import AdaptiveSoftmax
from llmkit.models.loading import check_vocabulary, embedding_rows, resolve_model
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.prepared import Prepared
from llmkit.tokens.tokenizer import count_ids, ensure_special_tokens, fingerprint_tokenizer
from llmkit.training.callbacks import require_trackers

DROPOUTS = (
    *("resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout", "hidden_dropout_prob"),
    *("embedding_dropout", "mlp_dropout"),
    *("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "summary_first_dropout"),
)
ATTENTION_DROPOUTS = ("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob")
OWN_DROPOUT = "llmkit_own_dropout"
"""Key in a checkpoint's configuration that stores the dropout rates from before training."""
ATTENTION_MODULES = ("attn_dropout", "self.dropout", "attention.dropout", "attention_dropout", "attn.out_drop")
"""Name suffixes of the attention dropout modules of GPT-2, BERT, DistilBERT, ALBERT and ModernBERT."""


def check_training(recipe: Recipe, *, has_validation: bool, split_key: str) -> None:
    """Check the recipe before a model is loaded; `split_key` is the recipe key of the validation fraction.

    Raises:
        UsageError: the recipe needs a validation split and there is none.
        EnvironmentFault: the package of an experiment tracker is not installed.
    """
    if recipe.train.early_stopping and not has_validation:
        hint = f"set {split_key} above 0"
        raise UsageError("early stopping needs a validation split", where="train.early_stopping", hint=hint)
    if recipe.optim.schedule == "plateau" and not has_validation:
        hint = f"set {split_key} above 0, or optim.schedule to cosine"
        raise UsageError("the plateau schedule needs a validation split", where="optim.schedule", hint=hint)
    require_trackers(recipe.train.trackers)


def check_no_windows(settings: Evaluate) -> None:
    """Check that no windows are set for a recurrent model.

    Raises:
        UsageError: evaluate.block_size or evaluate.stride is set.
    """
    if settings.stride is not None or settings.block_size is not None:
        what, hint = "a recurrent model uses all text before a token as context", "remove block_size and stride"
        raise UsageError(what, where="evaluate.block_size, evaluate.stride", hint=hint)


def check_positions(recipe: Recipe, positions: int | None, *, resume: bool) -> None:
    """Check that the recipe fits the model's `positions` (None if unlimited). `resume` skips the check of n_positions.

    Raises:
        UsageError: train.block_size or model.n_positions does not fit.
    """
    if not resume and recipe.model.n_positions not in (None, positions):
        what = f"n_positions {recipe.model.n_positions} differs from the model's: {positions or 'no limit'}"
        raise UsageError(what, where="model.n_positions", hint="remove it: it applies to new models only")
    if positions is not None and recipe.block_size > positions:
        what = f"block_size {recipe.block_size} does not fit the model's {positions} positions"
        hint = f"set train.block_size to {positions} or less, or train a new model with a higher model.n_positions"
        raise UsageError(what, where="train.block_size", hint=hint)


def fit_to_data(
    name: str,
    open_model: Callable[[str], tuple[PreTrainedModel, list[str]]],
    recipe: Recipe,
    prepared: Prepared,
    tokenizer: PreTrainedTokenizerBase,
) -> PreTrainedModel:
    """Load a model, set the recipe's dropout, and add embedding rows for new tokens of the data.

    `open_model` returns the model and notes for the user.

    Raises:
        ModelError: the data was prepared with another tokenizer, or has more tokens than the embedding has rows.
    """
    path = resolve_model(name)
    network, notes = open_model(path)
    own = load_tokenizer(path)
    n_own, before = len(own), fingerprint_tokenizer(own)
    added = ensure_special_tokens(own)  # as `prepare` does
    same = prepared.fingerprint["tokenizer"] in (before, fingerprint_tokenizer(own))
    extends = own.get_vocab().items() <= tokenizer.get_vocab().items()
    if not same and not (recipe.model.resize_embeddings and extends):
        raise tokenizer_mismatch(prepared, before, name, n_added=len(tokenizer) - len(own) if extends else 0)
    adapt_model(network, recipe, tokenizer, name, n_own, added)
    for note in notes:
        console.info(note)
    return network


def adapt_model(
    network: PreTrainedModel, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, name: str, n_own: int,
    reasons: list[str],
) -> None:  # fmt: skip
    """Set the recipe's dropout, and grow the embedding to the tokenizer's size where that is allowed.

    The embedding grows if the recipe allows it, or if it has a row for each of the `n_own` tokens of the model's own
    tokenizer, so that only special tokens are added. `reasons` is the result of `ensure_special_tokens`.

    Raises:
        ModelError: the tokenizer has more tokens than the embedding has rows.
    """
    set_dropout(network, recipe.model)
    for note in describe_dropout(network.config):
        console.info(note)
    if recipe.model.resize_embeddings or n_own <= embedding_rows(network):
        resize_embeddings(network, count_ids(tokenizer), recipe.train.seed, reasons)
    check_vocabulary(network, tokenizer, name)


def set_dropout(network: PreTrainedModel, section: Model) -> None:
    """Replace a model's dropout rates with the recipe's, in its modules and in its configuration.

    Some modules read the configuration in each forward pass. The configuration keeps the model's own rates under
    OWN_DROPOUT, for `restore_dropout`.
    """
    own: dict[str, float] = getattr(network.config, OWN_DROPOUT, None) or {}
    for names, rate in ((DROPOUTS, section.dropout), (ATTENTION_DROPOUTS, section.attention_dropout)):
        for key in names:
            if isinstance(before := getattr(network.config, key, None), float | int):
                own.setdefault(key, before)
                setattr(network.config, key, rate)
    setattr(network.config, OWN_DROPOUT, own)
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.Dropout):
            module.p = section.attention_dropout if path.endswith(ATTENTION_MODULES) else section.dropout
        if isinstance(getattr(module, "attention_dropout", None), float | int):  # Llama and similar models
            module.attention_dropout = section.attention_dropout
        if path.endswith("attn.out_drop") and type(module) is nn.Identity and section.attention_dropout:
            network.set_submodule(path, nn.Dropout(section.attention_dropout))


def restore_dropout(config: PreTrainedConfig) -> None:
    """Reset the dropout rates of the configuration to their values before `set_dropout`."""
    for key, rate in (getattr(config, OWN_DROPOUT, None) or {}).items():
        setattr(config, key, rate)
    if hasattr(config, OWN_DROPOUT):
        delattr(config, OWN_DROPOUT)


def describe_dropout(config: PreTrainedConfig) -> list[str]:
    """Return a note on the model's dropout rates that the recipe changes, if any."""
    own: dict[str, float] = getattr(config, OWN_DROPOUT, None) or {}
    notes = []
    for names, setting in ((DROPOUTS, "model.dropout"), (ATTENTION_DROPOUTS, "model.attention_dropout")):
        changed = {own[key]: getattr(config, key) for key in names if key in own and own[key] != getattr(config, key)}
        notes += [f"{setting} {new:g} replaces the model's {rate:g}" for rate, new in changed.items()]
    return ["; ".join(notes)] if notes else []


def tokenizer_mismatch(prepared: Prepared, fingerprint: str, name: str, n_added: int = 0) -> ModelError:
    """Return the error for data that was prepared with a tokenizer other than the model's.

    `n_added`: number of tokens that the data's tokenizer adds to the model's; 0 if it does not extend the model's.
    """
    ours = prepared.fingerprint["tokenizer"]
    if n_added > 0:
        return ModelError(
            f"the data's tokenizer extends the model's: {n_added:,} of its tokens have no embedding in the model",
            where=f"{prepared.path} and {name}",
            hint="set model.resize_embeddings=true to add an embedding row for each new token, "
            f"or prepare again with -s prepare.tokenizer.path={name}",
        )
    return ModelError(
        f"the tokenizer of the data ({ours[:12]}) differs from the model's ({fingerprint[:12]})",
        where=f"{prepared.path} and {name}",
        hint=f"prepare again with -s prepare.tokenizer.path={name}, or run eval on the text files",
    )


def resize_embeddings(network: PreTrainedModel, n_tokens: int, seed: int, reasons: list[str]) -> None:
    """Grow the embedding to `n_tokens` rows, initialized from `seed`, and log the `reasons`.

    The model's own tokenizer may lack tokens that `ensure_special_tokens` adds, such as a separate pad token.

    Raises:
        ModelError: the model has an adaptive softmax, which cannot grow.
    """
    rows = embedding_rows(network)
    if n_tokens > rows and isinstance(network.get_output_embeddings(), AdaptiveSoftmax):
        what = f"a model with an adaptive softmax cannot grow from {rows} to {n_tokens} tokens"
        raise ModelError(what, where="model.resize_embeddings", hint="train a new model with this tokenizer")
    if n_tokens > rows:
        torch.manual_seed(seed)
        network.resize_token_embeddings(n_tokens)
        console.info(
            f"the model's embedding grew from {rows} to {n_tokens} rows" + "".join(f"; {line}" for line in reasons)
        )
