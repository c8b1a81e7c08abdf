"""Time and memory of prepare_datasets_FFA.py for a large folder.

    python -m benchmarks.packing [--number 700]

It first packs a seventh of the images, to measure whether memory grows with their number. The images are
copies of a few synthetic angiograms with the names of many patients; two pixels of each are changed, because
the script refuses the same image twice.
"""

import json
import tempfile
from pathlib import Path

from benchmarks.measuring import Claim, benchmark_parser, machine, run_process, write_report
from lib.datasets.synthetic_angiograms import synthetic_angiogram
from lib.images.labelme import labelme_document
from lib.images.png import write_png

ROWS, COLUMNS = 868, 768
DISTINCT = 4


def write_images(folder: Path, number: int) -> None:
    """Write `number` angiograms of `number` patients, each with its LabelMe file."""
    folder.mkdir()
    drawn = [synthetic_angiogram(1, index, ROWS) for index in range(DISTINCT)]
    truths = [labelme_document(d.non_perfusion[:, :COLUMNS] > 0, "NP", "a.png") for d in drawn]
    for index in range(number):
        image = drawn[index % DISTINCT].image[:, :COLUMNS].copy()
        image[ROWS // 2, COLUMNS // 2 : COLUMNS // 2 + 2] = divmod(index, 256)
        write_png(folder / f"{index}-1.png", image)
        (folder / f"{index}-1.json").write_text(json.dumps(truths[index % DISTINCT]), "utf-8")


def pack(temporary: Path, number: int) -> tuple[float, float]:
    """Pack `number` images; return seconds and MiB."""
    images = temporary / f"images{number}"
    write_images(images, number)
    packed = f"data paths.path_local={temporary / f'packed{number}'}"
    return run_process(["prepare_datasets_FFA.py", "--images", images, "--set", packed])


def main() -> None:
    parser = benchmark_parser(__doc__, repeats=1)
    parser.add_argument("--number", type=int, default=700)
    arguments = parser.parse_args()
    number, few = arguments.number, max(10, arguments.number // 7)
    with tempfile.TemporaryDirectory() as temporary:
        rows = {n: pack(Path(temporary), n) for n in (few, number)}
    (seconds, memory), (_, memory_of_few) = rows[number], rows[few]
    one = 3 * ROWS * COLUMNS / 2**20  # MiB of image, truth and field of view
    grown = (memory - memory_of_few) / one
    claims = [
        Claim(f"packing {number} images of {ROWS}x{COLUMNS}", seconds, 120, "s"),
        Claim(f"memory that {number} images need above {few}", grown, 20, "images"),
    ]
    lines = [
        f"Images of {ROWS}x{COLUMNS} pixels with LabelMe polygons, packed with every check and picture.",
        "",
        "| images | s | ms an image | peak memory, MiB |",
        "|---|---|---|---|",
    ]
    for n, (taken, peak) in rows.items():
        lines.append(f"| {n} | {taken:.1f} | {1000 * taken / n:.0f} | {peak:.0f} |")
    result = {"images": {n: {"seconds": s, "peak_memory_MiB": m} for n, (s, m) in rows.items()}}
    about = machine("numpy", "h5py", "opencv-python-headless", "pillow")
    write_report(arguments.results / "packing", "Packing", about, lines, result, claims)


if __name__ == "__main__":
    main()
