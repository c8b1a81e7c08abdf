"""The queue and the results: one row an image; its arrays lie in a folder of the same unguessable name."""

import secrets
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from django.conf import settings
from django.db import models
from django.utils import timezone


def unguessable_name() -> str:
    """192 random bits, fit for an address and a folder."""
    return secrets.token_urlsafe(24)


class Result(models.Model):
    """An uploaded image: waiting, being analysed, done or failed.

    Attributes:
        key: names it in addresses and on the disk.
        owner: the session that uploaded it.
        file_name: as the user's machine calls it; shown, never used as a path here.
        message: why it failed.
        process: id of the process that analyses it.
        row_spacing_mm, column_spacing_mm: height and width of a pixel, where known.
        label: of the network that analysed it, for LabelMe.
        provenance: what the measurements rest on (`lib.prediction.measurements_table.provenance`).
    """

    class State(models.TextChoices):
        """Where an image is on its way."""

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

    class Meta:  # noqa: D106  (Django's)
        ordering = ("pk",)

    @classmethod
    def kept(cls) -> models.QuerySet:
        """Those whose time is not over."""
        return cls.objects.filter(uploaded__gt=cls.oldest_kept())

    @staticmethod
    def oldest_kept() -> datetime:
        """What was uploaded then is deleted now."""
        return timezone.now() - timedelta(seconds=settings.KEPT_SECONDS)

    @property
    def deleted_at(self) -> datetime:
        """When its time is over."""
        return self.uploaded + timedelta(seconds=settings.KEPT_SECONDS)

    @property
    def position(self) -> int | None:
        """In the queue, from 1; None for one that does not wait."""
        if self.state != self.State.WAITING:
            return None
        waiting = Result.kept().filter(state=self.State.WAITING)
        return waiting.filter(pk__lt=self.pk).count() + 1

    @property
    def folder(self) -> Path:
        """Holds `upload.png` until the analysis, then the picture and the probability."""
        return settings.RESULTS_FOLDER / self.key

    @property
    def upload_file(self) -> Path:
        """The image as uploaded, in pixels alone: EXIF and DICOM headers were left behind."""
        return self.folder / "upload.png"

    @property
    def picture_file(self) -> Path:
        """The image, black where the information banner was."""
        return self.folder / "picture.png"

    @property
    def probability_file(self) -> Path:
        """float32, little endian, row by row; NaN outside the field of view."""
        return self.folder / "probability"

    @property
    def pixel_spacing_mm(self) -> tuple[float, float] | None:
        """Height and width of a pixel, where known."""
        if self.row_spacing_mm is None or self.column_spacing_mm is None:
            return None
        return self.row_spacing_mm, self.column_spacing_mm

    def probability_and_field_of_view(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, W) float32, 0 outside the field of view, and (H, W) uint8 in {0, 1}."""
        stored = np.fromfile(self.probability_file, "<f4").reshape(self.height, self.width)
        field_of_view = ~np.isnan(stored)
        return np.where(field_of_view, stored, 0), field_of_view.astype(np.uint8)
