"""The size budget: functions and modules small enough to read, and no exception caught without a name.

Prints one line for each violation and a summary; ends with 1 if there was a violation.
"""

import ast
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ("src", "demo", "tests", "tools")
FUNCTION_MEDIAN = 8
FUNCTION_MAX = 60
MODULE_RULE = 300
MODULE_MAX = 500
# The only places that may catch whatever comes: where the gate reads an owner, and the top of the command line.
BROAD_EXCEPT_ALLOWED = {Path("src/alih/gateway/gate.py"): 1, Path("src/alih/cli.py"): 1}
BROAD = {"Exception", "BaseException"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """What was counted in one file; `path` is relative to the project."""

    path: Path
    lines: int
    functions: tuple[tuple[str, int, int], ...]  # name, first line, lines
    broad_excepts: tuple[int, ...]  # lines


def measure(path: Path, root: Path = ROOT) -> Module:
    """Count one file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    return Module(
        path=path.relative_to(root),
        lines=len(text.splitlines()),
        functions=tuple(_functions(tree)),
        broad_excepts=tuple(_broad_excepts(tree)),
    )


def violations(modules: list[Module]) -> list[str]:
    """One line for each limit that is passed, `path:line: what`."""
    found = [f"{module.path}:1: {module.lines} lines, at most {MODULE_MAX}" for module in modules if _too_long(module)]
    for module in modules:
        found += [
            f"{module.path}:{line}: {name} has {lines} lines, at most {FUNCTION_MAX}"
            for name, line, lines in module.functions
            if lines > FUNCTION_MAX
        ]
        if len(module.broad_excepts) > BROAD_EXCEPT_ALLOWED.get(module.path, 0):
            found += [f"{module.path}:{line}: catches everything; name the error" for line in module.broad_excepts]
    for top in _tops(modules):
        median = statistics.median(_function_lines(modules, top))
        if median > FUNCTION_MEDIAN:
            found.append(f"{top}: median function has {median:g} lines, at most {FUNCTION_MEDIAN}")
    return found


def summary(modules: list[Module]) -> list[str]:
    """A line for each top directory, and the modules that are over the rule though under the limit."""
    rows = []
    for top in _tops(modules):
        members = [module for module in modules if module.path.parts[0] == top]
        lengths = sorted(_function_lines(modules, top))
        p90 = lengths[int(len(lengths) * 0.9)]
        rows.append(
            f"{top}: {len(members)} modules, {sum(module.lines for module in members)} lines, {len(lengths)} functions "
            f"(median {statistics.median(lengths):g}, p90 {p90}, max {lengths[-1]} lines)"
        )
    over = [module for module in modules if MODULE_RULE < module.lines <= MODULE_MAX]
    return rows + [f"over the rule of {MODULE_RULE} lines: {module.path} ({module.lines})" for module in over]


def _functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def _broad_excepts(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node.type):
            yield node.lineno


def _is_broad(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_broad, caught.elts))
    return caught is None or (isinstance(caught, ast.Name) and caught.id in BROAD)


def _too_long(module: Module) -> bool:
    return module.lines > MODULE_MAX


def _tops(modules: list[Module]) -> list[str]:
    return sorted({module.path.parts[0] for module in modules if module.functions})


def _function_lines(modules: list[Module], top: str) -> list[int]:
    return [lines for module in modules if module.path.parts[0] == top for _, _, lines in module.functions]


def main() -> int:
    files = [path for top in MEASURED for path in sorted((ROOT / top).rglob("*.py"))]
    modules = [measure(path) for path in files]
    for line in summary(modules):
        print(line)
    found = violations(modules)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
