"""llmkit: pretrain and fine-tune your own language models, from raw books to a model you can trust."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_AUTO_CLASSES = "transformers.models.auto.modeling_auto"
_OUR_MODELS = ("llmkit.models.recurrent", "llmkit.models.transformer")


class _RegisterOurModels(MetaPathFinder, Loader):
    """Once transformers loads its Auto classes, makes them know our models.

    Importing them here would load torch, and `llmkit --help` would take seconds; leaving it to our commands, a user's
    own `AutoModelForCausalLM.from_pretrained` would not know a model that llmkit trained.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != _AUTO_CLASSES:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        _register()


def _register() -> None:
    for name in _OUR_MODELS:
        import_module(name)


if _AUTO_CLASSES in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _RegisterOurModels())
