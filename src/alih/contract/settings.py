"""Endpoints, secrets, gateway and cohorts of a contract."""

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alih.contract.document import Step
from alih.contract.findings import Findings
from alih.contract.shape import ContractShape, EndpointShape, GatewayShape
from alih.model.contract import Cohort, Endpoint, Gateway

PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_HOST_PORT = re.compile(r"[^\s:/]+:[1-9][0-9]{0,4}")
NAME = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values that the contract only names: `$NAME` of the environment, or `file:PATH` that others cannot read."""

    findings: Findings
    environ: Mapping[str, str] = field(repr=False)

    def value(self, reference: str, path: tuple[Step, ...]) -> str:
        """What `reference` stands for; a problem and "" when it stands for nothing."""
        if name := NAME.fullmatch(reference):
            return self._variable(name[1], path)
        if reference.startswith("file:"):
            return self._file(self.findings.document.directory / reference.removeprefix("file:"), path)
        self.findings.add(path, "is written out", "write $NAME of an environment variable, or file:PATH")
        return ""

    def _variable(self, name: str, path: tuple[Step, ...]) -> str:
        value = self.environ.get(name, "")
        if not value:
            self.findings.add(path, f"the environment has no {name}", f"export {name}=… before you start alih")
        return value

    def _file(self, file: Path, path: tuple[Step, ...]) -> str:
        try:
            mode, value = file.stat().st_mode, file.read_text(encoding="utf-8").strip()
        except OSError as error:
            self.findings.add(path, f"{file}: {error.strerror}", "name a file that alih can read")
            return ""
        if stat.S_IMODE(mode) & 0o077:
            self.findings.add(path, f"{file} can be read by others", f"chmod 600 {file}")
        return value


def endpoint(shape: EndpointShape, name: str, secrets: Secrets) -> Endpoint:
    """The database `name`: exactly one of a DSN and an embedded cluster."""
    if (shape.dsn is None) == (shape.embedded is None):
        secrets.findings.add((name,), "needs one of dsn and embedded", "write `dsn: $NAME` or `embedded: true`")
    dsn = None if shape.dsn is None else secrets.value(shape.dsn, (name, "dsn"))
    return Endpoint(dsn=dsn, version=shape.version)


def gateway(shape: GatewayShape | None, secrets: Secrets) -> Gateway | None:
    """The gateway's addresses, its tenant path with exactly one placeholder."""
    if shape is None:
        return None
    if len(PLACEHOLDER.findall(shape.tenant_from.path)) != 1 or not shape.tenant_from.path.startswith("/"):
        secrets.findings.add(
            ("gateway", "tenant_from", "path"),
            "needs exactly one placeholder",
            "write the prefix of the tenant's calls, as in /api/shops/{shop_id}",
        )
    for i, path in enumerate(shape.shared_paths):
        if not path.startswith("/") or "{" in path:
            secrets.findings.add(("gateway", "shared_paths", i), "is no path prefix", "write it as in /api/me")
    secret = shape.operator_secret
    return Gateway(
        listen=_address(shape.listen, "listen", secrets),
        front=_address(shape.front, "front", secrets),
        source=_address(shape.source, "source", secrets),
        target=_address(shape.target, "target", secrets),
        tenant_path=shape.tenant_from.path,
        shared_paths=tuple(shape.shared_paths),
        request_max_ms=shape.request_max_ms,
        operator_secret=None if secret is None else secrets.value(secret, ("gateway", "operator_secret")),
    )


def _address(reference: str, name: str, secrets: Secrets) -> str:
    """host:port, written out or as the `$NAME` of one."""
    path: tuple[Step, ...] = ("gateway", name)
    address = secrets.value(reference, path) if NAME.fullmatch(reference) else reference
    if address and not _HOST_PORT.fullmatch(address):
        secrets.findings.add(
            path, "is no host:port", "write it as in 127.0.0.1:8080, or $NAME of a variable that holds it"
        )
    return address


def cohorts(shape: ContractShape, findings: Findings) -> Iterator[Cohort]:
    """The cohorts in order; each names tenants, a share, or the rest, and no tenant twice."""
    names: set[str] = set()
    tenants: dict[str, str] = {}
    for i, cohort in enumerate(shape.cohorts):
        path: tuple[Step, ...] = ("cohorts", i)
        if [cohort.tenants, cohort.share, cohort.rest].count(None) != 2:
            findings.add(path, "needs one of tenants, share and rest", "keep one of them")
        if cohort.rest and i != len(shape.cohorts) - 1:
            findings.add(path, "takes the rest but is not the last", "put it at the end")
        if cohort.name in names:
            findings.add(path, f"a second cohort {cohort.name}", "give it a name of its own")
        names.add(cohort.name)
        for j, tenant in enumerate(cohort.tenants or []):
            _judge_tenant(tenant, tenants, (*path, "tenants", j), findings)
        yield Cohort(name=cohort.name, tenants=tuple(cohort.tenants or ()), share=cohort.share, rest=bool(cohort.rest))


def _judge_tenant(tenant: str, seen: dict[str, str], path: tuple[Step, ...], findings: Findings) -> None:
    twin = seen.get(tenant.lower())
    if twin == tenant:
        findings.add(path, "names a tenant a second time", "keep it in one cohort")
    elif twin is not None:
        findings.add(path, "differs from another tenant only in case", "the gateway cannot tell them apart; rename one")
    seen[tenant.lower()] = tenant
