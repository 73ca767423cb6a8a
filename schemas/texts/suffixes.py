"""Which files hold texts as records: one place for who extracts from them and who evaluates on them."""

JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")  # one JSON object a line
