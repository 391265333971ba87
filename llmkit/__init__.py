"""llmkit: pretrain and fine-tune your own language models, from raw books to a model you can trust."""

__version__ = "0.1.0"
