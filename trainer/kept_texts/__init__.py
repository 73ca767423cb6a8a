"""Which of a cache's texts the student's tokenizer has cut before: kept on disk, for later epochs and other runs."""
