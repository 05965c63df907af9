"""python -m demo.services.marketplace --listen 127.0.0.1:PORT; the settings are named in demo/README.md."""

import os

from demo.services.marketplace.app import create_app
from demo.services.shop import settings
from demo.services.web import run

run(create_app(token=os.environ["MARKETPLACE_TOKEN"], **settings("MARKETPLACE_DSN")))
