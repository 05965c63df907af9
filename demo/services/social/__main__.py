"""python -m demo.services.social --listen 127.0.0.1:PORT; the settings are named in demo/README.md."""

import os

from demo.services.social.app import create_app
from demo.services.web import run

run(create_app(dsn=os.environ["SOCIAL_DSN"], buyer=int(os.environ.get("SOCIAL_BUYER", "1000000001"))))
