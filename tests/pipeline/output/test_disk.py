"""Room on the disk, teacher/ included."""

from pathlib import Path

import pytest

from pipeline.corpus.plan import Plan
from pipeline.output import disk
from pipeline.output.disk import has_room, require_room, teacher_bytes
from pipeline.teacher.files import save_teacher_files
from schemas.cache.manifest import CorpusRecord
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from schemas.errors import ResourceError
from tests.teachers import make_teacher
from tests.tiny import tiny_bert, tiny_llama, tiny_tokenizer


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["causal", "encoder"])
@pytest.mark.parametrize("embeddings", [False, True])
def test_what_teacher_takes_is_foreseen(tmp_path: Path, kind: str, dtype: str, embeddings: bool) -> None:
    model = tmp_path / "model"
    if kind == "causal":
        tiny_llama(model, tiny_tokenizer(model, "bpe"))
    else:
        tiny_bert(model, tiny_tokenizer(model, "wordpiece"))
    given = {"model": str(model), "kind": kind, "dtype": dtype, "keep_embeddings": embeddings, "max_tokens": 64}
    config = TeacherConfig.model_validate(given)
    teacher = make_teacher(config, StatesConfig(hidden=["last"], mass=[]), model, None)
    save_teacher_files(teacher, tmp_path / "teacher")
    written = sum(path.stat().st_size for path in (tmp_path / "teacher").glob("*.safetensors"))
    headers = 100 * len(list((tmp_path / "teacher").glob("*.safetensors")))
    assert written - headers <= teacher_bytes(teacher.record) <= written
    assert (teacher_bytes(teacher.record) > 0) == (kind == "causal" or embeddings)


def test_teacher_needs_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan((), CorpusRecord(samples=1, empty=0, sha256="0" * 64))
    monkeypatch.setattr(disk, "free_bytes", lambda cache: disk.RESERVE_BYTES + 1000)
    assert has_room(tmp_path, plan, [], [], beside=1000) and not has_room(tmp_path, plan, [], [], beside=1001)
    require_room(tmp_path, plan, [], [], beside=1000)
    with pytest.raises(ResourceError, match=r"about 2\.0 kB with the 2\.0 kB of teacher/"):
        require_room(tmp_path, plan, [], [], beside=2000)
