"""A trainer's first batch: prints the entropies of every sample of a cache, as JSON."""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

from schemas.cache.reader import Cache
from stillroom_entropy.request import TeacherEntropy  # type: ignore[import-not-found]
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.loader import BatchBuilder

cache, student = Cache(Path(sys.argv[1])), AutoTokenizer.from_pretrained(sys.argv[2])
builder = BatchBuilder(cache, StudentTokenizer(student, 96, append_eos=True), [TeacherEntropy()])
batch = builder[range(len(cache))]
entropies = zip(batch.sample_ids, batch[TeacherEntropy()], batch.teacher_mask_BT, strict=True)
print(json.dumps({name: entropy_T[mask_T].tolist() for name, entropy_T, mask_T in entropies}))
