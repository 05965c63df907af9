"""The page that proves a purchase; each operator fills in its own name. It shows nothing of the buyer."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from starlette.responses import HTMLResponse

_templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def invoice(*, order_id: int, shop: str, amount_idr: int, paid: bool, processed_by: str) -> HTMLResponse:
    amount = f"{amount_idr:,}".replace(",", ".")
    page = _templates.get_template("invoice.html")
    return HTMLResponse(page.render(order_id=order_id, shop=shop, amount=amount, paid=paid, processed_by=processed_by))
