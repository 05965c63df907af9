"""python -m demo.services.provider --listen 127.0.0.1:PORT; the settings are named in demo/README.md."""

import os

from demo.services.payments import payees
from demo.services.provider.app import create_app
from demo.services.web import run

run(
    create_app(
        dsn=os.environ["PROVIDER_DSN"],
        keys=payees(os.environ["PAYEE_KEYS"]),
        settle_after_s=float(os.environ.get("SETTLE_AFTER_S", "0.2")),
    )
)
