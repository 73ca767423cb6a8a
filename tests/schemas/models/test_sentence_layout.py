"""Folders of sentence-transformers: what they say is read, and what cannot be honoured is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import ModelError
from schemas.models.sentence_layout import SentenceLayout, read_layout, require_pooling, write_layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_layout(tmp_path, SentenceLayout("cls", True, 12), 16)
    return tmp_path


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def modules(folder: Path, *names: str, paths: dict[str, str] | None = None) -> None:
    listed: list[dict[str, Any]] = [
        {"idx": i, "name": str(i), "path": (paths or {}).get(name, f"{i}_{name}" if i else ""), "type": f"a.b.{name}"}
        for i, name in enumerate(names)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))


def test_what_is_written_is_read(folder: Path) -> None:
    assert read_layout(folder, 99) == SentenceLayout("cls", True, 12)
    assert read_layout(folder, 10).max_tokens == 10


@pytest.mark.parametrize(
    "names",
    [
        ("Transformer", "Pooling", "Dense", "Normalize"),
        ("Transformer", "Pooling", "Dense"),
        ("Transformer", "Pooling", "LayerNorm"),
        ("Transformer", "WordWeights", "Pooling"),
        ("Transformer",),
        ("CLIPModel",),
    ],
)
def test_other_modules_are_refused_by_name(folder: Path, names: tuple[str, ...]) -> None:
    modules(folder, *names)
    with pytest.raises(ModelError, match=rf"modules\.json lists {', '.join(names)}; only Transformer, Pooling"):
        read_layout(folder, 99)


def test_a_transformer_elsewhere_and_paths_outside_are_refused(folder: Path) -> None:
    modules(folder, "Transformer", "Pooling", paths={"Transformer": "0_Transformer"})
    with pytest.raises(ModelError, match="the transformer lies in 0_Transformer"):
        read_layout(folder, 99)
    for path in ("../1_Pooling", "/etc", "a/b"):
        modules(folder, "Transformer", "Pooling", paths={"Pooling": path})
        with pytest.raises(ModelError, match="modules outside its own folder"):
            read_layout(folder, 99)


@pytest.mark.parametrize("content", ["", "[", "{}", "[]", "[1]", '[{"type": "x"}]', "[" * 100_000, "null"])
def test_damaged_modules(folder: Path, content: str) -> None:
    (folder / "modules.json").write_text(content)
    with pytest.raises(ModelError, match=r"modules\.json is damaged"):
        read_layout(folder, 99)


def test_texts_that_are_changed_first_are_refused(folder: Path) -> None:
    edit(folder / "config_sentence_transformers.json", prompts={"query": "query: "}, default_prompt_name="query")
    with pytest.raises(ModelError, match="sets default_prompt_name to 'query': it changes texts before they are token"):
        read_layout(folder, 99)
    edit(folder / "config_sentence_transformers.json", default_prompt_name=None)
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    with pytest.raises(ModelError, match="sets do_lower_case to True"):
        read_layout(folder, 99)


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    import os

    (folder / "modules.json").unlink()
    os.mkfifo(folder / "modules.json")
    with pytest.raises(ModelError, match=r"modules\.json is damaged: .*pipe"):
        read_layout(folder, 99)


def test_a_recipe_pools_as_it_is_asked_to(tmp_path: Path) -> None:
    assert require_pooling(tmp_path, 8, "mean", "student.pooling") is None  # a folder without modules.json
    layout = SentenceLayout("cls", True, 8)
    write_layout(tmp_path, layout, 32)
    assert require_pooling(tmp_path, 8, "cls", "student.pooling") == layout
    with pytest.raises(ModelError) as refused:
        require_pooling(tmp_path, 8, "mean", "states.pooled.pooling", ", or pool another layer")
    assert str(refused.value) == (
        f"states.pooled.pooling is mean, but {tmp_path} makes its embeddings by cls (modules.json): set it to cls, or "
        "pool another layer"
    )
