"""The application: what a process of the server holds."""

import threading

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out

from lib.networks.trained_network import TrainedNetwork


class WebConfig(AppConfig):
    """What a process of the server holds.

    Attributes:
        network: set when the process starts to serve; commands such as `migrate` need none.
        uploaded: set when an image has come in, to wake the thread that analyses.
        decoding: one upload is decoded at a time, so that memory is bounded.
    """

    name = "web"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self.network: TrainedNetwork | None = None
        self.uploaded = threading.Event()
        self.decoding = threading.Lock()

    def ready(self) -> None:
        """Who logs out leaves nothing for the next at the same computer."""
        from web.analysis_queue import delete_results_at_logout

        user_logged_out.connect(delete_results_at_logout)
