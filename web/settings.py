"""Django's settings. The defaults are for a server on a hospital's network: accounts, TLS, no DEBUG.

CNP_WEB_ACCESS   network (default) | local: no accounts, no TLS (run_web.py sets it for 127.0.0.1)
CNP_WEB_FOLDER   folder of database, key, uploads and results (default: web_data beside the scripts)
CNP_WEB_MODEL    the network, an ONNX file (default: the network of the repository, else the newest export)
CNP_WEB_ENGINE   onnx (default: onnxruntime) | openvino
CNP_WEB_HOSTS    host names that browsers may use, separated by commas (default: the machine's name)
CNP_WEB_SECRET_KEY  Django's secret key (default: created and stored in CNP_WEB_FOLDER)
CNP_WEB_TLS      yes (default) | no: pages are sent unencrypted
CNP_WEB_DEBUG    yes: Django's error pages; only with local access
"""

import hashlib
import os
import socket
from datetime import timedelta
from pathlib import Path

from lib.runtime.paths import PROJECT
from web.secret_key import checked_secret_key, kept_secret_key

FOLDER = Path(os.environ.get("CNP_WEB_FOLDER", PROJECT / "web_data")).resolve()
MODEL = os.environ.get("CNP_WEB_MODEL", "")
ENGINE = os.environ.get("CNP_WEB_ENGINE", "onnx")
LOCAL = os.environ.get("CNP_WEB_ACCESS", "network") == "local"
TLS = not LOCAL and os.environ.get("CNP_WEB_TLS", "yes") != "no"
DEBUG = os.environ.get("CNP_WEB_DEBUG", "no") == "yes"
ACCOUNTS_REQUIRED = not LOCAL
SECRET_KEY = os.environ.get("CNP_WEB_SECRET_KEY") or kept_secret_key(FOLDER)
if not LOCAL:
    checked_secret_key(SECRET_KEY, debug=DEBUG)

# Limits of uploads and of stored results.
MAX_UPLOAD_BYTES = 64 * 2**20
MAX_PIXELS = 20_000_000
"""Pixels of one upload; fundus cameras have 12 to 16 million. At most lib.images.checked_files.MAX_PIXELS."""
MAX_CORRECTION_BYTES = 2**20
"""One correction of a mask, compressed; brush strokes need some kilobytes."""
MAX_DECODING_SECONDS = 15
"""Time to decode one upload; its process is ended then. The largest images need some seconds."""
UPLOADS_AT_ONCE = 16
"""Uploads that one process receives at a time, fewer than gunicorn's threads; more get status 503."""
MAX_WAITING = 12
"""Images in the queue, of all users; more get status 503."""
MAX_RESULTS = 200
"""Stored images, of all users: 5 bytes for each pixel, 9 with a disagreement map, and 1 for a correction."""
MIN_FREE_BYTES = 2**30
"""Free bytes on the disk; with less, uploads get status 503."""
KEPT_SECONDS = 3600

RESULTS_FOLDER = FOLDER / "results"
UPLOAD_FOLDER = FILE_UPLOAD_TEMP_DIR = FOLDER / "uploads"
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 2**10
for folder in (FOLDER, RESULTS_FOLDER, UPLOAD_FOLDER):
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
DATABASE = FOLDER / "database.sqlite3"
DATABASE.touch(mode=0o600)
# An earlier version may have made these files readable for all users, in a folder that was there before.
for file in FOLDER.glob(f"{DATABASE.name}*"):
    if file.stat().st_mode & 0o077:
        file.chmod(0o600)

if LOCAL:  # no other name, to prevent DNS rebinding attacks
    ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
else:
    names = os.environ.get("CNP_WEB_HOSTS", socket.gethostname())
    ALLOWED_HOSTS = [name.strip() for name in names.split(",")]

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "axes",
    "web",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "web.middleware.response_headers",
    "web.middleware.drop_unread_body",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",  # the middleware above adds headers to static files
    "web.middleware.Refusals",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "web.middleware.upload_size_limit",
    "web.middleware.AccountRequired",  # before CsrfViewMiddleware, which reads the whole body of a form
    "django.middleware.csrf.CsrfViewMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "web.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]
STATIC_URL = "/static/"
STATIC_ROOT = PROJECT / "web" / "static"  # the sources: collectstatic is not needed
WHITENOISE_MAX_AGE = None  # web.middleware.response_headers sets Cache-Control
WHITENOISE_ALLOW_ALL_ORIGINS = False

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATABASE,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",  # makes check_room and save in enqueue() one step
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA secure_delete=ON;",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = LOGOUT_REDIRECT_URL = "page"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
# Against password guessing: after 10 failures, a user name is locked for the address they came from.
AXES_ENABLED = ACCOUNTS_REQUIRED
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_LOCKOUT_CALLABLE = "web.views.locked_out"
AXES_RESET_ON_SUCCESS = AXES_DISABLE_ACCESS_LOG = True
AXES_VERBOSE = False

# Cookies do not differ by port: two servers of one machine would replace each other's sessions.
SESSION_COOKIE_NAME = f"sessionid_{hashlib.sha256(str(FOLDER).encode()).hexdigest()[:8]}"
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = TLS
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "web.views.csrf_failure"
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = TLS
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("zh-hans", "中文")]
LOCALE_PATHS = [PROJECT / "web" / "locale"]
USE_TZ = True
TIME_ZONE = "UTC"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "axes": {"level": "CRITICAL"},  # it would log a password that is typed into the name field
        "django": {"handlers": [], "level": "ERROR", "propagate": True},
        "django.security": {"level": "CRITICAL"},  # attacks, which get status 400
    },
}
