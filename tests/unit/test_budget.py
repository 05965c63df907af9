"""The size budget names what is over it, and only that."""

from pathlib import Path

import pytest

from tools.budget import Module, measure, violations


def module(path: str, *, lines: int = 10, functions: int = 5, broad_excepts: tuple[int, ...] = ()) -> Module:
    return Module(path=Path(path), lines=lines, functions=(("f", 3, functions),), broad_excepts=broad_excepts)


def test_what_is_counted(tmp_path: Path) -> None:
    source = tmp_path / "m.py"
    source.write_text(
        "try:\n    pass\nexcept (OSError, Exception):\n    pass\n\n\nasync def f() -> None:\n"
        "    try:\n        pass\n    except OSError:\n        raise\n",
        encoding="utf-8",
    )
    assert measure(source, tmp_path) == Module(
        path=Path("m.py"), lines=11, functions=(("f", 7, 5),), broad_excepts=(3,)
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (module("src/a.py"), []),
        (module("src/a.py", lines=500), []),
        (module("src/a.py", lines=501), ["src/a.py:1: 501 lines, at most 500"]),
        (module("src/a.py", broad_excepts=(7,)), ["src/a.py:7: catches everything; name the error"]),
        (module("src/alih/cli.py", broad_excepts=(7,)), []),
        (module("src/a.py", functions=9), ["src: median function has 9 lines, at most 8"]),
    ],
)
def test_limits(given: Module, expected: list[str]) -> None:
    assert violations([given]) == expected


def test_a_long_function_is_named() -> None:
    short = [module(f"demo/{name}.py") for name in "abc"]
    assert violations([*short, module("demo/d.py", functions=61)]) == ["demo/d.py:3: f has 61 lines, at most 60"]
