"""Apache Superset for the tests: a server on the loopback address that keeps everything in one folder."""

import os

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
SQLALCHEMY_DATABASE_URI = f"sqlite:///{os.environ['SUPERSET_HOME']}/superset.db"
# Without a browser there is nobody to steal a session from.
WTF_CSRF_ENABLED = False
TALISMAN_ENABLED = False
