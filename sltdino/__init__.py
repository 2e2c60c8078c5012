"""Pre-train ViT backbones with DINO and iBOT on face and hand crops of sign language."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sltdino.core.settings_files import load_settings
    from sltdino.exporting.formats import export
    from sltdino.pretraining import pretrain, resume
    from sltdino.pretraining.evaluate import evaluate

    __version__: str

__all__ = ["__version__", "evaluate", "export", "load_settings", "pretrain", "resume"]

_HOMES = {
    "pretrain": ("sltdino.pretraining", "pretrain"),
    "resume": ("sltdino.pretraining", "resume"),
    "load_settings": ("sltdino.core.settings_files", "load_settings"),
    "evaluate": ("sltdino.pretraining.evaluate", "evaluate"),
    "export": ("sltdino.exporting.formats", "export"),
}


def __getattr__(name: str) -> object:
    """Import what is asked for only now, so that `import sltdino` costs nothing (torch takes seconds)."""
    import importlib

    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("sltdino")
    except metadata.PackageNotFoundError:  # run from a checkout by the scripts in tools/
        return "0+checkout"
