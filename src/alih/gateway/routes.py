"""Envoy's configuration as values: who is asked for which tenant, and how a request gets its tenant's name.

A Lua filter writes the tenant's id into a header of ours, overwriting what a client may have sent, and the route
table lists tenants as the domains of virtual hosts (`vhost_header`): a hash look-up, whatever their number.
A request whose tenant could not be told is answered 503 or 400 by Envoy itself and reaches no back end.
"""

import json
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import TypeAlias

from alih.errors import Refused
from alih.model.contract import Gateway
from alih.model.side import SHARED

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

TENANT_HEADER = "x-alih-tenant"
UNCLEAN_HEADER = "x-alih-unclean"
"""On an answer of the adapter: the target may still be at work on the request."""

ROUTES = "alih"
ROUTE_FILE = "routes.json"
"""The name of the route table's file in Envoy's directory."""

_PROTO, _CAME_WITH_PROTO = "x-forwarded-proto", "x-alih-proto"
_UNDECIDED, _REFUSED, _FRONT = "@undecided", "@refused", "-"
_TYPE = "type.googleapis.com/envoy."
_ROUTE_TYPE = f"{_TYPE}config.route.v3.RouteConfiguration"
# Shorter than any server's keep-alive: Envoy must be the one that closes an idle connection, or a request that
# meets the server's closing fails, and it must not be tried twice.
_IDLE = "3s"
_WITHOUT_LIMIT = 1_000_000


class Destination(StrEnum):
    """Who answers a tenant's requests; the value is the name of Envoy's cluster."""

    SOURCE = "source"
    TARGET = "target"  # through the adapter
    GATE = "gate"
    FRONT = "front"


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


def route_table(version: int, default: Destination, listed: Mapping[str, Destination]) -> dict[str, Json]:
    """The table as Envoy's file subscription reads it: `listed` tenants where they say, all others to `default`.

    Refused: ids that differ only in case, for Envoy would take them for one, and ids that no path can carry.
    """
    _check_ids(listed)
    hosts: list[Json] = [
        _answering("undecided", _UNDECIDED, 503, "unavailable"),
        _answering("refused", _REFUSED, 400, "bad_path"),
        _host(Destination.FRONT, "front paths", [_FRONT]),
        _host(default, "default", ["*"]),
    ]
    for destination in sorted(set(listed.values()) - {default}):
        domains = sorted(tenant for tenant, where in listed.items() if where is destination)
        hosts.append(_host(destination, destination.value, domains))
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


def _host(destination: Destination, name: str, domains: list[str]) -> dict[str, Json]:
    # No timeout here: one would let go of a request that the back end still works on.
    action: Json = {"cluster": destination.value, "timeout": "0s"}
    came: Json = {"name": _CAME_WITH_PROTO, "string_match": {"safe_regex": {"regex": "https?"}}}
    ours: list[Json] = [_CAME_WITH_PROTO] if destination is Destination.GATE else [_CAME_WITH_PROTO, TENANT_HEADER]
    return {
        "name": name,
        "domains": list(domains),
        "request_headers_to_remove": ours,
        "routes": [
            {"match": {"prefix": "/", "headers": [came]}, "route": action},
            {"match": {"prefix": "/"}, "route": action, "request_headers_to_remove": [_PROTO]},
        ],
    }


def _answering(name: str, domain: str, status: int, error: str) -> dict[str, Json]:
    body = json.dumps({"error": error})
    headers: Json = [_header("content-type", "application/json"), _header("retry-after", "1")]
    route: Json = {
        "match": {"prefix": "/"},
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": headers if status == 503 else [_header("content-type", "application/json")],
    }
    return {"name": name, "domains": [domain], "routes": [route]}


def _header(key: str, value: str) -> dict[str, Json]:
    return {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def bootstrap(gateway: Gateway, *, directory: Path, adapter: str, gate: str, ids: IdForm) -> dict[str, Json]:
    """Envoy's static configuration; the route table is followed in `directory`.

    `adapter` and `gate` are `host:port`. Refused: a template without exactly one placeholder of its own segment,
    or paths that are not plain.
    """
    clusters: list[Json] = [
        _cluster(Destination.FRONT, gateway.front),
        _cluster(Destination.SOURCE, gateway.source),
        _cluster(Destination.TARGET, adapter),
        _cluster(Destination.GATE, gate),
    ]
    manager = _connection_manager(directory, tenant_filter(gateway, ids))
    return {
        "node": {"id": "alih", "cluster": "alih"},
        "static_resources": {"listeners": [_listener(gateway.listen, manager)], "clusters": clusters},
    }


def _listener(listen: str, manager: Json) -> dict[str, Json]:
    chain: Json = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"name": "shop", "address": _address(listen), "filter_chains": [chain]}


def _connection_manager(directory: Path, lua: str) -> dict[str, Json]:
    source: Json = {
        "path_config_source": {
            "path": str(directory / ROUTE_FILE),
            "watched_directory": {"path": str(directory)},
        },
        "initial_fetch_timeout": "0s",  # nothing is routed before the first decision
    }
    return {
        "@type": f"{_TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "alih",
        "rds": {"route_config_name": ROUTES, "config_source": source},
        "http_protocol_options": {"header_key_format": _preserved_case()},
        "http_filters": [_lua_filter(lua), _router()],
        "early_header_mutation_extensions": [_early_mutation()],
        # What the front end and the back ends see of each other stays as it was.
        "server_header_transformation": "PASS_THROUGH",
        "generate_request_id": False,
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "use_remote_address": False,
        "skip_xff_append": True,
    }


def _early_mutation() -> dict[str, Json]:
    """Before the first look-up of a route: our header says "undecided", and orders to Envoy from outside are gone."""
    return {
        "name": "strip",
        "typed_config": {
            "@type": f"{_TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
                {"append": _header(TENANT_HEADER, _UNDECIDED)},
                # Envoy adds this one when it is not there, and needs it; unless it came along, the route takes it off.
                {"append": _header(_CAME_WITH_PROTO, f"%REQ({_PROTO})%")},
            ],
        },
    }


def _lua_filter(source: str) -> dict[str, Json]:
    return {
        "name": "tenant",
        "typed_config": {
            "@type": f"{_TYPE}extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": source},
        },
    }


def _router() -> dict[str, Json]:
    kind = f"{_TYPE}extensions.filters.http.router.v3.Router"
    return {"name": "router", "typed_config": {"@type": kind, "suppress_envoy_headers": True}}


def _preserved_case() -> dict[str, Json]:
    kind = f"{_TYPE}extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
    return {"stateful_formatter": {"name": "preserve_case", "typed_config": {"@type": kind}}}


def _cluster(destination: Destination, address: str) -> dict[str, Json]:
    limits = ("max_connections", "max_pending_requests", "max_requests")
    thresholds: dict[str, Json] = dict.fromkeys(limits, _WITHOUT_LIMIT)
    endpoint: Json = {"endpoint": {"address": _address(address)}}
    options: Json = {
        "@type": f"{_TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"idle_timeout": _IDLE},
        "explicit_http_config": {"http_protocol_options": {"header_key_format": _preserved_case()}},
    }
    return {
        "name": destination.value,
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        # Held requests wait as requests of this cluster: the usual limit of 1 024 would refuse them.
        "circuit_breakers": {"thresholds": [thresholds | {"max_retries": 0}]},
        "load_assignment": {"cluster_name": destination.value, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    }


def _address(address: str) -> dict[str, Json]:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def tenant_filter(gateway: Gateway, ids: IdForm) -> str:
    """The Lua text that names the tenant of each request."""
    template = _segments(gateway.tenant_path)
    if template.count(None) != 1:
        raise Refused(
            f"gateway.tenant_from.path {gateway.tenant_path!r} does not name one tenant",
            remedy="write one placeholder as a segment of its own, as in /api/shops/{shop_id}",
        )
    shared = [_segments(path) for path in gateway.shared_paths]
    if any(None in prefix or not prefix for prefix in shared):
        raise Refused("gateway.shared_paths holds a placeholder", remedy="shared paths are plain prefixes")
    settings = (
        f"local TEMPLATE = {_lua_list(template)}",
        f"local SHARED = {{{', '.join(_lua_list(prefix) for prefix in shared)}}}",
        f'local IDS = "{ids.value}"',
        f'local HEADER = "{TENANT_HEADER}"',
    )
    return "\n".join((*settings, resources.files(__package__).joinpath("tenant.lua").read_text("utf-8")))


def _segments(path: str) -> list[str | None]:
    """The segments of a path template; None where the placeholder stands."""
    parts = path.strip("/").split("/")
    segments = [None if re.fullmatch(r"\{\w+\}", part) else part for part in parts]
    for part in segments:
        if part is not None and not re.fullmatch(r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*", part):
            raise Refused(f"gateway path {path!r} is not plain", remedy="use letters, digits and ._~- in its segments")
    return segments


def _lua_list(segments: list[str | None]) -> str:
    return "{" + ", ".join("false" if part is None else json.dumps(part) for part in segments) + "}"
