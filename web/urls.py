"""URLs of the page."""

from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.i18n import set_language

from web import views

urlpatterns = [
    path("", views.page, name="page"),
    path("results/", views.Results.as_view(), name="results"),
    path("results/<key>/", views.OneResult.as_view(), name="result"),
    path("results/<key>/picture", views.picture, name="picture"),
    path("results/<key>/probability", views.probability, name="probability"),
    path("results/<key>/disagreement", views.disagreement, name="disagreement"),
    path("results/<key>/correction", views.Correction.as_view(), name="correction"),
    path("results/<key>/measurement", views.measurement, name="measurement"),
    path("results/<key>/download/<kind>", views.download, name="download"),
    path("login/", LoginView.as_view(template_name="web/login.html"), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("language/", login_not_required(set_language), name="set_language"),
]
handler400 = "web.views.bad_request"
handler404 = "web.views.not_found"
handler500 = "web.views.server_error"
