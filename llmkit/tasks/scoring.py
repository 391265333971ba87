"""What scoring has in common, whatever the model does."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from transformers import PreTrainedModel

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Read
from llmkit.core.errors import UsageError
from llmkit.models.kernels.optimized import optimized
from llmkit.models.loading import max_context_length, put_on_device
from llmkit.text.documents import Document
from llmkit.training.memory import keep_freed_memory


def prepare_for_inference(network: PreTrainedModel, precision: str = "fp32") -> PreTrainedModel:
    """The same model on the device where it is to be used, not trained, with what makes it quick there."""
    put_on_device(network)
    optimized(network, precision, network.device)
    if network.device.type == "cpu":
        keep_freed_memory()
    return network


def choose_block_size(network: PreTrainedModel, settings: Evaluate, own: int | None, default: int) -> int:
    """The context in tokens: as asked for, as in the model's own training, its longest, or the default.

    Raises:
        UsageError: the model has fewer positions.
    """
    positions = max_context_length(network)
    block = settings.block_size or own or positions or default
    if positions is not None and block > positions:
        what = f"block_size {block} does not fit the model's {positions} positions"
        raise UsageError(what, where="evaluate.block_size", hint=f"set evaluate.block_size to {positions} or less")
    return block


def read_as_is(files: Sequence[str], read: Read) -> Iterator[Document]:
    """Documents uncleaned, but for lone surrogates, which JSON can spell and nothing can encode."""
    from llmkit.text.readers import read_documents  # with what reads web pages and archives
    from llmkit.text.sources import find_files

    for document in read_documents(find_files(files), read, []):
        yield replace(document, text=document.text.encode("utf-8", "replace").decode())
