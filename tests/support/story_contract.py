"""The demo's contract for a smaller story: fewer shops, more cohorts."""

import re
from pathlib import Path

from demo.seed.legacy import FIRST_ID
from demo.story.world import CONTRACT

TRIED = ("first", "tenth", "rest")


def write_contract(path: Path, *, shops: int, cohorts: int = 3) -> tuple[str, ...]:
    """Write it to `path`; the cohorts' names in their order. The first and the last two have a test shop each.

    Shops are `FIRST_ID` and on, the last three are the test shops, as the seed makes them.
    """
    names = ("first", *(f"part-{n}" for n in range(2, cohorts - 1)), "tenth", "rest")
    share = round((shops - 3) / cohorts) / shops
    lines = [f'  - {{name: first, tenants: ["{FIRST_ID}"]}}']
    lines += [f"  - {{name: {name}, share: {share:.4f}}}" for name in names[1:-1]]
    text = CONTRACT.read_text(encoding="utf-8")
    text = text.replace("request_max_ms: 2000", "request_max_ms: 800")  # a wave is tracked for so long
    text = re.sub(
        r"(?s)cohorts:\n.*?\nwave", "\n".join(["cohorts:", *lines, "  - {name: rest, rest: true}", "wave"]), text
    )
    for place, name in enumerate(TRIED):
        number = shops - 2 + place
        names_of = f'{{tenant: "{FIRST_ID + number - 1}", promotion: "{number}", buyer: "{FIRST_ID + shops * 10 - 1}"}}'
        text = re.sub(rf"(?m)^    {name}: \{{tenant.*$", f"    {name}: {names_of}", text)
    rules = (CONTRACT.parent / "../../rules/id").resolve()
    path.write_text(text.replace("rules: ../../rules/id", f"rules: {rules}"), encoding="utf-8")
    return names
