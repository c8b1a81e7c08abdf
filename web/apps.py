"""The Django application and the objects that one server process holds."""

import threading

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out

from lib.networks.trained_network import TrainedNetwork


class WebConfig(AppConfig):
    """Objects of one server process.

    Attributes:
        network: set when the process starts to serve; commands such as `migrate` run without it.
        uploaded: set after an upload, to wake the analysis thread.
        decoding: held while an upload is decoded; one at a time limits the memory.
    """

    name = "web"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.network: TrainedNetwork | None = None
        self.uploaded = threading.Event()
        self.decoding = threading.Lock()

    def ready(self) -> None:
        """Delete a user's results at log-out: the next person may use the same computer."""
        # Models can be imported only after Django has loaded the applications.
        from web.analysis_queue import delete_results_at_logout

        user_logged_out.connect(delete_results_at_logout)
