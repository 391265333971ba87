"""Names that other tools use, and llmkit's names for the same things; used only for hints, never as aliases.

Names are in lower case with underscores, so that one entry serves a recipe key, `-s key=value` and an option such as
`--max-steps`. A meaning is a setting (`section.key=value`, with a usual value), an option (`--out FOLDER`) or advice.
"""

_NAMES: dict[str, str] = {
    # learning rate and optimizer
    "optim.learning_rate=3e-4": "learning_rate lr max_lr peak_lr body_learning_rate head_learning_rate",
    "optim.min_learning_rate_ratio=0.1": "min_lr",
    "optim.weight_decay=0.1": "wd decay",
    "optim.name=adamw": "optim optimizer optimiser",
    "optim.adam_beta1=0.9, and optim.adam_beta2": "betas",
    "optim.adam_beta1=0.9": "beta1",
    "optim.adam_beta2=0.99": "beta2",
    "optim.adam_epsilon=1e-8": "eps epsilon",
    "optim.max_grad_norm=1.0": "clip grad_clip clip_grad_norm gradient_clip_val",
    "optim.schedule=cosine": "scheduler lr_scheduler lr_scheduler_type lr_schedule",
    "optim.warmup_steps=0.05": "warmup warmup_ratio",
    "optim.warmup_steps=100": "warmup_iters num_warmup_steps",
    # length of training
    "train.epochs=3": "epoch epochs n_epochs num_epochs max_epochs num_train_epochs num_iterations",
    "train.max_steps=1000": (
        "steps n_steps num_steps max_steps train_steps total_steps max_train_steps num_train_steps iters "
        "max_iters max_iter iterations"
    ),
    "train.max_minutes=10": "max_time max_minutes",
    "train.max_rows=1000": (
        "max_rows max_train_samples max_samples n_train train_size num_train_examples samples_per_label"
    ),
    "train.early_stopping=3": "patience early_stopping_patience",
    # batches
    "train.global_batch_size=32": (
        "batch batch_size bs train_batch_size per_device_train_batch_size per_gpu_train_batch_size global_batch_size"
    ),
    "train.micro_batch_size=8": "micro_batch_size device_batch_size",
    "evaluate.batch_size=32": "eval_batch_size per_device_eval_batch_size",
    "leave it out: it follows from train.global_batch_size and train.micro_batch_size": (
        "gradient_accumulation_steps gradient_accumulation accumulate_grad_batches"
    ),
    # length of sequences
    "train.block_size=256": (
        "block_size max_length max_len max_seq_length max_seq_len max_sequence_length model_max_length "
        "seq_length seq_len sequence_len sequence_length context context_length context_size ctx n_ctx"
    ),
    "model.n_positions=512": "max_position_embeddings",
    "generate.max_new_tokens=100": "generate.max_length max_tokens n_tokens num_tokens max_new_tokens",
    # seeds, evaluation, saving, logging
    "train.seed=1": "seed random_seed random_state data_seed manual_seed",
    "train.eval_steps=100": (
        "eval_steps eval_every eval_interval evaluation_strategy eval_strategy val_check_interval evaluation_steps "
        "evaluate_during_training evals_per_epoch"
    ),
    "train.save_steps=100": "save_steps save_every save_interval save_strategy saves_per_epoch save_model_every_epoch",
    "leave it out: the newest two checkpoints and the best one are kept": "save_total_limit",
    "leave it out: the best weights are always kept": "load_best_model_at_end save_best_model",
    "cls.metric=f1_macro": "metric_for_best_model scoring average average_type metric_name",
    "leave it out: llmkit knows the direction of each metric": "greater_is_better",
    "train.log_steps=10": "logging_steps log_every log_interval log_steps",
    "train.trackers=[tensorboard]": "report_to tensorboard",
    "train.trackers=[wandb]": "wandb wandb_project run_name",
    # speed and hardware
    "train.precision=bf16": "fp16 bf16 amp half mixed_precision dtype torch_dtype",
    "train.precision=tf32": "tf32",
    "train.compile=auto": "torch_compile",
    "train.gradient_checkpointing=true": "grad_checkpointing activation_checkpointing",
    "train.num_workers=2": "dataloader_num_workers workers n_jobs use_multiprocessing",
    "--engine zero2": "deepspeed",
    "--engine fsdp2": "fsdp",
    "--engine ddp": "ddp",
    "--nproc N": "local_rank gpus n_gpu num_gpus num_processes nproc_per_node",
    "leave it out: the GPU is used if there is one; CUDA_VISIBLE_DEVICES= trains on the CPU": "device cpu use_cpu",
    "leave it out: the GPU is used if there is one": "cuda use_cuda",
    "leave it out: rows of similar length are batched, and padding is left out": "group_by_length pad_to_max_length",
    "leave it out: pretraining packs documents, and classifiers leave out padding": "packing sample_packing",
    "leave it out: the fastest attention is chosen": "flash_attention attn_implementation",
    "leave it out: all rows of an epoch are used": "dataloader_drop_last",
    "leave it out: rows are shuffled in each epoch": "shuffle",
    "leave it out: train.micro_batch_size is found by trial": "auto_find_batch_size",
    "leave it out; CUDA_VISIBLE_DEVICES= trains on the CPU": "no_cuda",
    # model
    "model.family=gpt2; --model MODEL starts from weights": "model",
    "model.family=gpt2": "model_type architecture arch",
    "model.size=small": "model_size",
    "model.n_embd=256": "hidden_size hidden_dim d_model n_embd dim embed_dim width",
    "model.n_layer=4": "n_layer n_layers num_layers num_hidden_layers nlayers layers depth",
    "model.n_head=4": "n_head n_heads num_heads num_attention_heads nhead heads",
    "model.n_kv_head=2, with model.family=llama": "num_key_value_heads",
    "leave it out: it follows from model.n_embd": "intermediate_size n_inner",
    "model.dropout=0.1": "dropout hidden_dropout_prob embd_pdrop resid_pdrop",
    "model.attention_dropout=0.1": "attn_pdrop attention_probs_dropout_prob",
    "model.tie_embeddings=true": "tie_word_embeddings",
    "model.init_range=0.02, with model.init=normal": "initializer_range",
    "--model MODEL": "base_model model_name model_name_or_path pretrained_model checkpoint init_from",
    # tokenizer and text
    "prepare.tokenizer.vocab_size=8192": "vocab_size vocab n_vocab",
    "prepare.tokenizer.kind=byte-bpe": "kind tokenizer_type tokenizer_kind",
    "prepare.tokenizer.kind=byte-bpe; prepare.tokenizer.path loads an existing tokenizer": "tokenizer",
    "prepare.tokenizer.path=FOLDER": "tokenizer_name tokenizer_path",
    "prepare.tokenizer.lowercase=true": "do_lower_case lower_case",
    "prepare.split.test=0.05, or cls.test for labelled rows": "test_size",
    "prepare.split.validation=0.05, or cls.validation for labelled rows": "validation_split val_set_size val_size",
    "prepare.split.validation=0.05": "validation_split_percentage",
    "--text COLUMN; for `prepare`: -s prepare.read.field=COLUMN": (
        "text_column text_column_name text_column_names text_columns text_col text_field dataset_text_field x_col"
    ),
    "--text COLUMN": "sentence1_key",
    "--pair COLUMN": "sentence2_key",
    "--label COLUMN": "label_column label_column_name label_col labels_column target target_column label_names y_col",
    "--text COLUMN and --label COLUMN": "column_mapping",
    "--label-map 0=neg,1=pos": "id2label label2id label_mapping class_names",
    "--folds N": "cv n_splits k_folds num_folds n_folds",
    "leave it out: held-out rows are stratified by label": "stratify",
    "--tag-column N, or ner.tags=COLUMN": "ner_column ner_tags_column",
    "--delimiter CHARACTER": "sep delim",
    "--sheet NAME": "sheet_name",
    "cls.label_smoothing=0.1": "label_smoothing_factor",
    "cls.class_weights=balanced": "class_weight class_weights weight",
    "cls.positive_label=LABEL; its threshold is tuned on the validation rows": "threshold positive pos_label",
    "cls.long_texts=windows": "sliding_window",
    "cls.pooler=identity": "pooling",
    "leave it out: the labels are read from the data": "num_labels num_classes labels_list ignore_mismatched_sizes",
    "cls.labels=regression": "regression do_regression",
    "cls.labels=multi_label": "problem_type multi_target_strategy",
    "cls.lora_rank=8": "lora_r use_lora lora peft_config adapter lora_target_linear",
    "leave it out: LoRA has no dropout; model.dropout=0.1 sets the model's": "lora_dropout",
    "cls.freeze=encoder": "freeze_encoder freeze_layers freeze_base",
    "qa.stride=128": "doc_stride",
    "qa.max_question_length=64": "max_query_length",
    "qa.no_answer_threshold=0": "null_score_diff_threshold",
    "qa.n_best=20": "n_best_size",
    "leave it out: qa.unanswerable is true if train questions have no answer": "version_2_with_negative",
    "--question NAME": "question_column question_column_name",
    "--context NAME": "context_column context_column_name",
    "--answer NAME": "answer_column answer_column_name answers_column",
    "mlm.mlm_probability=0.15": "mask_prob masking_probability",
    # generation
    "generate.num_samples=3": "num_return_sequences n_samples num_samples",
    "generate.temperature=0.8; 0 is greedy": "do_sample",
    "generate.temperature=0.8": "temp",
    "--prompt TEXT": "start",
    "--data FILE; `prepare` takes its files as arguments": "input",
    # files and switches
    "give the recipe as the first argument of pretrain, finetune and plan, and with --recipe FILE elsewhere": (
        "recipe config config_file config_path cfg"
    ),
    "--out FOLDER": "output output_dir output_path out_dir save_dir run_dir logging_dir",
    "--data FOLDER": "data data_dir data_path dataset",
    "--data FOLDER; `prepare hf:NAME` reads a data set of the hub": (
        "dataset_name datasets task_name dataset_config_name"
    ),
    "--data FILE": "train_file train_data",
    "--validation FILE": "validation_file valid_file valid_data dev_file dev_data eval_file eval_data val",
    "--test FILE": "test_file test_data",
    "--overwrite": "overwrite_output_dir force",
    "--resume": "resume_from_checkpoint continue",
    "leave it out: pretrain and finetune train, evaluate and save the model": "do_train do_eval no_save",
    "leave it out: nothing is uploaded; `hf upload NAME RUN/model` does it": "push_to_hub hub_model_id",
    "leave it out: code of models is never run": "trust_remote_code",
    "leave it out: the hub's own login is used (`hf auth login`)": "use_auth_token hub_token",
    "leave it out: rows are not cached; HF_HOME moves the cache of the hub": "overwrite_cache cache_dir",
    "leave it out: the n-gram baseline is a linear model with fixed settings": "c ngram_range solver",
    "leave it out: unused columns are never read": "remove_unused_columns",
    "`llmkit predict MODEL --data FILE` predicts": "do_predict",
}
"""Names of keys and options in other tools, by meaning."""

_VALUES: dict[str, dict[str, str]] = {
    "task": {
        "clm": "causal_lm lm gpt text_generation",
        "mlm": "masked_lm fill_mask bert",
        "ner": "token_classification tagging tagger named_entity_recognition slots pos",
        "cls": "text_classification sequence_classification classification classify regression sentiment",
        "qa": "question_answering extractive_qa reading_comprehension squad cmrc",
    },
    "prepare.tokenizer.kind": {
        "byte-bpe": "bpe bbpe bytelevel gpt2 tiktoken sentencepiece spm unigram",
        "wordpiece": "bert",
        "char": "character characters",
        "word": "word_level whitespace",
    },
    "optim.name": {
        "adamw": "adamw_torch adamw_torch_fused adamw_hf adamw_8bit adamw_bnb_8bit",
    },
    "optim.schedule": {
        "cosine": "cosine_with_warmup cosine_with_restarts cosine_with_min_lr onecycle",
        "linear": "linear_with_warmup polynomial",
        "constant": "constant_with_warmup none",
        "plateau": "reduce_lr_on_plateau",
        "wsd": "warmup_stable_decay",
    },
    "train.precision": {
        "bf16": "fp16 float16 half 16 bfloat16",
        "auto": "mixed amp",
        "fp32": "float32 float full 32",
    },
    "train.engine": {
        "fsdp2": "fsdp",
        "zero2": "deepspeed zero",
        "ddp": "dp",
    },
    "train.compile": {
        "auto": "true",
        "none": "false",
    },
    "model.family": {
        "gpt2": "gpt gpt_2 distilgpt2",
        "llama": "llama2 llama3 mistral qwen2",
        "bert": "roberta distilbert bert_base_uncased",
        "gru": "rnn",
    },
    "model.size": {
        "tiny": "nano micro",
        "small": "124m 125m",
        "medium": "350m",
        "xl": "xlarge",
    },
    "cls.labels": {
        "single_label": "binary multiclass multi_class",
        "multi_label": "multilabel",
        "regression": "float",
    },
    "cls.class_weights": {
        "balanced": "auto true",
    },
    "cls.unseen_labels": {
        "ignore": "skip drop",
        "refuse": "error",
    },
}
"""Values of other tools, by the llmkit key and value that is closest to them."""

_COMMANDS: dict[str, str] = {
    "pretrain-clm, pretrain-mlm or finetune-cls": "train",
    "pretrain-mlm": "pretrain_bert",
    "pretrain-clm": "pretrain_gpt",
    "finetune-cls": "fine_tune",
    "finetune-cls, and predict for new rows": "classify",
    "finetune-ner": "ner tag tagger",
    "finetune-qa": "run_qa question_answering squad",
    "prepare": "tokenize preprocess",
    "eval": "evaluate test score",
    "predict or generate": "infer inference",
    "generate": "sample complete",
    "generate MODEL --prompt TEXT": "chat",
    "plan": "estimate",
    "doctor": "check",
    "demo": "init",
}
"""Names of commands in other tools, by meaning."""


def _by_name(table: dict[str, str]) -> dict[str, str]:
    return {name: meaning for meaning, names in table.items() for name in names.split()}


NAMES = _by_name(_NAMES)
VALUES = {key: _by_name(values) for key, values in _VALUES.items()}
COMMANDS = _by_name(_COMMANDS)


def normalize(name: str) -> str:
    """Convert a name to the form in the tables: `--Max-Steps` becomes `max_steps`."""
    return name.strip().lstrip("-").replace("-", "_").casefold()


def find_meaning(key: str) -> str | None:
    """Return the entry of NAMES for a key or an option, by its whole name or else by its last part."""
    name = normalize(key)
    return NAMES.get(name) or NAMES.get(name.rpartition(".")[2])


def find_value(key: str, value: object) -> str | None:
    """Return llmkit's value for another tool's value of a key."""
    return VALUES.get(key, {}).get(normalize(str(value)))
