"""A cache's identity: its hash, and how two of them differ."""

import hashlib

from schemas.storage.fingerprint import differences, fingerprint

IDENTITY = {"teacher": {"weights": "ab", "layers": [1, 2]}, "dtype": "bfloat16"}


def test_fingerprint_is_the_sha256_of_canonical_json() -> None:
    text = '{"dtype":"bfloat16","teacher":{"layers":[1,2],"weights":"ab"}}'
    assert fingerprint(IDENTITY) == hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint(dict(reversed(IDENTITY.items()))) == fingerprint(IDENTITY)


def test_differences_name_the_fields() -> None:
    other = {"teacher": {"weights": "cd", "layers": [1, 2]}, "dtype": "bfloat16", "new": 1}
    assert list(differences(IDENTITY, other)) == [
        "new: found null, wanted 1",
        'teacher.weights: found "ab", wanted "cd"',
    ]
