"""Write docs/models.md: the classifiers of which `predict` gives the probabilities of plain transformers.

    python docs/make_models.py

Each family of text classifiers in transformers is built tiny with random weights. `predict` reads all rows in batches;
plain transformers reads one row at a time, without padding. The tests use the same table.
"""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from llmkit.config.evaluate import Evaluate
from llmkit.core.errors import LlmkitError
from llmkit.tables.labelled import LabelledRow
from llmkit.tasks.cls.prediction import open_scorer

PAGE = Path(__file__).with_name("models.md")
POSITIONS, N_LABELS, STD = 64, 3, 0.4
"""Maximum tokens of a model; labels; standard deviation of the weights, so large that outputs differ."""
TOLERANCE = 1e-5
"""Largest difference of two probabilities that counts as equal."""
BATCH_SIZES = (1, 3, 8)
WORDS = "the king saw a good knight and bad cook who sang in old house of his queen while dogs ran over green hills"


@dataclass(frozen=True)
class Family:
    """One architecture: its `model_type`, the template of its tokenizer, and fields of its configuration."""

    model_type: str
    template: str = "cls"
    """`cls`: [CLS] A [SEP] B [SEP]. `roberta`: <s> A </s></s> B </s>. `none`: A B. `end`: A </s> B </s>. `bos`: <s> A
    <s> B. `xlnet`: A <sep> B <sep> <cls>, padded on the left. `funnel`: as `cls`, with the type 2 for [CLS]."""
    fields: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Fields of `SHAPE` and others that the configuration does not take."""
    has_pad: bool = True
    std: float = STD


HEAD = """# Classifiers of other architectures

Made by `python docs/make_models.py`; do not edit. Tests hold the same table.

`predict` gives the probabilities of plain transformers. For each of {n} tiny models with random weights (standard
deviation 0.4, so that outputs differ; 0.2 for T5, mT5 and MobileBERT, which scale nothing), the page compares the
probabilities that `predict` gives to 12 texts and to 12 pairs of texts, in batches of 1, 3 and 8, with those of
transformers {version} for one row at a time without padding.
The rows have 0 to 90 words, and a model reads 64 tokens. *Equal* means a difference of at most 1e-5; the number is the
largest difference.
*Before* is the largest difference, of single texts and of pairs, in llmkit 0.1.0.

Texts that plain transformers cannot read are left out, such as those without a token, which GPT-2 and others refuse:
`predict` gives them the token that starts a text, and prints their number. *Refused* texts end `predict` with an
error too.

If padding changes a model's scores, or no row of this table tests the model, texts are read in groups of equal length,
without padding, in training too. This is exact, but slower if lengths differ.

An empty second text counts as a text here, as in batches of transformers; transformers ignores it in a call with one
row.

| family | `model_type` | single texts | pairs | before |
| --- | --- | --- | --- | --- |
"""
BEFORE = {
    "ConvBERT": "0.3, 0.06", "MobileBERT": "0.06, 0.05", "Funnel": "equal, 0.6", "BigBird": "0.6, 0.3",
    "FNet": "0.3, 0.3",
    "Nystromformer": "1.0, 1.0", "XLNet": "refused: block_size -1", "Llama with </s>, without a pad token": "0.9, 1.0",
    "Mistral without a pad token": "1.0, 0.8", "GPT-2 without a pad token": "equal; IndexError without a text",
    "BLOOM without a pad token": "equal; IndexError without a text", "I-BERT": "AttributeError", "YOSO": "0.5, 0.3",
    "Qwen2 without a pad token": "equal; IndexError without a text", "CANINE": "NotImplementedError",
    "Jamba": "ValueError", "BigBird-Pegasus": "0.4, 0.4",
}  # fmt: skip
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LLAMA = {"num_key_value_heads": 1, "head_dim": 16}
EOS_HEAD = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 2}
BART = EOS_HEAD | {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "forced_eos_token_id": None,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2}
T5 |= {"eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 0}
MODERN = {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "global_attn_every_n_layers": 2}
XLNET = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}
FAMILIES: dict[str, Family] = {
    "BERT": Family("bert"),
    "RoBERTa": Family("roberta", "roberta"),
    "XLM-RoBERTa": Family("xlm-roberta", "roberta"),
    "CamemBERT": Family("camembert", "roberta"),
    "DistilBERT": Family("distilbert", fields={"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "ALBERT": Family("albert", fields={"embedding_size": 16}),
    "ELECTRA": Family("electra", fields={"embedding_size": 16}),
    "DeBERTa": Family("deberta", fields={"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DeBERTa-v2": Family("deberta-v2", fields={"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DeBERTa-v3": Family(
        "deberta-v2",
        fields={
            "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "share_att_key": True,
            "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
        },
    ),
    "MPNet": Family("mpnet", "roberta"),
    "ERNIE": Family("ernie"),
    "RemBERT": Family("rembert", fields={"input_embedding_size": 16, "output_embedding_size": 16}),
    "RoFormer": Family("roformer"),
    "ConvBERT": Family("convbert", fields={"embedding_size": 32}),
    "SqueezeBERT": Family("squeezebert", fields={"embedding_size": 32} | dict.fromkeys(
        ("q_groups", "k_groups", "v_groups", "post_attention_groups", "intermediate_groups", "output_groups"), 1
    )),
    "MobileBERT": Family("mobilebert", fields={"embedding_size": 32, "intra_bottleneck_size": 16}, std=0.2),
    "Funnel": Family("funnel", "funnel", fields={
        "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1], "num_decoder_layers": 1,
    }, without=tuple(SHAPE)),
    "Longformer": Family("longformer", "roberta", {"attention_window": [8, 8]}),
    "BigBird": Family("big_bird", fields={"block_size": 4, "num_random_blocks": 1, "attention_type": "block_sparse"}),
    "FNet": Family("fnet"),
    "Nystromformer": Family("nystromformer", fields={"num_landmarks": 8, "segment_means_seq_len": 8}),
    "ModernBERT": Family("modernbert", fields=MODERN | {"local_attention": 8}),
    "XLNet": Family("xlnet", "xlnet", XLNET, ("max_position_embeddings",)),
    "GPT-2": Family("gpt2", "none"),
    "GPT-2 without a pad token": Family("gpt2", "none", has_pad=False),
    "GPT-2 with <s>, without a pad token": Family("gpt2", "bos", has_pad=False),
    "GPT-Neo": Family("gpt_neo", "none", {
        "attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 2, "window_size": 8,
    }),
    "GPT-NeoX": Family("gpt_neox", "none"),
    "GPT-J": Family("gptj", "none", {"rotary_dim": 8}),
    "OPT": Family("opt", "none", {"ffn_dim": 64, "word_embed_proj_dim": 32}),
    "BLOOM without a pad token": Family("bloom", "none", has_pad=False),
    "BLOOM": Family("bloom", "none"),
    "Llama": Family("llama", "end", LLAMA),
    "Llama with </s>, without a pad token": Family("llama", "end", LLAMA, has_pad=False),
    "Llama with </s> for padding": Family("llama", "end", LLAMA | {"pad_token_id": 2}, has_pad=False),
    "Mistral without a pad token": Family("mistral", "end", LLAMA | {"sliding_window": 8}, has_pad=False),
    "Mistral": Family("mistral", "end", LLAMA | {"sliding_window": 8}),
    "Qwen2 without a pad token": Family("qwen2", "none", LLAMA, has_pad=False),
    "Qwen2": Family("qwen2", "none", LLAMA),
    "Qwen3": Family("qwen3", "none", LLAMA),
    "Gemma": Family("gemma", "bos", LLAMA),
    "Gemma-2": Family("gemma2", "bos", LLAMA | {"sliding_window": 8}),
    "Phi-3": Family("phi3", "end", LLAMA),
    "Phi": Family("phi", "none"),
    "Falcon": Family("falcon", "none"),
    "GPT-BigCode": Family("gpt_bigcode", "none"),
    "MPT": Family("mpt", "none", {"d_model": 32, "n_heads": 2, "n_layers": 2, "max_seq_len": POSITIONS}, tuple(SHAPE)),
    "StarCoder2": Family("starcoder2", "none", LLAMA),
    "StableLM": Family("stablelm", "none", LLAMA),
    "OLMo-2": Family("olmo2", "none", LLAMA),
    "SmolLM3": Family("smollm3", "none", LLAMA),
    "Mixtral": Family("mixtral", "end", LLAMA | {"num_local_experts": 4}),
    "Qwen2-MoE": Family("qwen2_moe", "none", LLAMA | {"num_experts": 4, "moe_intermediate_size": 32}),
    "GPT": Family("openai-gpt", "none"),
    "CTRL": Family("ctrl", "none", {"dff": 64}),
    "BioGPT": Family("biogpt", "bos"),
    "XLM": Family("xlm", "roberta"),
    "FlauBERT": Family("flaubert", "roberta"),
    "I-BERT": Family("ibert", "roberta"),
    "Megatron-BERT": Family("megatron-bert"),
    "EuroBERT": Family("eurobert", "none", LLAMA),
    "NomicBERT": Family("nomic_bert"),
    "RoBERTa-PreLayerNorm": Family("roberta-prelayernorm", "roberta"),
    "XLM-RoBERTa-XL": Family("xlm-roberta-xl", "roberta"),
    "X-MOD": Family("xmod", "roberta", {"default_language": "en_XX", "languages": ["en_XX"]}),
    "RoCBert": Family("roc_bert", fields={"pronunciation_vocab_size": 64, "shape_vocab_size": 64}),
    "YOSO": Family("yoso", "t5"),
    "MRA": Family("mra", "t5"),
    "Data2VecText": Family("data2vec-text", "roberta"),
    "LUKE": Family("luke", "roberta", {"entity_vocab_size": 8, "entity_emb_size": 16}),
    "LayoutLM": Family("layoutlm"),
    "CANINE": Family("canine"),
    "ESM": Family("esm", "cls", {"mask_token_id": 4}),
    "Nemotron": Family("nemotron", "none", LLAMA),
    "Jamba": Family("jamba", "none", LLAMA | {"num_experts": 2, "use_mamba_kernels": False}),
    "BigBird-Pegasus": Family("bigbird_pegasus", "t5", BART | {"block_size": 4, "num_random_blocks": 1}),
    "PLBart": Family("plbart", "t5", BART),
    "T5": Family("t5", "t5", T5, std=0.2),  # its attention does not divide by the width
    "mT5": Family("mt5", "t5", T5 | {"tie_word_embeddings": False}, std=0.2),
    "BART": Family("bart", "roberta", BART),
    "mBART": Family("mbart", "roberta", BART),
}  # fmt: skip


def make_rows() -> tuple[list[str], list[str]]:
    """Texts of 1 to 90 words, one empty, one longer than the model reads; and the second texts of pairs."""
    draw = np.random.default_rng(0)
    words = WORDS.split()
    lengths = [3, 1, 12, 25, 0, 7, 90, 40, 2, 18, 5, 33]
    texts = [" ".join(draw.choice(words, length)) for length in lengths]
    pairs = [" ".join(draw.choice(words, length)) for length in [4, 2, 70, 9, 5, 0, 60, 12, 1, 8, 21, 3]]
    return texts, pairs


def make_tokenizer(template: str, has_pad: bool) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of `WORDS`; ids 0 to 4 are its special tokens."""
    first, last, pad, mask = (
        ("[CLS]", "[SEP]", "[PAD]", "[MASK]") if template in ("cls", "funnel") else ("<s>", "</s>", "<pad>", "<mask>")
    )
    tokens = [pad, first, last, "[UNK]", mask, *dict.fromkeys(WORDS.split())]
    backend = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    single, pair = {
        "cls": (f"{first} $A {last}", f"{first} $A {last} $B:1 {last}:1"),
        "funnel": (f"{first}:2 $A {last}", f"{first}:2 $A {last} $B:1 {last}:1"),
        "roberta": (f"{first} $A {last}", f"{first} $A {last} {last} $B {last}"),
        "xlnet": (f"$A {last} {first}:2", f"$A {last} $B:1 {last}:1 {first}:2"),
        "t5": (f"$A {last}", f"$A {last} $B {last}"),
        "end": (f"$A {last}", f"$A {last} $B {last}"),
        "bos": (f"{first} $A", f"{first} $A {first} $B"),
        "none": ("$A", "$A $B"),
    }[template]
    used = [(token, number) for number, token in ((1, first), (2, last)) if token in pair]
    if used:
        backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=used)
    special = {"unk_token": "[UNK]", "eos_token": last, "bos_token": first} | ({"pad_token": pad} if has_pad else {})
    if template in ("cls", "funnel", "roberta", "xlnet", "t5"):
        special |= {"mask_token": mask, "cls_token": first, "sep_token": last}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=POSITIONS, **special,
        padding_side="left" if template == "xlnet" else "right",
        model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if "$B:1" in pair else [])],
    )  # fmt: skip


def build(family: Family, folder: Path) -> None:
    """Save a classifier of the family with random weights, and its tokenizer."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(family.template, family.has_pad)
    offset = (
        2 if family.template == "roberta" and "d_model" not in family.fields else 0
    )  # positions start after padding
    fields = SHAPE | {
        "vocab_size": len(tokenizer) + 8,
        "max_position_embeddings": POSITIONS + offset,
        "num_labels": N_LABELS,
    }
    fields |= {"pad_token_id": tokenizer.pad_token_id, **family.fields}
    if offset:
        fields |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    for name in family.without:
        del fields[name]
    config = AutoConfig.for_model(family.model_type, **fields)
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=family.std) if weight.ndim > 1 else weight.add_(torch.randn_like(weight) * STD / 4)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def read_plainly(folder: Path, texts: Sequence[str], pairs: Sequence[str] | None) -> list[NDArray[np.float64] | str]:
    """Probabilities of each row by transformers alone, one row at a time; the error's type for a row that fails."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    found: list[NDArray[np.float64] | str] = []
    for number, text in enumerate(texts):
        # As batches of one row: given alone, transformers takes an empty second text for none.
        given = ([text],) if pairs is None else ([text], [pairs[number]])
        encoded = tokenizer(*given, truncation=True, max_length=POSITIONS, return_tensors="pt")
        try:
            with torch.inference_mode():
                logits = model(**encoded).logits[0].double()
            found.append(logits.softmax(-1).numpy())
        except Exception as error:
            found.append(type(error).__name__)
    return found


def read_with_llmkit(
    folder: Path, texts: Sequence[str], pairs: Sequence[str] | None, batch_size: int
) -> NDArray[np.float64]:
    """Probabilities (rows, labels) as `predict` gives them."""
    scorer = open_scorer(str(folder), Evaluate(batch_size=batch_size))
    columns = ("text", None if pairs is None else "pair", None)
    scorer = scorer.with_format(scorer.format.with_columns(type(scorer.format.columns)(*columns)))
    rows = [
        LabelledRow(line=number, text=text, pair=None if pairs is None else pairs[number], label=None, cells={})
        for number, text in enumerate(texts)
    ]
    return np.concatenate([outputs for _, _, outputs in scorer.score(rows)])


def try_one(folder: Path) -> str | None:
    """Why llmkit refuses the model, or None."""
    try:
        read_with_llmkit(folder, ["the king saw a knight"], None, 1)
    except LlmkitError as error:
        return error.problems[0].what
    return None


def compare(folder: Path, *, in_pairs: bool, batch_sizes: Sequence[int] = BATCH_SIZES) -> str:
    """`equal` with the largest difference from plain transformers, or `refused` with llmkit's error."""
    texts, pairs = make_rows()
    seconds = pairs if in_pairs else None
    plain = read_plainly(folder, texts, seconds)
    if (refused := try_one(folder)) is not None:
        return f"refused: {refused}"
    works = [number for number, each in enumerate(plain) if not isinstance(each, str)]
    failed = f"; {len(texts) - len(works)} left out" if len(works) < len(texts) else ""
    worst = 0.0
    for batch_size in batch_sizes:
        try:
            found = read_with_llmkit(folder, texts, seconds, batch_size)[works]
        except LlmkitError as error:
            if not works or len(works) == len(texts):
                return f"refused: {error.problems[0].what}"
            kept = None if seconds is None else [seconds[row] for row in works]
            found = read_with_llmkit(folder, [texts[row] for row in works], kept, batch_size)
            failed = f"; {len(texts) - len(works)} refused"
        for mine, row in zip(found, works, strict=True):
            worst = max(worst, float(np.abs(mine - plain[row]).max()))
    return f"{'equal' if worst <= TOLERANCE else 'DIFFERENT'}, {worst:.0e}{failed}"


def measure(family: Family, *, batch_sizes: Sequence[int] = BATCH_SIZES) -> tuple[str, str]:
    """The results of `compare` for single texts and for pairs."""
    with tempfile.TemporaryDirectory() as folder:
        build(family, Path(folder))
        single, pair = (compare(Path(folder), in_pairs=each, batch_sizes=batch_sizes) for each in (False, True))
        return single, pair


def make_page() -> str:
    """The whole page."""
    lines = []
    for name, family in FAMILIES.items():
        single, pair = measure(family)
        before = BEFORE.get(name, "equal")
        lines.append(f"| {name} | `{family.model_type}` | {single} | {pair} | {before} |")
        print(lines[-1], flush=True)
    return HEAD.format(n=len(FAMILIES), version=transformers.__version__) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    PAGE.write_text(make_page(), encoding="utf-8")
