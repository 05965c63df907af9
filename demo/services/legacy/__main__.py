"""python -m demo.services.legacy --listen 127.0.0.1:PORT; the settings are named in demo/README.md."""

import os

from demo.services.legacy.app import create_app
from demo.services.payments import payees
from demo.services.web import run

run(
    create_app(
        dsn=os.environ["LEGACY_DSN"],
        provider_url=os.environ["PROVIDER_URL"],
        keys=payees(os.environ["PAYEE_KEYS"]),
        notice_base=os.environ["NOTICE_BASE"],
    )
)
