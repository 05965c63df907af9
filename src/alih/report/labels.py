"""Words of the evidence, as a reader who has never seen it would put them. A word that is not here stays as it is:
contracts name their own steps and cohorts, and what failed is told in the words of whoever noticed it. `area:word` is a
word's meaning in one place only.
"""

from collections.abc import Mapping
from types import MappingProxyType


def marked(text: str) -> str:
    """Marks a text for the catalogue."""
    return text


LABELS: Mapping[str, str] = MappingProxyType(
    {
        # groups and fractions of the score
        "payment": marked("Payment"),
        "data": marked("Data and users"),
        "merchant": marked("Merchant operations"),
        "recorded": marked("money of moved shops matches"),
        "tried": marked("cohorts with a passed purchase"),
        "verified": marked("moved shops found equal, row by row"),
        "shared": marked("shared data moved"),
        "moved": marked("shops moved"),
        # sides, moments, cohorts of alih's own
        "source": marked("old side"),
        "target": marked("new side"),
        "before": marked("before the move"),
        "during": marked("during the move"),
        "after": marked("after the move"),
        "@shared": marked("Shared data"),
        # clicks of a purchase, by the names that contracts commonly give them
        "step:promotion": marked("Follow the promotion’s link"),
        "step:shop_tab": marked("Open the Shop tab"),
        "step:product": marked("Open the product"),
        "step:cart": marked("Put it into the cart"),
        "step:order": marked("Place the order"),
        "step:pay": marked("Pay"),
        "step:paid": marked("Payment is confirmed"),
        "step:invoice": marked("Open the invoice"),
        "step:refund": marked("Ask for the money back"),
        "step:refunded": marked("Refund is confirmed"),
        # checks of a purchase
        "check:steps": marked("every click answered"),
        "check:price": marked("shown = ordered = charged = settled"),
        "check:invoice": marked("invoice opens"),
        "check:hosts": marked("no other host"),
        "check:payee": marked("paid to the owner’s account"),
        "check:ledger": marked("in the owner’s ledger and nowhere else"),
        "check:provider": marked("provider says the same"),
        "check:refund": marked("all given back"),
        # links of a sale's trace
        "link:gateway": marked("call at the gateway"),
        "link:owner": marked("owner of the shop"),
        "link:ledger": marked("row in the owner’s ledger"),
        "link:provider": marked("record of the payment provider"),
        "link:invoice": marked("invoice"),
        # why a notice was refused
        "refusal:not_a_post": marked("it was not posted"),
        "refusal:too_large": marked("it was too large"),
        "refusal:bad_body": marked("it could not be read"),
        "refusal:no_notice": marked("it was no payment notice"),
        "refusal:bad_signature": marked("its signature was wrong"),
        # what nothing explains
        "the order was charged more than once": marked("the order was charged more than once"),
        "order and charge differ": marked("order and charge differ"),
        "ledger and charge differ": marked("ledger and charge differ"),
        "charge and provider differ": marked("charge and provider differ"),
        "the provider has not settled the charge": marked("the provider has not settled the charge"),
        "the owner has not recorded what the provider settled": marked(
            "the owner has not recorded what the provider settled"
        ),
        "the provider collected for another account": marked("the provider collected for another account"),
        "a refund of the provider is missing at the owner": marked("a refund of the provider is missing at the owner"),
        "a refund of the owner is missing at the provider": marked("a refund of the owner is missing at the provider"),
        "the provider settled what no order knows": marked("the provider settled what no order knows"),
        "stands in the ledger of the source, which does not own the shop": marked(
            "stands in the ledger of the old side, which does not own the shop"
        ),
        "stands in the ledger of the target, which does not own the shop": marked(
            "stands in the ledger of the new side, which does not own the shop"
        ),
        "a payment notice was never taken by the shop's owner": marked(
            "a payment notice was never taken by the shop’s owner"
        ),
        # where a finding comes from
        "from:audit": marked("Sales traced"),
        "from:reconciliation": marked("Money matched"),
        "from:trial": marked("Purchases tried"),
        "from:custody": marked("Payment notices"),
        # columns of money
        "orders_idr": marked("Orders"),
        "charges_idr": marked("Charges"),
        "provider_idr": marked("Provider"),
        "books_idr": marked("Books"),
        "refunds_idr": marked("Refunds"),
        # amounts of a purchase
        "shown": marked("Shown"),
        "ordered": marked("Ordered"),
        "charged": marked("Charged"),
        "settled": marked("Settled"),
    }
)
