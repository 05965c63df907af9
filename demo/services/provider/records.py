"""Charges as Midtrans spells them: numbers as strings, times of Jakarta, and a signature under what shops are told."""

from datetime import datetime, timedelta, timezone

from demo.services.payments import signature
from demo.services.web import Row

JAKARTA = timezone(timedelta(hours=7))
CODES = {"pending": "201", "expire": "407"}


def shown(charge: Row) -> Row:
    """A charge as its account sees it."""
    answered = {
        "status_code": CODES.get(charge["transaction_status"], "200"),
        "status_message": "Success, transaction is found",
        "transaction_id": str(charge["transaction_id"]),
        "order_id": charge["order_id"],
        "gross_amount": f"{charge['gross_amount']}.00",
        "currency": "IDR",
        "payment_type": charge["payment_type"],
        "transaction_status": charge["transaction_status"],
        "transaction_time": _local(charge["transaction_time"]),
        "fraud_status": "accept",
    }
    if charge["settlement_time"]:
        answered["settlement_time"] = _local(charge["settlement_time"])
    if charge["refunds"]:
        answered |= {"refund_amount": f"{charge['refunded']}.00", "refunds": charge["refunds"]}
    return answered | _means(charge)


def told(charge: Row, server_key: str) -> Row:
    """The same for status and notices: signed. The signature covers neither the state nor the refunds."""
    answered = shown(charge)
    signed = (answered["order_id"], answered["status_code"], answered["gross_amount"], server_key)
    return answered | {"signature_key": signature(*signed)}


def _means(charge: Row) -> Row:
    if charge["va_number"] is not None:
        return {"va_numbers": [{"bank": "bca", "va_number": charge["va_number"]}]}
    picture = {"name": "generate-qr-code", "method": "GET", "url": f"/v2/qris/{charge['transaction_id']}/qr-code"}
    return {"qr_string": charge["qr_string"], "actions": [picture]}


def _local(time: datetime) -> str:
    return f"{time.astimezone(JAKARTA):%Y-%m-%d %H:%M:%S}"
