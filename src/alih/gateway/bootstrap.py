"""Envoy's static configuration: listeners, clusters, the filter that names tenants, and the log of sales."""

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from alih.errors import Refused
from alih.gateway.routes import (
    CAME_WITH_PROTO,
    PROTO,
    ROUTE_FILE,
    ROUTES,
    SIDE_HEADER,
    TENANT_HEADER,
    TYPE,
    UNDECIDED,
    Destination,
    IdForm,
    Json,
    header,
    path_pattern,
)
from alih.model.contract import Gateway

# Shorter than any server's keep-alive: Envoy must be the one that closes an idle connection, or a request that
# meets the server's closing fails, and it must not be tried twice.
_IDLE = "3s"
_WITHOUT_LIMIT = 1_000_000
SALES_LOG = "sales.jsonl"
"""The name of the log of sales in Envoy's directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """The call that is a sale when it is seen at the gateway: its method and its path's template."""

    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where alih's own parts listen, as `host:port`; without `custody` notices are routed like other calls."""

    adapter: str
    gate: str
    custody: str | None = None


def bootstrap(
    gateway: Gateway,
    *,
    directory: Path,
    addresses: Addresses,
    ids: IdForm,
    sold: Sold | None = None,
) -> dict[str, Json]:
    """Envoy's static configuration; the route table is followed in `directory`.

    Refused: a template without exactly one placeholder of its own
    segment, or paths that are not plain.
    """
    clusters: list[Json] = [
        _cluster(Destination.FRONT, gateway.front),
        _cluster(Destination.SOURCE, gateway.source),
        _cluster(Destination.TARGET, addresses.adapter),
        _cluster(Destination.GATE, addresses.gate),
        *([] if addresses.custody is None else [_cluster(Destination.CUSTODY, addresses.custody)]),
    ]
    manager = _connection_manager(directory, tenant_filter(gateway, ids)) | _access_log(directory, sold)
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
        "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "alih",
        "rds": {"route_config_name": ROUTES, "config_source": source},
        "http_protocol_options": {"header_key_format": _preserved_case()},
        "http_filters": [_lua_filter(lua), _side_filter(), _router()],
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


def _access_log(directory: Path, sold: Sold | None) -> dict[str, Json]:
    """One line for each sale: when, which path, how answered, by whom. Nothing else of a request is ever logged."""
    if sold is None:
        return {}
    method: Json = {"name": ":method", "string_match": {"exact": sold.method}}
    path: Json = {"name": ":path", "string_match": {"safe_regex": {"regex": rf"{path_pattern(sold.path)}(\?.*)?"}}}
    line: Json = {
        "at": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "cluster": "%UPSTREAM_CLUSTER_RAW%",
        "side": "%DYNAMIC_METADATA(alih:side)%",
    }
    log: Json = {
        "name": "sales",
        "filter": {"and_filter": {"filters": [{"header_filter": {"header": each}} for each in (method, path)]}},
        "typed_config": {
            "@type": f"{TYPE}extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(directory / SALES_LOG),
            "log_format": {"json_format": line},
        },
    }
    return {"access_log": [log]}


def _early_mutation() -> dict[str, Json]:
    """Before the first look-up of a route: our header says "undecided", and orders to Envoy from outside are gone."""
    return {
        "name": "strip",
        "typed_config": {
            "@type": f"{TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [
                {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
                {"append": header(TENANT_HEADER, UNDECIDED)},
                # Envoy adds this one when it is not there, and needs it; unless it came along, the route takes it off.
                {"append": header(CAME_WITH_PROTO, f"%REQ({PROTO})%")},
            ],
        },
    }


def _lua_filter(source: str) -> dict[str, Json]:
    return {
        "name": "tenant",
        "typed_config": {
            "@type": f"{TYPE}extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": source},
        },
    }


def _side_filter() -> dict[str, Json]:
    """Takes the gate's word about who has answered off the answer, and keeps it for the log of sales."""
    noted: Json = {"metadata_namespace": "alih", "key": "side"}
    rule: Json = {"header": SIDE_HEADER, "on_header_present": noted, "remove": True}
    kind = f"{TYPE}extensions.filters.http.header_to_metadata.v3.Config"
    return {"name": "side", "typed_config": {"@type": kind, "response_rules": [rule]}}


def _router() -> dict[str, Json]:
    kind = f"{TYPE}extensions.filters.http.router.v3.Router"
    return {"name": "router", "typed_config": {"@type": kind, "suppress_envoy_headers": True}}


def _preserved_case() -> dict[str, Json]:
    kind = f"{TYPE}extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"
    return {"stateful_formatter": {"name": "preserve_case", "typed_config": {"@type": kind}}}


def _cluster(destination: Destination, address: str) -> dict[str, Json]:
    limits = ("max_connections", "max_pending_requests", "max_requests")
    thresholds: dict[str, Json] = dict.fromkeys(limits, _WITHOUT_LIMIT)
    endpoint: Json = {"endpoint": {"address": _address(address)}}
    options: Json = {
        "@type": f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions",
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
