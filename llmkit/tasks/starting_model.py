"""Open the model that `--model` names, adapt it to the recipe, and compare its tokenizer with that of the data."""

from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.model import Model
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.errors import ModelError, UsageError
from llmkit.models.kernels.output_layer import AdaptiveSoftmax
from llmkit.models.loading import check_vocabulary, embedding_rows, resolve_model
from llmkit.tokens.prepared import Prepared
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, load_tokenizer
from llmkit.training.tracking import require_trackers

DROPOUTS = (
    *("resid_pdrop", "embd_pdrop", "hidden_dropout", "dropout", "hidden_dropout_prob"),
    *("embedding_dropout", "mlp_dropout"),
    *("classifier_dropout", "classifier_dropout_prob", "seq_classif_dropout", "summary_first_dropout"),
)
ATTENTION_DROPOUTS = ("attn_pdrop", "attention_dropout", "attention_probs_dropout_prob")
ATTENTION_MODULES = ("attn_dropout", "self.dropout", "attention.dropout", "attention_dropout", "attn.out_drop")
"""How GPT-2, BERT, DistilBERT, ALBERT and ModernBERT end the names of the modules that drop attention."""


def check_training(recipe: Recipe, *, has_validation: bool) -> None:
    """What can be refused before any model is loaded.

    Raises:
        UsageError, EnvironmentFault: what the recipe asks for cannot be had here.
    """
    if recipe.train.early_stopping and not has_validation:
        hint = "hold out a part: set the validation share above 0, in prepare.split or the section of the task"
        raise UsageError("early stopping needs a validation split", where="train.early_stopping", hint=hint)
    if recipe.optim.schedule == "plateau" and not has_validation:
        hint = "hold out a part, or set optim.schedule to cosine"
        raise UsageError("a rate annealed on plateaus needs a validation split", where="optim.schedule", hint=hint)
    require_trackers(recipe.train.trackers)


def check_no_windows(settings: Evaluate) -> None:
    """Refuse what only models with windows are scored by.

    Raises:
        UsageError: a block size or a stride.
    """
    if settings.stride is not None or settings.block_size is not None:
        what, hint = "a recurrent model reads the whole text before each token", "leave block_size and stride out"
        raise UsageError(what, where="evaluate.block_size, evaluate.stride", hint=hint)


def check_positions(recipe: Recipe, positions: int | None, *, resume: bool) -> None:
    """Refuse what does not fit the model's positions, None where it has no limit. A run that goes on keeps its recipe.

    Raises:
        UsageError: for `train.block_size` or `model.n_positions`.
    """
    if not resume and recipe.model.n_positions not in (None, positions):
        what = f"n_positions {recipe.model.n_positions} is not what the model has: {positions or 'no limit'}"
        raise UsageError(what, where="model.n_positions", hint="leave it out: only a new model is built by it")
    if positions is not None and recipe.block_size > positions:
        what = f"block_size {recipe.block_size} does not fit the model's {positions} positions"
        hint = f"set train.block_size to {positions} or less, or model.n_positions of a new model to more"
        raise UsageError(what, where="train.block_size", hint=hint)


def fit_to_data(
    name: str,
    open_model: Callable[[str], PreTrainedModel],
    section: Model,
    prepared: Prepared,
    tokenizer: PreTrainedTokenizerBase,
) -> PreTrainedModel:
    """An existing model with room for every token of the data, and with the recipe's dropout in place of its own.

    Raises:
        ModelError: the data was made with another tokenizer than the model's, or does not fit its embedding.
    """
    path = resolve_model(name)
    network = open_model(path)
    set_dropout(network, section)
    own = load_tokenizer(path)
    n_own, before = len(own), fingerprint_tokenizer(own)
    added = ensure_special_tokens(own)  # as `prepare` did with it
    same = prepared.fingerprint["tokenizer"] in (before, fingerprint_tokenizer(own))
    extends = own.get_vocab().items() <= tokenizer.get_vocab().items()
    if not same and not (section.resize_embeddings and extends):
        raise tokenizer_mismatch(prepared, before, name)
    if section.resize_embeddings or (added and n_own <= embedding_rows(network)):
        resize_embeddings(network, len(tokenizer), added)
    check_vocabulary(network, tokenizer, name)
    return network


def set_dropout(network: PreTrainedModel, section: Model) -> None:
    """Hub models carry the dropout of their first training; the recipe's holds here, and is saved with the model."""
    for names, rate in ((DROPOUTS, section.dropout), (ATTENTION_DROPOUTS, section.attention_dropout)):
        for key in names:
            if isinstance(getattr(network.config, key, None), float | int):
                setattr(network.config, key, rate)
    for path, module in list(network.named_modules()):
        if isinstance(module, nn.Dropout):
            module.p = section.attention_dropout if path.endswith(ATTENTION_MODULES) else section.dropout
        if isinstance(getattr(module, "attention_dropout", None), float | int):  # Llama's, and what is like it
            module.attention_dropout = section.attention_dropout
        if path.endswith("attn.out_drop") and type(module) is nn.Identity and section.attention_dropout:
            network.set_submodule(path, nn.Dropout(section.attention_dropout))  # as it is when it is opened again


def tokenizer_mismatch(prepared: Prepared, fingerprint: str, name: str) -> ModelError:
    """The error for data and a model whose tokenizers differ."""
    ours = prepared.fingerprint["tokenizer"]
    return ModelError(
        f"the data was made with another tokenizer ({ours[:12]}) than the model's ({fingerprint[:12]})",
        where=f"{prepared.path} and {name}",
        hint=f"prepare again with -s prepare.tokenizer.path={name}, or give eval the text files themselves",
    )


def resize_embeddings(network: PreTrainedModel, n_tokens: int, reasons: list[str]) -> None:
    """Make rows for tokens that the model's own tokenizer lacked, such as a pad token that is not the end of text."""
    rows = embedding_rows(network)
    if n_tokens > rows and isinstance(network.get_output_embeddings(), AdaptiveSoftmax):
        what = f"a model with an adaptive softmax cannot grow from {rows} to {n_tokens} tokens"
        raise ModelError(what, where="model.resize_embeddings", hint="train a new model with this tokenizer")
    if n_tokens > rows:
        network.resize_token_embeddings(n_tokens)
        console.info(
            f"the model's embedding grew from {rows} to {n_tokens} rows" + "".join(f"; {line}" for line in reasons)
        )
