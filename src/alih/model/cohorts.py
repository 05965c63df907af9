"""Which tenant is cut over with which cohort; pure."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from alih.errors import Refused
from alih.model.contract import Cohort

SHARED_COHORT = "shared"
"""The cohort that the shared rows are cut over with, after all others."""


_NOBODY: Mapping[str, str] = MappingProxyType({})


def assign(cohorts: Sequence[Cohort], tenants: Sequence[str], tried: Mapping[str, str] = _NOBODY) -> Mapping[str, str]:
    """Tenant → cohort: test tenants (`tried`: cohort → tenant) and named tenants first, then shares of all tenants in
    the order of their ids, then the rest.

    A share is rounded to the nearest tenant, half up, and takes what is left when there are fewer. A tenant that no
    cohort takes is left out: nothing of it is cut over. Raises Refused for a name that is no tenant, one that two
    cohorts have, and a cohort called `shared`: that is the shared rows' own.
    """
    assigned = {tenant: cohort for cohort, tenant in tried.items()}
    _check_tried(assigned, tenants)
    for cohort in cohorts:
        _check(cohort, tenants, assigned)
        assigned.update(dict.fromkeys(cohort.tenants, cohort.name))
    for cohort in (c for c in cohorts if c.share is not None):
        share = math.floor(len(tenants) * (cohort.share or 0.0) + 0.5)
        assigned.update(dict.fromkeys(_free(tenants, assigned)[:share], cohort.name))
    for cohort in (c for c in cohorts if c.rest):
        assigned.update(dict.fromkeys(_free(tenants, assigned), cohort.name))
    return assigned


def _free(tenants: Sequence[str], assigned: Mapping[str, str]) -> list[str]:
    return [tenant for tenant in tenants if tenant not in assigned]


def _check_tried(tried: Mapping[str, str], tenants: Sequence[str]) -> None:
    if unknown := sorted(set(tried) - set(tenants)):
        raise Refused(
            f"the trial names tenants that the source does not have: {', '.join(unknown)}",
            remedy="open the test tenants at the source first, or correct the ids under trial.tenants",
        )


def _check(cohort: Cohort, tenants: Sequence[str], assigned: Mapping[str, str]) -> None:
    if cohort.name == SHARED_COHORT:
        raise Refused(f"a cohort is called {SHARED_COHORT}", remedy="that is the shared rows' own: rename the cohort")
    if unknown := sorted(set(cohort.tenants) - set(tenants)):
        raise Refused(
            f"cohort {cohort.name} names tenants that the source does not have: {', '.join(unknown)}",
            remedy="correct the ids in the contract's cohorts",
        )
    if twice := sorted(set(cohort.tenants) & assigned.keys()):
        raise Refused(
            f"cohorts {assigned[twice[0]]} and {cohort.name} both name {', '.join(twice)}",
            remedy="a tenant is moved with one cohort: leave it in one",
        )
