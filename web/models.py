"""The table of queue and results: one row for each image; its arrays are in the folder named by its key."""

import secrets
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from django.conf import settings
from django.db import models
from django.utils import timezone


def unguessable_name() -> str:
    """192 random bits as text that is valid in a URL and as a folder name."""
    return secrets.token_urlsafe(24)


class Result(models.Model):
    """An uploaded image and the result of its analysis.

    Attributes:
        key: its name in URLs and on the disk.
        owner: identifier of the session that uploaded it.
        file_name: name on the user's computer; displayed, never used as a path on the server.
        message: reason of a failure.
        process: ID of the process that analyses it.
        row_spacing_mm, column_spacing_mm: height and width of a pixel, if known.
        label: LabelMe label of the network that analysed it.
        provenance: network and settings of the analysis (`lib.prediction.measurements_table.provenance`).
        expected_gain: of a correction (`lib.prediction.certainty.review_order`), if it is known.
    """

    class State(models.TextChoices):
        """Progress of an image."""

        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    key = models.CharField(max_length=32, unique=True, default=unguessable_name)
    owner = models.CharField(max_length=32, db_index=True)
    file_name = models.CharField(max_length=200)
    is_dicom = models.BooleanField(default=False)
    state = models.CharField(max_length=7, choices=State, default=State.WAITING)
    message = models.CharField(max_length=300, default="")
    uploaded = models.DateTimeField(default=timezone.now)
    process = models.IntegerField(null=True)
    height = models.IntegerField()
    width = models.IntegerField()
    row_spacing_mm = models.FloatField(null=True)
    column_spacing_mm = models.FloatField(null=True)
    label = models.CharField(max_length=100, default="")
    provenance = models.JSONField(default=dict)
    expected_gain = models.FloatField(null=True)

    class Meta:  # noqa: D106  (Django's)
        ordering = ("pk",)

    @classmethod
    def kept(cls) -> models.QuerySet:
        """Results that have not expired."""
        return cls.objects.filter(uploaded__gt=cls.oldest_kept())

    @staticmethod
    def oldest_kept() -> datetime:
        """Earlier uploads have expired."""
        return timezone.now() - timedelta(seconds=settings.KEPT_SECONDS)

    @property
    def deleted_at(self) -> datetime:
        """Time at which the result expires."""
        return self.uploaded + timedelta(seconds=settings.KEPT_SECONDS)

    @property
    def position(self) -> int | None:
        """Position in the queue, from 1; None unless the image waits."""
        if self.state != self.State.WAITING:
            return None
        waiting = Result.kept().filter(state=self.State.WAITING)
        return waiting.filter(pk__lt=self.pk).count() + 1

    @property
    def folder(self) -> Path:
        """Contains `upload.png` before the analysis; the picture and the probability after it."""
        return settings.RESULTS_FOLDER / self.key

    @property
    def upload_file(self) -> Path:
        """Pixels of the upload, without its EXIF or DICOM header."""
        return self.folder / "upload.png"

    @property
    def picture_file(self) -> Path:
        """The image with a blackened information banner."""
        return self.folder / "picture.png"

    @property
    def probability_file(self) -> Path:
        """Little-endian float32, row by row; NaN outside the field of view."""
        return self.folder / "probability"

    @property
    def disagreement_file(self) -> Path:
        """Little-endian float32, row by row; absent if the network has a single view of an image."""
        return self.folder / "disagreement"

    @property
    def correction_file(self) -> Path:
        """uint8, row by row (see `web.corrections`); absent if the mask was not corrected by hand."""
        return self.folder / "correction"

    @property
    def pixel_spacing_mm(self) -> tuple[float, float] | None:
        """Height and width of a pixel, if known."""
        if self.row_spacing_mm is None or self.column_spacing_mm is None:
            return None
        return self.row_spacing_mm, self.column_spacing_mm

    def probability_and_field_of_view(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32, 0 outside the field of view, and (H, W) uint8 in {0, 1}."""
        stored = np.fromfile(self.probability_file, "<f4").reshape(self.height, self.width)
        field_of_view = ~np.isnan(stored)
        return np.where(field_of_view, stored, 0), field_of_view.astype(np.uint8)

    def disagreement(self) -> np.ndarray | None:
        """(H, W) float32 of `lib.prediction.certainty.disagreement`; None if there is a single view."""
        try:
            return np.fromfile(self.disagreement_file, "<f4").reshape(self.height, self.width)
        except FileNotFoundError:
            return None
