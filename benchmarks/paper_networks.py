"""Tables 1 and 2 of the Enhance LadderNet paper under the recipe of ffa_recommended.txt.

    python run_experiments.py configurations/paper_networks_ffa_recommended.txt
    python run_experiments.py configurations/reduction_ratio_ffa_recommended.txt
    python -m benchmarks.paper_networks

All take `--set "section.key=value"`. Writes docs/results/paper_networks.{json,md}. All figures are of FOV
pixels; each image is predicted by a network that was not trained on its patient. A seed counts as soon as all
its runs are finished.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from scipy import stats

from benchmarks.measuring import benchmark_parser, machine
from lib.evaluation.patient_statistics import SCORES, Estimate
from lib.evaluation.pixel_scores import defined
from lib.experiments.plan import Plan, read_plan
from lib.experiments.pooled_folds import DARKNESS, Variant, read_variants
from lib.experiments.statistics_report import COMPARED_BY, compare, markdown_table
from lib.runtime.atomic_files import write_text
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, and the plan that makes it here.

    Attributes:
        title: heading of the table.
        plan: name of the plan in configurations/.
        rows: for each variant of the plan, its name in the paper, and accuracy, sensitivity, specificity and
            F1 there, in %.
    """

    title: str
    plan: str
    rows: Mapping[str, tuple[str, tuple[float, float, float, float]]]


TABLES = (
    PaperTable(
        "Table 1: networks",
        "paper_networks_ffa_recommended",
        {
            "laddernet": ("LadderNet", (74.07, 70.32, 74.73, 44.81)),
            "laddernet_cbam_v1": ("LadderNet CBAM V1", (68.53, 59.98, 70.03, 36.31)),
            "laddernet_cbam_v2": ("LadderNet CBAM V2", (77.24, 71.45, 78.26, 48.44)),
            "resunet": ("ResUNet", (73.74, 78.40, 72.92, 47.18)),
            "unet_vgg": ("UNet-VGG", (82.41, 67.32, 85.06, 53.39)),
            "laddernet_pro": ("LadderNet pro", (84.87, 66.32, 87.98, 56.74)),
            "enhance_laddernet": ("Enhance LadderNet", (85.01, 67.70, 88.00, 56.83)),
        },
    ),
    PaperTable(
        "Table 2: reduction ratio of the channel attention of Enhance LadderNet",
        "reduction_ratio_ffa_recommended",
        {
            "4": ("4", (81.18, 70.47, 83.06, 52.84)),
            "8": ("8", (85.01, 67.70, 88.00, 56.83)),
            "16": ("16", (84.04, 67.90, 86.88, 56.02)),
        },
    ),
)

COMPARED_WITH_PAPER = ("accuracy", "sensitivity", "specificity", "f1")


def with_finished_seeds(plan: Plan) -> Plan:
    """The plan with the seeds whose runs are all finished.

    Raises:
        UserError: no seed is finished.
    """
    unfinished = {run.seed for run in plan.runs if not run.is_tested}
    runs = tuple(run for run in plan.runs if run.seed not in unfinished)
    if not runs:
        raise UserError(
            f"{plan.folder}: no seed has all its runs; run: python run_experiments.py "
            f"configurations/{plan.name}.txt"
        )
    return replace(plan, runs=runs)


def figures_of(variant: Variant) -> dict[str, object]:
    """Scores of a variant and their difference to blurred darkness, each with its 95 % interval."""
    network = variant.network.estimate
    difference = network.minus(variant.baselines[DARKNESS].estimate)
    return {
        **_scores("", network),
        **_scores("difference_", difference),
        "parameters": variant.runs[0].experiment.training_record()["parameters"],
        "seeds": len(variant.network.counts),
        "images": len(variant.images),
        "patients": len(variant.network.counts[0].patients),
    }


def _scores(prefix: str, estimate: Estimate) -> dict[str, object]:
    found: dict[str, object] = {}
    for score, value, ends in zip(SCORES, estimate.values, estimate.interval(), strict=True):
        found[prefix + score] = defined(value)
        found[f"{prefix}{score}_interval"] = [defined(end) for end in ends]
    return found


def rank_correlation(table: PaperTable, figures: Mapping[str, Mapping], score: str) -> dict[str, float]:
    """Kendall's tau (with its exact two-sided p) of the paper's F1 and a score here."""
    paper = [published[-1] for _, published in table.rows.values()]
    tau, p = stats.kendalltau(paper, [figures[name][score] for name in table.rows])
    return {"tau": float(tau), "p": float(p)}


def table_content(table: PaperTable, overrides: Sequence[str]) -> dict:
    """All figures of a table."""
    plan = read_plan(PROJECT / "configurations" / f"{table.plan}.txt", overrides)
    variants = read_variants(with_finished_seeds(plan))
    figures = {variant.name: figures_of(variant) for variant in variants}
    for name, (_, published) in table.rows.items():
        figures[name]["paper"] = dict(zip(COMPARED_WITH_PAPER, published, strict=True))
    return {
        "networks": figures,
        "darkness": _scores("", variants[0].baselines[DARKNESS].estimate),
        "rank_correlation": {score: rank_correlation(table, figures, score) for score in COMPARED_BY},
        "paired_tests": [asdict(test) for score in COMPARED_BY for test in compare(score, variants)],
    }


def table_lines(table: PaperTable, content: Mapping) -> list[str]:
    """A table and its tests, for people."""

    def cell(figures: Mapping, score: str, sign: str = "") -> str:
        low, high = figures[f"{score}_interval"]
        return f"{figures[score]:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    rows = []
    for name, (title, published) in table.rows.items():
        own = content["networks"][name]
        rows.append(
            [
                title,
                " / ".join(f"{value:.2f}" for value in published),
                " / ".join(f"{100 * own[score]:.2f}" for score in COMPARED_WITH_PAPER),
                *(cell(own, score) for score in ("auc_roc", "auc_pr", "f1")),
                cell(own, "difference_f1", "+"),
                f"{own['parameters']:,}",
            ]
        )
    darkness = content["darkness"]
    here = " / ".join(f"{100 * darkness[score]:.2f}" for score in COMPARED_WITH_PAPER)
    scores = [cell(darkness, score) for score in ("auc_roc", "auc_pr", "f1")]
    rows.append(["blurred darkness", "", here, *scores, "", ""])
    columns = ["", "paper: Acc / Se / Sp / F1, %", "here: Acc / Se / Sp / F1, %"]
    columns += ["AUC-ROC", "AUC-PR", "Dice", "Dice minus that of darkness", "parameters"]
    first = next(iter(content["networks"].values()))
    lowest = {
        score: min(test["p_holm"] for test in content["paired_tests"] if test["score"] == score)
        for score in COMPARED_BY
    }
    tau = content["rank_correlation"]
    return [
        f"## {table.title}",
        "",
        f"{first['images']} angiograms of {first['patients']} patients; {first['seeds']} seed(s).",
        "",
        markdown_table(columns, rows),
        "",
        f"Order of the paper by F1 against the order here, Kendall's tau: {tau['f1']['tau']:+.2f} by Dice "
        f"(p = {tau['f1']['p']:.2f}), {tau['auc_roc']['tau']:+.2f} by AUC-ROC "
        f"(p = {tau['auc_roc']['p']:.2f}). Smallest p of all pairs of networks, Wilcoxon with Holm's "
        f"correction: {lowest['f1']:.3f} for the Dice of a patient, {lowest['auc_roc']:.3f} for the AUC.",
        "",
    ]


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    arguments = parser.parse_args()
    content = {table.plan: table_content(table, arguments.overrides) for table in TABLES}
    computer, today = machine("tensorflow"), datetime.date.today().isoformat()
    file = arguments.results / "paper_networks.json"
    write_text(file, json.dumps({**content, "machine": computer, "date": today}, indent=2) + "\n")
    lines = [
        "# The networks of the Enhance LadderNet paper under the recommended recipe",
        "",
        f"Made by `python -m benchmarks.paper_networks`, {today}, on {computer['cores']} cores of "
        f"{computer['cpu']}.",
        "",
        "Every network: filters 16 32 64 128, random initial weights, the field of view 128 pixels across, "
        "300 steps of 8 images, five folds by patient; threshold with the best F1 on the validation "
        "patients. FOV pixels pooled; in brackets: 95 % interval by a patient-level bootstrap; with several "
        "seeds, the mean of their scores.",
        "",
        *(line for table in TABLES for line in table_lines(table, content[table.plan])),
    ]
    write_text(file.with_suffix(".md"), "\n".join(lines))
    print(file)


if __name__ == "__main__":
    main()
