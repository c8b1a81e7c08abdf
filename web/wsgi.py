"""What gunicorn serves: `gunicorn web.wsgi`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "web.settings")
application = get_wsgi_application()

from web.start import start  # noqa: E402  (Django must be set up first)

start()
