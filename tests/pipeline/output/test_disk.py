"""Room on the disk, teacher/ included."""

from pathlib import Path

import pytest

from pipeline.output import disk
from pipeline.output.disk import codec_bytes, has_room, require_room, teacher_bytes
from pipeline.request.request import make_request
from pipeline.teacher.files import save_teacher_files
from schemas.cache.manifest import read_manifest
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from schemas.errors import ResourceError
from tests.caches import encoded_cache, encoded_extraction
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


def test_what_codecs_take_is_foreseen(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path)
    written = sum(path.stat().st_size for path in (cache / "codecs").iterdir())
    assert codec_bytes(read_manifest(cache)) == pytest.approx(written, rel=0.5)


def test_what_lies_beside_shards_needs_room_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = make_request(encoded_extraction(tmp_path))
    needed = request.predict_bytes()
    monkeypatch.setattr(disk, "free_bytes", lambda cache: disk.RESERVE_BYTES + needed + 1000)
    assert has_room(tmp_path, needed + 1000) and not has_room(tmp_path, needed + 1001)
    units = len(request.plan.units)
    require_room(tmp_path, needed, units, units, beside=1000)
    with pytest.raises(ResourceError, match=r"with the 2\.0 kB of what lies beside them.*smaller states\.encoding"):
        require_room(tmp_path, needed, units, units, beside=2000)
    require_room(tmp_path, 0, 0, units, beside=2000)
