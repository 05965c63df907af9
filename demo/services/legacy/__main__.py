"""python -m demo.services.legacy --listen 127.0.0.1:PORT; the settings are named in demo/README.md."""

from demo.services.legacy.app import create_app
from demo.services.shop import settings
from demo.services.web import run

run(create_app(**settings("LEGACY_DSN")))
