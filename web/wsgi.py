"""The WSGI application, for `gunicorn web.wsgi`; its import also starts the analysis thread."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
application = get_wsgi_application()

# Models can be imported only after Django has loaded the applications.
from web.analysis_queue import start_analysis  # noqa: E402

start_analysis()
