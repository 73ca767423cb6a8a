"""A tokenizer that keeps: the same texts from memory, from disk and from another run, and a word where it cannot."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from schemas.cache.samples import CachedSample
from schemas.errors import TokenizerError
from schemas.storage.lock import acquire
from tests.trainer.alignment.characters import characters
from tests.trainer.kept_texts.conversations import conversation_tokenizer, conversations
from tests.trainer.kept_texts.made import IDENTITY, Counting, samples
from tests.trainer.kept_texts.same import require_same
from trainer.alignment.student_text import StudentText
from trainer.kept_texts.folder import LOCK, Busy, KeptFolder
from trainer.kept_texts.kept_texts import KeptTexts
from trainer.student.sentence_tokens import SentenceTexts


def kept(tmp_path: Path, segment_bytes: int = 8 << 20) -> tuple[KeptTexts, Counting]:
    counting = Counting()
    return KeptTexts(counting, KeptFolder(tmp_path, IDENTITY), segment_bytes), counting


def test_texts_are_made_once_and_are_the_same_from_memory_and_disk(tmp_path: Path) -> None:
    wanted, every = Counting()(samples(20)), samples(20)
    texts, counting = kept(tmp_path)
    for order in (slice(None), slice(None, None, -1), slice(3, 9)):
        require_same(texts(every[order]), wanted[order])
    assert len(counting.asked) == 20 and not list(tmp_path.iterdir())
    texts.publish()
    again, second = kept(tmp_path)
    require_same(again(every), wanted)
    more = samples(25)
    require_same(again(more[::-1]), Counting()(more)[::-1])
    assert second.asked == ["s24", "s23", "s22", "s21", "s20"]


def test_segments_are_published_as_they_fill_and_shared_while_both_run(tmp_path: Path) -> None:
    (first, _), (second, counting) = kept(tmp_path, 500), kept(tmp_path, 500)
    for start in range(0, 40, 4):
        first(samples(4, start))
    assert len(list(tmp_path.glob("*/*.arrow"))) >= 5
    second(samples(4))  # fills a segment of its own: then it looks
    asked = len(counting.asked)
    require_same(second(samples(24, 4)), Counting()(samples(24, 4)))
    assert (asked, len(counting.asked)) == (4, 4)
    second.publish()
    assert len(KeptFolder(tmp_path, IDENTITY)) == KeptFolder(tmp_path, IDENTITY)._rows


def test_the_same_text_twice_in_a_batch_is_cut_once(tmp_path: Path) -> None:
    texts, counting = kept(tmp_path)
    require_same(texts(samples(2) * 2), Counting()(samples(2) * 2))
    assert counting.asked == ["s0", "s1"] and texts([]) == []


def test_conversations_are_kept_as_the_students_template_has_them(tmp_path: Path) -> None:
    wanted, every = conversation_tokenizer()(conversations()), list(conversations())
    texts = KeptTexts(conversation_tokenizer(), KeptFolder(tmp_path, IDENTITY))
    require_same(texts(every), wanted)
    texts.publish()
    require_same(KeptTexts(Counting(), KeptFolder(tmp_path, IDENTITY))(every), wanted)


def test_an_encoders_texts_are_kept_without_characters(tmp_path: Path) -> None:
    tokenize, every = SentenceTexts(characters(), 12), samples(6)
    texts = KeptTexts(tokenize, KeptFolder(tmp_path, IDENTITY))
    require_same(texts(every), tokenize(every))
    texts.publish()
    require_same(KeptTexts(Counting(), KeptFolder(tmp_path, IDENTITY))(every), tokenize(every))


def test_threads_get_what_one_would(tmp_path: Path) -> None:
    wanted = {sample.id: text for sample, text in zip(samples(50), Counting()(samples(50)), strict=True)}
    texts, _ = kept(tmp_path, 700)
    errors = list[BaseException]()

    def read(seed: int) -> None:
        try:
            for _ in range(15):
                drawn = [samples(50)[n] for n in np.random.default_rng(seed).permutation(50)[:16]]
                require_same(texts(drawn), [wanted[sample.id] for sample in drawn])
        except BaseException as error:  # noqa: BLE001 - of a thread, which would lose it
            errors.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    folder = KeptFolder(tmp_path, IDENTITY)
    assert 0 < len(folder) == folder._rows


def test_where_nothing_can_be_written_it_is_said_once_and_texts_are_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    texts, counting = kept(tmp_path / "file", 1)
    for _ in range(3):
        require_same(texts(samples(4)), Counting()(samples(4)))
    texts.publish()
    assert len(counting.asked) == 12 and len(caplog.messages) == 1
    assert caplog.messages[0] == (
        f"the student's tokens cannot be kept in {texts._folder.path} (Not a directory): every epoch "
        "makes them anew. Give another place by `tokens_folder`, or set keep_tokens to false"
    )


def test_a_run_that_finds_the_lock_taken_goes_on_from_memory(tmp_path: Path) -> None:
    texts, counting = kept(tmp_path, 600)
    texts._folder.path.mkdir()
    lock = acquire(texts._folder.path / LOCK, Busy)
    for _ in range(2):
        for start in range(0, 12, 4):
            require_same(texts(samples(4, start)), Counting()(samples(4, start)))
    assert len(counting.asked) == 12 and not list(tmp_path.glob("*/*.arrow"))
    lock.release()
    texts.publish()
    assert len(KeptFolder(tmp_path, IDENTITY)) == 12


def test_what_waits_for_long_is_let_go(tmp_path: Path) -> None:
    texts, _ = kept(tmp_path, 1)
    texts._folder.path.mkdir()
    lock = acquire(texts._folder.path / LOCK, Busy)
    texts._bytes = 64 << 20
    texts(samples(3))
    assert texts._waiting == {} and texts._bytes == 0
    lock.release()


def test_it_may_appear_disappear_and_be_replaced_meanwhile(tmp_path: Path) -> None:
    wanted = Counting()(samples(8))
    texts, _ = kept(tmp_path / "kept", 400)
    require_same(texts(samples(8)), wanted)
    kept(tmp_path / "kept", 400)[0](samples(30))  # another run's, which it has not looked at
    require_same(texts(samples(12)), Counting()(samples(12)))
    shutil.rmtree(tmp_path / "kept")
    require_same(texts(samples(20)), Counting()(samples(20)))
    (tmp_path / "kept").touch()
    require_same(texts(samples(40)), Counting()(samples(40)))
    require_same(texts(samples(8)), wanted)


def test_errors_are_the_tokenizers_own_and_nothing_is_kept(tmp_path: Path) -> None:
    def refuse(asked: Sequence[CachedSample]) -> list[StudentText]:
        raise TokenizerError(f"sample {asked[-1].id!r}: token 0 claims characters")

    texts = KeptTexts(refuse, KeptFolder(tmp_path, IDENTITY))
    with pytest.raises(TokenizerError, match="sample 's3'"):
        texts(samples(4))
    texts.publish()
    assert not list(tmp_path.iterdir())
