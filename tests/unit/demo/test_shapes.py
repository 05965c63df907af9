"""The comparison of the front end's calls can fail, and says by name what differs."""

from typing import Any

import pytest

from demo.shoppers.shapes import Shape, compare_shapes, header_names, kind

CALL = "GET /api/shops/{shop_id} → 200"
ANSWER: dict[str, Any] = {
    "request": {"headers": {"x-buyer-id": ""}, "body": None},
    "answer": {"headers": {"server": ""}, "body": {"name": "Toko", "total": "145000.00", "items": [{"qty": 1}]}},
}


def shape(*documents: dict[str, Any]) -> Shape:
    made = Shape()
    for document in documents:
        made.add(document)
    return made


def recorded(*documents: dict[str, Any], call: str = CALL) -> dict[str, dict[str, Shape]]:
    return {"before": {CALL: shape(ANSWER)}, "after": {call: shape(*documents)}}


def answer(**body: Any) -> dict[str, Any]:
    shown = ANSWER["answer"]["body"] | body
    return ANSWER | {"answer": ANSWER["answer"] | {"body": shown}}


def test_values_are_no_difference() -> None:
    assert compare_shapes(recorded(answer(name="Warung", total="2000.00", items=[{"qty": 7}, {"qty": 8}]))) == []


@pytest.mark.parametrize(
    ("body", "difference"),
    [
        ({"nik": "3174"}, "answer.body.nik is additional"),
        ({"name": 7}, "answer.body.name is integer, was string"),
        ({"name": None}, "answer.body.name is null, was string"),
        ({"total": "145000"}, "answer.body.total is string, was decimal"),
        ({"items": [{"qty": "1"}]}, "answer.body.items[].qty is string, was integer"),
        ({"items": [{"qty": 1, "hs": 2}]}, "answer.body.items[].hs is additional"),
        ({"items": {}}, "answer.body.items is object, was array"),
    ],
)
def test_a_changed_answer_is_named(body: dict[str, Any], difference: str) -> None:
    assert compare_shapes(recorded(answer(**body))) == [f"after: {CALL}: {difference}"]


def test_a_missing_field_is_named_also_if_it_misses_only_at_times() -> None:
    less = ANSWER | {"answer": {"headers": {"server": ""}, "body": {"total": "1000.00", "items": []}}}
    assert compare_shapes(recorded(less)) == [f"after: {CALL}: answer.body.name is missing"]
    assert compare_shapes(recorded(less, ANSWER)) == [f"after: {CALL}: answer.body.name is missing at times"]


def test_headers_of_either_direction_are_compared_by_name() -> None:
    other = {
        "request": {"headers": {}, "body": None},
        "answer": {"headers": {"server": "", "x-alih-side": ""}, "body": ANSWER["answer"]["body"]},
    }
    assert compare_shapes(recorded(other)) == [
        f"after: {CALL}: answer.headers.x-alih-side is additional",
        f"after: {CALL}: request.headers.x-buyer-id is missing",
    ]


def test_an_empty_list_says_nothing_about_its_items() -> None:
    assert compare_shapes(recorded(answer(items=[]))) == []


def test_a_new_success_and_one_that_is_gone_are_differences_and_a_refusal_is_none() -> None:
    assert compare_shapes(recorded(ANSWER, call="GET /api/x → 200")) == [
        "after: GET /api/shops/{shop_id} → 200: never seen again",
        "after: GET /api/x → 200: never seen before",
    ]
    made = recorded(ANSWER)
    made["after"]["GET /api/x → 409"] = shape(ANSWER)
    assert compare_shapes(made) == []


def test_every_later_phase_is_held_against_the_first() -> None:
    made = recorded(ANSWER) | {"last": {CALL: shape(answer(name=None))}}
    assert compare_shapes(made) == [f"last: {CALL}: answer.body.name is null, was string"]


def test_framing_is_left_out_and_a_content_type_counts_with_its_value() -> None:
    headers = {"Date": "x", "Content-Length": "2", "Content-Type": "text/html", "Server": "envoy"}
    assert header_names(headers) == {"server": "", "content-type: text/html": ""}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "integer"),
        (1.5, "number"),
        ("a", "string"),
        ("1.00", "decimal"),
        ([], "array"),
        ({}, "object"),
    ],
)
def test_kinds(value: object, expected: str) -> None:
    assert kind(value) == expected
