"""The Django application and the objects that one server process holds."""

import threading

from django.apps import AppConfig
from django.conf import settings
from django.contrib.auth.signals import user_logged_out

from lib.networks.trained_network import TrainedNetwork
from web.decoding import Decoder
from web.shared_lock import SharedLock


class WebConfig(AppConfig):
    """Objects of one server process.

    Attributes:
        network: set when the process starts to serve; commands such as `migrate` run without it.
        uploaded: set after an upload, to wake the analysis thread.
        decoder: decodes one upload at a time, in a process of its own.
        serving: held by each process that serves images of the folder.
        analysis: the thread that analyses images, while the process serves.
        upload_slots: one for each upload that is received or waits for the decoder; more get status 503.
    """

    name = "web"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.network: TrainedNetwork | None = None
        self.uploaded = threading.Event()
        self.decoder = Decoder()
        self.serving = SharedLock(settings.FOLDER / "serving")
        self.analysis: threading.Thread | None = None
        self.upload_slots = threading.BoundedSemaphore()

    def ready(self) -> None:
        """Read the limit of uploads. At log-out, delete the results: others may use the same computer."""
        # Models can be imported only after Django has loaded the applications.
        from web.analysis_queue import delete_results_at_logout

        self.upload_slots = threading.BoundedSemaphore(settings.UPLOADS_AT_ONCE)
        user_logged_out.connect(delete_results_at_logout)
