"""Envoy's route table as a value: who is asked for which tenant.

A Lua filter writes the tenant's id into a header of ours (see `bootstrap`), and the table lists tenants as the domains
of virtual hosts (`vhost_header`): a hash look-up, whatever their number.
A request whose tenant could not be told is answered 503 or 400 by Envoy itself and reaches no back end.
"""

import json
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TypeAlias

from alih.errors import Refused
from alih.model.side import SHARED

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

TENANT_HEADER = "x-alih-tenant"
UNCLEAN_HEADER = "x-alih-unclean"
"""On an answer of the adapter: the target may still be at work on the request."""
SIDE_HEADER = "x-alih-side"
"""On an answer of the gate: which side has given it. It goes into the log of sales and no further."""

ROUTES = "alih"
ROUTE_FILE = "routes.json"
"""The name of the route table's file in Envoy's directory."""

PROTO, CAME_WITH_PROTO = "x-forwarded-proto", "x-alih-proto"
UNDECIDED, _REFUSED, _FRONT = "@undecided", "@refused", "-"
TYPE = "type.googleapis.com/envoy."
_ROUTE_TYPE = f"{TYPE}config.route.v3.RouteConfiguration"


class Destination(StrEnum):
    """Who answers a tenant's requests; the value is the name of Envoy's cluster."""

    SOURCE = "source"
    TARGET = "target"  # through the adapter
    GATE = "gate"
    FRONT = "front"
    CUSTODY = "custody"  # payment notices, whoever owns the tenant


class IdForm(StrEnum):
    """How tenants' ids are written. It decides which spellings of an id are refused as doubtful (`017` for `17`)."""

    INTEGER = "integer"  # decimal, no sign, no leading zero
    TEXT = "text"  # letters, digits and `._~-`, the first a letter or digit; read without regard to case

    @property
    def pattern(self) -> re.Pattern[str]:
        return _ID_PATTERNS[self]


_ID_PATTERNS = {
    IdForm.INTEGER: re.compile(r"0|[1-9][0-9]{0,18}"),
    IdForm.TEXT: re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}"),
}


def route_table(
    version: int, default: Destination, listed: Mapping[str, Destination], notices: str | None = None
) -> dict[str, Json]:
    """The table as Envoy's file subscription reads it: `listed` tenants where they say, all others to `default`.

    Posts to `notices`, the path template of payment notices, go to custody, whoever the tenant is.

    Refused: ids that differ only in case, for Envoy would take them for one, and ids that no path can carry.
    """
    _check_ids(listed)
    hosts: list[Json] = [
        _answering("undecided", UNDECIDED, 503, "unavailable"),
        _answering("refused", _REFUSED, 400, "bad_path"),
        _host(Destination.FRONT, "front paths", [_FRONT], notices),
        _host(default, "default", ["*"], notices),
    ]
    for destination in sorted(set(listed.values()) - {default}):
        domains = sorted(tenant for tenant, where in listed.items() if where is destination)
        hosts.append(_host(destination, destination.value, domains, notices))
    return {"version_info": str(version), "resources": [_route_configuration(version, hosts)]}


def closed_table() -> dict[str, Json]:
    """The table before the first decision: everybody is asked to come back."""
    closed: Json = _answering("closed", "*", 503, "unavailable")
    return {"version_info": "0", "resources": [_route_configuration(0, [closed])]}


def _check_ids(listed: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for tenant in listed:
        if tenant != SHARED and not IdForm.TEXT.pattern.fullmatch(tenant):
            raise Refused(
                f"tenant {tenant!r} cannot be told from a path",
                remedy="tenant ids on a path are letters, digits and ._~-, at most 128 of them",
            )
        twin = seen.setdefault(tenant.lower(), tenant)
        if twin != tenant:
            raise Refused(
                f"tenants {twin!r} and {tenant!r} differ only in case", remedy="rename one; routing ignores case"
            )


def _route_configuration(version: int, hosts: list[Json]) -> dict[str, Json]:
    return {
        "@type": _ROUTE_TYPE,
        "name": ROUTES,
        "vhost_header": TENANT_HEADER,
        # The name of the program that answered is nobody's business, and would change with the owner.
        "response_headers_to_remove": [UNCLEAN_HEADER, "server"],
        "virtual_hosts": hosts,
        # Envoy does not take up a version whose table equals the last one; this makes each differ.
        "metadata": {"filter_metadata": {"alih": {"version": version}}},
    }


def _host(destination: Destination, name: str, domains: list[str], notices: str | None) -> dict[str, Json]:
    # No timeout here: one would let go of a request that the back end still works on.
    action: Json = {"cluster": destination.value, "timeout": "0s"}
    came: Json = {"name": CAME_WITH_PROTO, "string_match": {"safe_regex": {"regex": "https?"}}}
    ours: list[Json] = [] if destination is Destination.GATE else [TENANT_HEADER]
    came_with: Json = {"match": {"prefix": "/", "headers": [came]}, "route": action, "request_headers_to_remove": ours}
    came_without: Json = {
        "match": {"prefix": "/"}, "route": action, "request_headers_to_remove": [*ours, PROTO]
    }  # fmt: skip
    return {
        "name": name,
        "domains": list(domains),
        "request_headers_to_remove": [CAME_WITH_PROTO],
        "routes": [*([] if notices is None else [_to_custody(notices)]), came_with, came_without],
    }


def _to_custody(notices: str) -> dict[str, Json]:
    """The tenant's name goes along: who sent the notice does not say whom it is for."""
    posted: Json = {"name": ":method", "string_match": {"exact": "POST"}}
    return {
        "match": {"safe_regex": {"regex": path_pattern(notices)}, "headers": [posted]},
        "route": {"cluster": Destination.CUSTODY.value, "timeout": "0s"},
    }


def path_pattern(template: str) -> str:
    """A regular expression (RE2) for the paths of a template, without a query."""
    parts = template.strip("/").split("/")
    return "/" + "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in parts)


def _answering(name: str, domain: str, status: int, error: str) -> dict[str, Json]:
    body = json.dumps({"error": error})
    headers: Json = [header("content-type", "application/json"), header("retry-after", "1")]
    route: Json = {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": headers if status == 503 else [header("content-type", "application/json")],
    }
    return {"name": name, "domains": [domain], "routes": [route]}


def header(key: str, value: str) -> dict[str, Json]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
