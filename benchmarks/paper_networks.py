"""Tables 1 and 2 of the Enhance LadderNet paper under the recipe of ffa_recommended.txt.

    python run_experiments.py configurations/paper_networks_ffa_recommended.txt
    python run_experiments.py configurations/reduction_ratio_ffa_recommended.txt
    python -m benchmarks.paper_networks

All take `--set "section.key=value"`. Writes docs/results/paper_networks.{json,md}. All figures are of FOV
pixels; each image is predicted by a network that was not trained on its patient. A seed is scored when all
its runs are finished; the figures of other seeds, perhaps of another machine, stay.
"""

import datetime
import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from scipy import stats

from benchmarks.cnp_cross_validation import trained_by
from benchmarks.measuring import benchmark_parser, machine
from lib.evaluation.patient_statistics import SCORES, Estimate
from lib.evaluation.pixel_scores import defined
from lib.experiments.plan import Plan, read_plan
from lib.experiments.pooled_folds import DARKNESS, Variant, read_variants
from lib.experiments.statistics_report import COMPARED_BY, compare, markdown_table
from lib.runtime.atomic_files import read_json, write_text
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


def finished_seeds(plan: Plan) -> dict[str, Plan]:
    """For each seed whose runs are all finished, the plan with these runs only."""
    by_seed = {str(run.seed): [r for r in plan.runs if r.seed == run.seed] for run in plan.runs}
    return {
        seed: replace(plan, runs=tuple(runs))
        for seed, runs in by_seed.items()
        if all(run.is_tested for run in runs)
    }


def figures_of(variant: Variant) -> dict[str, object]:
    """Scores of a variant and their difference to blurred darkness, each with its 95 % interval."""
    network = variant.network.estimate
    difference = network.minus(variant.baselines[DARKNESS].estimate)
    return {
        **_scores("", network),
        **_scores("difference_", difference),
        "parameters": variant.runs[0].experiment.training_record()["parameters"],
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


def figures_of_seed(table: PaperTable, plan: Plan) -> dict:
    """All figures of a table with one seed."""
    variants = read_variants(plan)
    figures = {variant.name: figures_of(variant) for variant in variants}
    return {
        "networks": figures,
        "darkness": _scores("", variants[0].baselines[DARKNESS].estimate),
        "rank_correlation": {score: rank_correlation(table, figures, score) for score in COMPARED_BY},
        "paired_tests": [asdict(test) for score in COMPARED_BY for test in compare(score, variants)],
        "trained_by": trained_by(plan.runs),
        "machine": machine("tensorflow"),
        "date": datetime.date.today().isoformat(),
    }


def seed_lines(table: PaperTable, seed: str, content: Mapping) -> list[str]:
    """The table of one seed and its tests, for people."""

    def cell(figures: Mapping, score: str, sign: str = "") -> str:
        low, high = figures[f"{score}_interval"]
        return f"{figures[score]:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"

    def percentages(figures: Mapping) -> str:
        return " / ".join(f"{100 * figures[score]:.2f}" for score in COMPARED_WITH_PAPER)

    rows = []
    for name, (title, published) in table.rows.items():
        own, paper = content["networks"][name], " / ".join(f"{value:.2f}" for value in published)
        areas = [cell(own, score) for score in ("auc_roc", "auc_pr", "f1")]
        rows.append([title, paper, percentages(own), *areas, cell(own, "difference_f1", "+")])
    darkness = content["darkness"]
    areas = [cell(darkness, score) for score in ("auc_roc", "auc_pr", "f1")]
    rows.append(["blurred darkness", "", percentages(darkness), *areas, ""])
    columns = ["", "paper: Acc / Se / Sp / F1, %", "here: Acc / Se / Sp / F1, %"]
    columns += ["AUC-ROC", "AUC-PR", "Dice", "Dice minus that of darkness"]
    first, tau = next(iter(content["networks"].values())), content["rank_correlation"]
    lowest = {
        score: min(test["p_holm"] for test in content["paired_tests"] if test["score"] == score)
        for score in COMPARED_BY
    }
    return [
        f"### Seed {seed}",
        "",
        f"{content['date']}, {content['machine']['cores']} cores of {content['machine']['cpu']}. Trained by "
        f"{content['trained_by']}. {first['images']} angiograms of {first['patients']} patients.",
        "",
        markdown_table(columns, rows),
        "",
        f"Order of the paper by F1 against the order here, Kendall's tau: {tau['f1']['tau']:+.2f} by Dice "
        f"(p = {tau['f1']['p']:.2f}), {tau['auc_roc']['tau']:+.2f} by AUC-ROC (p = "
        f"{tau['auc_roc']['p']:.2f}). Smallest p of all pairs of networks, Wilcoxon with Holm's correction: "
        f"{lowest['f1']:.3f} for the Dice of a patient, {lowest['auc_roc']:.3f} for the AUC.",
        "",
    ]


def mean_lines(table: PaperTable, seeds: Mapping[str, Mapping]) -> list[str]:
    """The Dice and AUC-ROC of each network with each seed, and their means, if there are several seeds."""
    if len(seeds) < 2:
        return []
    of = [*(f"seed {seed}" for seed in seeds), "mean"]
    columns = ["", *(f"{score}, {which}" for score in ("Dice", "AUC-ROC") for which in of)]
    rows = []
    for name, (title, _) in table.rows.items():
        values = [
            [content["networks"][name][score] for content in seeds.values()] for score in ("f1", "auc_roc")
        ]
        rows.append([title, *(f"{v:.3f}" for one in values for v in (*one, statistics.mean(one)))])
    return ["### All seeds", "", markdown_table(columns, rows), ""]


def report(content: Mapping[str, Mapping]) -> str:
    """The page of all tables and seeds."""
    lines = [
        "# The networks of the Enhance LadderNet paper under the recommended recipe",
        "",
        "Made by `python -m benchmarks.paper_networks` from two plans (its docstring has the commands). "
        "Every network: filters 16 32 64 128, random initial weights, the field of view 128 pixels across, "
        "300 steps of 8 images, five folds by patient; threshold with the best F1 on the validation "
        "patients. FOV pixels pooled; in brackets: 95 % interval by a patient-level bootstrap.",
        "",
    ]
    for table in TABLES:
        seeds = content[table.plan]
        lines += [f"## {table.title}", ""]
        lines += [line for seed, found in seeds.items() for line in seed_lines(table, seed, found)]
        lines += mean_lines(table, seeds)
    return "\n".join(lines)


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    arguments = parser.parse_args()
    file = arguments.results / "paper_networks.json"
    content = read_json(file, "delete it") if file.is_file() else {}
    for table in TABLES:
        plan = read_plan(PROJECT / "configurations" / f"{table.plan}.txt", arguments.overrides)
        seeds = content.setdefault(table.plan, {})
        for seed, finished in finished_seeds(plan).items():
            seeds[seed] = figures_of_seed(table, finished)
        print(f"{table.plan}: seeds {', '.join(seeds) or 'none'}")
    write_text(file, json.dumps(content, indent=2) + "\n")
    write_text(file.with_suffix(".md"), report(content))
    print(file)


if __name__ == "__main__":
    main()
