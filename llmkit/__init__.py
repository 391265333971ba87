"""llmkit: pretrain and fine-tune your own language models, from raw books to a model you can trust.

The public Python API is `__all__`; docs/python.md shows it. Importing llmkit also registers its own architectures with
transformers' Auto classes, without loading transformers or torch.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from llmkit.api import Loaded, evaluate, finetune, generate, load, predict, prepare, pretrain
from llmkit.core.errors import DataError, EnvironmentFault, LlmkitError, ModelError, TrainingFailed, UsageError

__version__ = "0.2.0"

__all__ = [
    "DataError",
    "EnvironmentFault",
    "LlmkitError",
    "Loaded",
    "ModelError",
    "TrainingFailed",
    "UsageError",
    "__version__",
    "evaluate",
    "finetune",
    "generate",
    "load",
    "predict",
    "prepare",
    "pretrain",
]

_AUTO = "transformers.models.auto"
_LAYERS = "transformers.modeling_layers"
_MODELS = ("llmkit.models.recurrent", "llmkit.models.transformer")
_OURS = {
    f"{_AUTO}.configuration_auto": ("llmkit.models.configurations",),
    f"{_AUTO}.modeling_auto": _MODELS,
    _LAYERS: _MODELS,
}
"""Our modules to import after each of these transformers modules, so that its Auto classes know our architectures."""


class _ImportBehind(MetaPathFinder):
    """Imports our modules as soon as transformers has loaded its own.

    Importing them here would load torch, and `llmkit --help` would take seconds. If only our commands imported them, a
    user's `AutoModelForCausalLM.from_pretrained` would not know a model that llmkit trained.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name in _OURS else None
        if spec is not None and spec.loader is not None:
            spec.loader = _LoadBoth(spec.loader)
        return spec


class _LoadBoth(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        # _LAYERS imports the Auto classes before it defines the classes that our models need, so skip them until then.
        half_loaded = _LAYERS in sys.modules and not hasattr(sys.modules[_LAYERS], "GenericForSequenceClassification")
        for ours in () if half_loaded and _OURS[module.__name__] is _MODELS else _OURS[module.__name__]:
            import_module(ours)


sys.meta_path.insert(0, _ImportBehind())
for _theirs, _modules in _OURS.items():
    if _theirs in sys.modules:
        for _module in _modules:
            import_module(_module)


def __dir__() -> list[str]:
    return __all__
