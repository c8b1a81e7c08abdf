"""The vessel data sets: folders and file names, as on the sites that distribute them.

* DRIVE: Staal et al., IEEE Trans. Med. Imaging 23(4), 2004. 40 images with fields of view; two
  observers annotated the test half. The present download has no truth for the test half.
* STARE: Hoover, Kouznetsova, Goldbaum, IEEE Trans. Med. Imaging 19(3), 2000. 20 images, two observers
  (`ah`, `vk`), no field of view, no names of patients. im0162 and im0163 show the same eye, and so do im0235
  and im0236: the same pattern of vessels, shifted.
* CHASE_DB1: Fraz et al., IEEE Trans. Biomed. Eng. 59(9), 2012. Both eyes of 14 children, two
  observers, no field of view.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class VesselSet:
    """File names of a data set.

    Paths of masks start at the folder of the image, without an extension. They may contain `{name}`
    (the image's file name up to its first dot) and `{patient}`.

    Attributes:
        images: patterns of the image files, relative to the folder of the data set.
        patient: regular expression for an image's name; its first group is the patient.
        truth: masks of the first observer.
        second_observer: masks of the second observer; they may be missing.
        field_of_view: field of view; it is detected if there is no such file.
        configuration: file in `configurations` that is used if the user names none.
        truth_may_be_missing: part of a pattern in `images`; these images may all lack truth, and
            cannot be scored then.
        same_patient: maps a patient id to that of the same person.
    """

    images: tuple[str, ...]
    patient: str
    truth: str
    second_observer: str
    field_of_view: str
    configuration: str
    truth_may_be_missing: str = ""
    same_patient: Mapping[str, str] = field(default_factory=dict)


VESSEL_SETS = {
    "DRIVE": VesselSet(
        images=("training/images/*", "test/images/*"),
        patient=r"^(\d+)_",
        truth="../1st_manual/{patient}_manual1",
        second_observer="../2nd_manual/{patient}_manual2",
        field_of_view="../mask/{name}_mask",
        configuration="drive_retina_unet.txt",
        truth_may_be_missing="test",
    ),
    "STARE": VesselSet(
        images=("stare-images/*",),
        patient=r"^(im\d+)",
        truth="../labels-ah/{name}.ah",
        second_observer="../labels-vk/{name}.vk",
        field_of_view="../masks/{name}",
        configuration="stare_retina_unet.txt",
        same_patient={"im0163": "im0162", "im0236": "im0235"},
    ),
    "CHASE_DB1": VesselSet(
        images=("Image_[0-9][0-9][LR].*",),
        patient=r"^Image_(\d+)",
        truth="{name}_1stHO",
        second_observer="{name}_2ndHO",
        field_of_view="masks/{name}",
        configuration="chase_db1_retina_unet.txt",
    ),
}
