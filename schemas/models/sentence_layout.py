"""How an encoder's states become a sentence's embedding, as the files that sentence-transformers reads.

    modules.json                       the order: transformer, pooling, normalising
    sentence_bert_config.json          where longer texts are cut
    1_Pooling/config.json              over which tokens, and how wide
    2_Normalize/                       empty; there if embeddings have length 1
    config_sentence_transformers.json  how embeddings are compared

The names of modules and settings are those of sentence-transformers 2 to 4, which 5 and 6 read as well.
https://sbert.net/docs/sentence_transformer/usage/custom_models.html#structure-of-sentence-transformer-models
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.cache.kinds.pooled import Pooling
from schemas.errors import ModelError
from schemas.models.files import brief, read_json
from schemas.storage.regular import read_text

MODULES = "modules.json"
_POOLING, _NORMALISE, _LENGTH = "1_Pooling", "2_Normalize", "sentence_bert_config.json"
_COMPARED = "config_sentence_transformers.json"
_PLAIN_NAME = re.compile(r"(\w[\w.-]*)?", re.ASCII)
_MODULE = "sentence_transformers.models."
# Our name, and that of sentence-transformers since 5.4; before, each mode was a switch of its own.
_MODES: dict[Pooling, tuple[str, str]] = {
    "cls": ("cls", "pooling_mode_cls_token"),
    "mean": ("mean", "pooling_mode_mean_tokens"),
    "last": ("lasttoken", "pooling_mode_lasttoken"),
}
_OTHER_SWITCHES = (
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
)


@dataclass(frozen=True)
class SentenceLayout:
    """From token states to one embedding."""

    pooling: Pooling
    normalise: bool  # to length 1
    max_tokens: int  # a longer text is cut, its last special token kept


def write_layout(folder: Path, layout: SentenceLayout, width: int) -> None:
    """Write the files beside those of the model in `folder`, whose states have `width` numbers."""
    modules = [("", "Transformer"), (_POOLING, "Pooling"), (_NORMALISE, "Normalize")][: 3 if layout.normalise else 2]
    for path, _ in modules:
        (folder / path).mkdir(exist_ok=True)
    described = [
        {"idx": number, "name": str(number), "path": path, "type": _MODULE + name}
        for number, (path, name) in enumerate(modules)
    ]
    switches = {switch: mode == layout.pooling for mode, (_, switch) in _MODES.items()}
    pooling = {"word_embedding_dimension": width} | switches | dict.fromkeys(_OTHER_SWITCHES, False)
    compared: dict[str, Any] = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    _write(folder / MODULES, described)
    _write(folder / _POOLING / "config.json", pooling)
    _write(folder / _LENGTH, {"max_seq_length": layout.max_tokens, "do_lower_case": False})
    _write(folder / _COMPARED, compared)


def read_layout(folder: Path, longest: int) -> SentenceLayout:
    """The layout that the files in `folder` describe; texts are cut at `longest` if they name no limit or a longer one.

    Raises ModelError: no such files, damaged ones, or a module, a way of pooling or a treatment of texts that cannot be
    honoured here.
    """
    if not (folder / MODULES).exists():
        raise ModelError(
            f"{folder} is not a sentence encoder: there is no {MODULES} in it that says how states are pooled"
        )
    names, paths = zip(*_modules(folder / MODULES), strict=True)
    if names not in (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize")):
        raise ModelError(
            f"{folder / MODULES} lists {', '.join(names)}; only Transformer, Pooling and then perhaps Normalize are "
            "known here, and without the others its embeddings would be others"
        )
    if paths[0]:
        raise ModelError(
            f"{folder / MODULES}: the transformer lies in {paths[0]}, and is only read from the folder itself"
        )
    _require_plain_texts(folder)
    return SentenceLayout(
        pooling=_pooling(folder / paths[1] / "config.json"),
        normalise=len(names) == 3,
        max_tokens=min(_max_tokens(folder) or longest, longest),
    )


def require_pooling(
    folder: Path, longest: int, pooling: Pooling, field: str, otherwise: str = ""
) -> SentenceLayout | None:
    """The layout of a sentence encoder's folder, which pools as `field` says; None where a folder has none.

    Raises ModelError: another pooling, with `otherwise` behind the way out, or what `read_layout` raises.
    """
    if not (folder / MODULES).exists():
        return None
    layout = read_layout(folder, longest)
    if layout.pooling != pooling:
        raise ModelError(
            f"{field} is {pooling}, but {folder} makes its embeddings by {layout.pooling} ({MODULES}): set it to "
            f"{layout.pooling}{otherwise}"
        )
    return layout


def _modules(path: Path) -> list[tuple[str, str]]:
    """The name of each module's class, and its folder below. Raises ModelError."""
    try:
        modules = json.loads(read_text(path))
        found = [(str(module["type"]).rsplit(".", 1)[-1], str(module["path"])) for module in modules]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {brief(error)}") from error
    if not found or not all(_PLAIN_NAME.fullmatch(folder) for _, folder in found):
        raise ModelError(f"{path} is damaged: it lists no modules, or modules outside its own folder")
    return found


def _require_plain_texts(folder: Path) -> None:
    """Raises ModelError if texts are changed before they are tokenized: lower-cased, or behind a prompt."""
    for name, key in ((_LENGTH, "do_lower_case"), (_COMPARED, "default_prompt_name")):
        value = read_json(folder / name).get(key) if (folder / name).exists() else None
        if value:
            raise ModelError(
                f"{folder / name} sets {key} to {value!r}: it changes texts before they are tokenized, which is not "
                "done here. Do so in your corpus and take it out of that file"
            )


def _max_tokens(folder: Path) -> int | None:
    # Since version 6 it is the tokenizer's alone.
    for name, key in ((_LENGTH, "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        value = read_json(folder / name).get(key) if (folder / name).exists() else None
        if isinstance(value, int):
            return value
    return None


def _pooling(path: Path) -> Pooling:
    config = read_json(path)
    chosen = config.get("pooling_mode")
    for mode, (name, switch) in _MODES.items():
        if chosen == name or (chosen is None and _switched_on(config) == [switch]):
            return mode
    raise ModelError(
        f"{path} pools by {chosen or _switched_on(config) or 'nothing'}; known here are cls, mean and last token"
    )


def _switched_on(config: dict[str, Any]) -> list[str]:
    return [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
