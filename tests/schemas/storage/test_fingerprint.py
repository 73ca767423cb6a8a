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


def test_sections_that_only_one_has_are_named_as_wholes() -> None:
    array = {"width": 8, "dtype": "bfloat16", "encoding": "raw"}
    found = {"states": {"hidden/14": array, "mass/30": array}, "evaluation": None}
    wanted = {"states": {"hidden/14": {**array, "width": 9}, "hidden/20": array, "hidden/25": array}}
    assert list(differences(found, wanted)) == [
        "states.hidden/14.width: found 8, wanted 9",
        "states: hidden/20, hidden/25 are wanted and not found",
        "states: mass/30 is found and not wanted",
    ]
    assert list(differences(wanted, found))[1:] == [
        "states: mass/30 is wanted and not found",
        "states: hidden/20, hidden/25 are found and not wanted",
    ]
    evaluated = {**found, "evaluation": {"texts": "t", "every": 100}}
    assert list(differences(found, evaluated)) == ['evaluation: found null, wanted {"every":100,"texts":"t"}']
    assert list(differences(evaluated, evaluated)) == []


def test_items_of_a_list_have_numbers() -> None:
    ce, kd, mta = {"loss": "ce", "weight": 1.0}, {"loss": "kd", "weight": 1.0, "skew": 0.1}, {"loss": "mta", "hid": 0.2}
    found, other = {"objective": [ce, kd]}, {"objective": [ce, {**kd, "skew": 0.2}]}
    assert list(differences(found, other)) == ["objective.1.skew: found 0.1, wanted 0.2"]
    assert list(differences(found, {"objective": [ce, mta]})) == ['objective.1.loss: found "kd", wanted "mta"']
    assert list(differences({"objective": [ce]}, {"objective": [{**ce, "new": 1}]})) == [
        "objective.0.new: found null, wanted 1"
    ]
    assert list(differences(found, {"objective": [kd]})) == [
        'objective.0.loss: found "ce", wanted "kd"',
        "objective: found 2, wanted 1 of them",
    ]
    assert list(differences(found, found)) == []
