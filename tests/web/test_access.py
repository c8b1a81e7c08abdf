"""Access to the page, and settings that the server refuses."""

import os
import stat
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from lib.runtime.paths import PROJECT
from tests.web.conftest import SlowBody, files_kept, page_client, png, send

IMAGE = png(np.eye(64, dtype=np.uint8))


def command(folder, *arguments, **environment) -> subprocess.CompletedProcess:
    """Run a script with none of the web page's variables but these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CNP_WEB_", "DJANGO_"))}
    kept |= {"CNP_WEB_FOLDER": str(folder), **environment}
    return subprocess.run([sys.executable, *arguments], cwd=PROJECT, env=kept, capture_output=True, text=True)


def one_line_error(finished: subprocess.CompletedProcess) -> str:
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    return finished.stderr


def test_default_settings_pass_djangos_deployment_check(tmp_path):
    finished = command(tmp_path, "web/manage.py", "check", "--deploy", "--fail-level", "INFO")
    assert finished.returncode == 0, finished.stderr
    assert "no issues (0 silenced)" in finished.stdout


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"CNP_WEB_DEBUG": "yes"}, "CNP_WEB_DEBUG"),
        ({"CNP_WEB_SECRET_KEY": "changeme"}, "CNP_WEB_SECRET_KEY"),
        ({"CNP_WEB_SECRET_KEY": "django-insecure-" + "abcdefgh" * 8}, "CNP_WEB_SECRET_KEY"),
        ({"CNP_WEB_SECRET_KEY": "a" * 60}, "CNP_WEB_SECRET_KEY"),
    ],
)
def test_weak_settings_are_refused_on_the_network(tmp_path, environment, named):
    for script in (["web/manage.py", "check"], ["run_web.py", "--host", "0.0.0.0"]):
        assert named in one_line_error(command(tmp_path, *script, **environment))


def test_secret_key_is_created_once_and_private(tmp_path):
    from web.secret_key import kept_secret_key

    key = kept_secret_key(tmp_path / "web")
    file = tmp_path / "web" / "secret_key"
    assert len(key) == 100
    assert kept_secret_key(tmp_path / "web") == key != kept_secret_key(tmp_path / "other")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.chmod(0o644)
    from lib.runtime.errors import UserError

    with pytest.raises(UserError, match="other users can read it"):
        kept_secret_key(tmp_path / "web")


def test_the_database_is_private_in_a_folder_that_was_open_before(tmp_path):
    (tmp_path / "web").mkdir(mode=0o755)
    for ending in ("", "-wal"):
        (tmp_path / "web" / f"database.sqlite3{ending}").touch(mode=0o644)
    command(tmp_path, "web/manage.py", "migrate", CNP_WEB_FOLDER=str(tmp_path / "web"))
    files = list((tmp_path / "web").glob("database.sqlite3*"))
    assert files and {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_missing_onnx_file_is_one_line_error(tmp_path):
    error = one_line_error(command(tmp_path, "run_web.py", "--model", str(tmp_path / "no.onnx")))
    assert "no.onnx: no such file" in error
    assert "python run_export.py NAME" in error


def test_local_access_needs_no_account(client):
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


@pytest.fixture
def on_the_network(web, settings):
    from django.test import override_settings

    with override_settings(ACCOUNTS_REQUIRED=True, AXES_ENABLED=True):
        yield


def test_wrong_passwords_lock_a_user_name_for_one_address(on_the_network):
    from axes.models import AccessAttempt
    from django.contrib.auth.models import User
    from django.db.models import F
    from django.test import Client
    from django.utils import timezone

    from web.analysis_queue import delete_expired

    User.objects.create_user("nurse", password="a long enough one")
    stranger = Client(headers={"host": "127.0.0.1"})

    def log_in(password, address="10.0.0.7"):
        credentials = {"username": "nurse", "password": password}
        return stranger.post("/login/", credentials, REMOTE_ADDR=address)

    try:
        assert [log_in("no").status_code for _ in range(10)] == [200] * 9 + [429]
        answer = log_in("a long enough one")
        assert answer.status_code == 429
        assert "try again in 15 minutes" in answer.content.decode()
        (kept,) = AccessAttempt.objects.all()
        assert kept.username == "nurse" and "password=no" not in kept.post_data
        elsewhere = log_in("a long enough one", "10.0.0.8")
        assert elsewhere.status_code == 302  # the lock holds for one address only
        AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=14))
        assert log_in("a long enough one").status_code == 429
        delete_expired()
        assert AccessAttempt.objects.count() == 1
        AccessAttempt.objects.update(attempt_time=F("attempt_time") - timedelta(minutes=1))
        delete_expired()
        assert not AccessAttempt.objects.exists()
        assert log_in("a long enough one").status_code == 302, "attempts meanwhile do not extend the lock"
    finally:
        AccessAttempt.objects.all().delete()
        User.objects.all().delete()


def test_network_access_needs_an_account(on_the_network, settings):
    from django.contrib.auth.models import User
    from django.test import Client

    stranger = Client(headers={"host": "127.0.0.1"})
    answer = stranger.get("/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")
    for method, address in (("get", "/results/"), ("post", "/results/"), ("get", "/results/x/picture")):
        assert getattr(stranger, method)(address).status_code == 403
    assert stranger.get("/login/").status_code == 200
    assert stranger.get("/static/page.css").status_code == 200

    User.objects.create_user("doctor", password="a long enough one")
    try:
        assert stranger.post("/login/", {"username": "doctor", "password": "no"}).status_code == 200
        assert stranger.get("/").status_code == 302
        answer = stranger.post("/login/", {"username": "doctor", "password": "a long enough one"})
        assert answer["Location"] == "/"
        assert stranger.get("/").status_code == 200
        assert send(stranger, IMAGE).status_code == 201
        assert len(list(settings.RESULTS_FOLDER.iterdir())) == 1
        stranger.post("/logout/")
        assert list(settings.RESULTS_FOLDER.iterdir()) == []
    finally:
        User.objects.all().delete()


@pytest.fixture
def doctor(on_the_network):
    """A client that has logged in and opened the page."""
    from django.contrib.auth.models import User
    from django.test import Client

    user = User.objects.create_user("doctor", password="a long enough one")
    client = Client(headers={"host": "127.0.0.1"})
    client.post("/login/", {"username": "doctor", "password": "a long enough one"}, follow=True)
    yield client
    user.delete()


def test_two_uploads_at_the_same_time_after_log_in_belong_to_one_session(doctor):
    body = SlowBody(IMAGE, lambda: send(doctor, IMAGE, "2.png"))
    assert send(doctor, IMAGE, "1.png", **{"wsgi.input": body}).status_code == 201
    listed = doctor.get("/results/").json()["results"]
    assert [result["fileName"] for result in listed] == ["2.png", "1.png"]


def test_an_image_that_arrives_after_log_out_is_deleted(doctor, settings):
    from web.models import Result

    answer = send(doctor, IMAGE, **{"wsgi.input": SlowBody(IMAGE, lambda: doctor.post("/logout/"))})
    assert (answer.status_code, answer.json()["message"]) == (403, "You are logged out; log in again.")
    assert files_kept(settings) == [] and not Result.objects.exists()


def test_log_out_ends_the_session_before_it_deletes_the_images(doctor):
    from django.contrib.auth.signals import user_logged_out

    statuses = []

    def upload(**_):  # called after delete_results_at_logout
        statuses.append(send(doctor, IMAGE).status_code)

    user_logged_out.connect(upload)
    try:
        doctor.post("/logout/")
    finally:
        user_logged_out.disconnect(upload)
    assert statuses == [403]


def test_an_upload_extends_the_session(client, settings):
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    session = Session.objects.filter(session_key=client.session.session_key)
    session.update(expire_date=timezone.now() + timedelta(minutes=5))
    assert send(client, IMAGE).status_code == 201
    assert session.get().expire_date > timezone.now() + timedelta(seconds=settings.KEPT_SECONDS)


def test_files_outside_the_static_folder_are_not_served(client):
    for address in ("/static/../settings.py", "/static/%2e%2e/settings.py", "/static/", "/web_data/"):
        assert client.get(address).status_code in {400, 404}


def test_static_files_have_the_security_headers(client):
    for name, content_type in (("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = client.get(f"/static/{name}")
        assert answer["Content-Type"].startswith(content_type)
        assert answer["Cache-Control"] == "no-cache"
        assert "default-src 'none'" in answer["Content-Security-Policy"]
        assert answer["X-Frame-Options"] == "DENY"
        assert answer["X-Content-Type-Options"] == "nosniff"
        assert "Access-Control-Allow-Origin" not in answer
        unchanged = client.get(f"/static/{name}", headers={"if-modified-since": answer["Last-Modified"]})
        assert unchanged.status_code == 304


def test_headers(client):
    answer = client.get("/")
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"
    assert "no-store" in answer["Cache-Control"]
    assert page_client().cookies["csrftoken"]["httponly"]
