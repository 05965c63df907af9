"""Which tenant goes with which cohort."""

import pytest

from alih.errors import Refused
from alih.model.cohorts import assign
from alih.model.contract import Cohort

TEN = [str(number) for number in range(1, 11)]


def test_named_ones_first_then_shares_then_the_rest_whatever_their_order() -> None:
    cohorts = [
        Cohort(name="rest", rest=True),
        Cohort(name="fifth", share=0.2),
        Cohort(name="first", tenants=("2",)),
        Cohort(name="tenth", share=0.1),
    ]
    assert assign(cohorts, TEN) == {
        "2": "first",
        "1": "fifth",
        "3": "fifth",
        "4": "tenth",
        **dict.fromkeys(["5", "6", "7", "8", "9", "10"], "rest"),
    }


@pytest.mark.parametrize(("tenants", "share", "taken"), [(5, 0.1, 1), (4, 0.1, 0), (25, 0.1, 3), (10, 1.0, 10)])
def test_a_share_is_rounded_half_up(tenants: int, share: float, taken: int) -> None:
    assert len(assign([Cohort(name="share", share=share)], [str(n) for n in range(tenants)])) == taken


def test_shares_of_more_than_all_take_what_there_is() -> None:
    assigned = assign([Cohort(name="a", share=0.7), Cohort(name="b", share=0.7)], TEN)
    assert [list(assigned.values()).count(name) for name in "ab"] == [7, 3]


def test_a_tenant_of_no_cohort_is_left_out() -> None:
    assert assign([Cohort(name="first", tenants=("1",))], TEN) == {"1": "first"}


@pytest.mark.parametrize(
    ("cohorts", "message"),
    [
        ([Cohort(name="first", tenants=("1", "99"))], "names tenants that the source does not have: 99"),
        ([Cohort(name="a", tenants=("1", "2")), Cohort(name="b", tenants=("2",))], "cohorts a and b both name 2"),
        ([Cohort(name="shared", rest=True)], "a cohort is called shared"),
    ],
)
def test_what_cannot_be_meant_is_refused(cohorts: list[Cohort], message: str) -> None:
    with pytest.raises(Refused, match=message):
        assign(cohorts, TEN)


def test_a_test_tenant_goes_with_the_cohort_that_it_tries() -> None:
    cohorts = [Cohort(name="tenth", share=0.1), Cohort(name="rest", rest=True)]
    assigned = assign(cohorts, TEN, {"tenth": "7", "rest": "1"})
    assert {t: c for t, c in assigned.items() if c == "tenth"} == {"7": "tenth", "2": "tenth"}
    assert assigned["1"] == "rest"


def test_a_test_tenant_has_to_be_there() -> None:
    with pytest.raises(Refused, match="the trial names tenants that the source does not have: 99"):
        assign([Cohort(name="rest", rest=True)], TEN, {"rest": "99"})
