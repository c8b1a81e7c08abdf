"""Two workers on this machine represent two machines of a Ray cluster; each test may kill one of them."""

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lib.datasets.synthetic_angiograms import write_synthetic_angiograms
from lib.networks.from_experiments import read_keras_network
from lib.prediction.folder import predict_images
from lib.prediction.found_images import find_images
from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT
from lib.runtime.ray_cluster import (
    ClusterOptions,
    add_cluster_options,
    cluster_connection,
    results_as_completed,
)
from tests.conftest import tiny_settings
from tests.lib.experiments.test_running import plan_file

NO_RAY = "no Ray: pip install -r requirements/cluster.txt"
LONGEST = 600
"""Timeout in seconds, for a busy machine."""


@pytest.fixture(scope="module")
def cluster():
    """A head and two workers of one core each on loopback; always stopped at the end."""
    pytest.importorskip("ray", reason=NO_RAY)
    kept = dict(os.environ)
    # With a token Ray would write to the home folder.
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    Path("/tmp/ray").mkdir(exist_ok=True)  # Ray writes the address of the cluster into it
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # a short path, as for all sockets
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "temp_dir": folder, "include_dashboard": False}
    )
    try:
        for _ in range(2):
            started.add_node(num_cpus=1)
        yield started
    finally:
        started.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.clear()
        os.environ |= kept


def kill_machine(cluster, of_process: int | None = None) -> None:
    """Kill a worker with all its processes, by default the first one, and start another worker."""
    parent = of_process and Path(f"/proc/{of_process}/stat").read_text().rpartition(")")[2].split()[1]
    raylets = {node.all_processes["raylet"][0].process.pid: node for node in cluster.worker_nodes}
    victim = raylets[int(parent)] if parent else next(iter(raylets.values()))
    cluster.remove_node(victim, allow_graceful=False)
    cluster.add_node(num_cpus=1)


def start(script: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROJECT / script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for(happened, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + LONGEST
    while not happened():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def finished(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, errors
    return output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cluster", "127.0.0.1:1"], r"no answer \(.*\); is Ray running there"),
        (["--cluster", "ray"], "expected HOST:PORT, e.g. 10.0.0.1:6379, or local"),
        (["--at_once", "0"], "expected at least 1"),
        (["--cluster", "a:1", "--at_once", "2"], "--at_once needs --cluster local"),
    ],
)
def test_wrong_cluster_options_are_errors(options, message, monkeypatch):
    pytest.importorskip("ray", reason=NO_RAY)
    parser = argparse.ArgumentParser()
    add_cluster_options(parser)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with (
        pytest.raises(UserError, match=message),
        cluster_connection(ClusterOptions.of(parser.parse_args(options))),
    ):
        pass


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    with (
        pytest.raises(UserError, match=r"pip install -r requirements/cluster\.txt"),
        cluster_connection(ClusterOptions(at_once=2)),
    ):
        pass


@pytest.mark.cluster
def test_calls_get_their_cores_and_a_failed_call_does_not_stop_the_others(cluster):
    options = ClusterOptions(cluster.address)
    with cluster_connection(options):
        calls = [("wrong", ("{",)), ("right", ("{}",))]
        found = dict(results_as_completed(json.loads, calls, options, own_process=False))
        assert found.pop("wrong").startswith("JSONDecodeError: Expecting property name")
        assert found == {"right": {}}
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "NPROC", "PYTHONPATH")
        calls = ((name, (name,)) for name in names)
        found = dict(results_as_completed(os.getenv, calls, options, own_process=True))
    assert found == dict.fromkeys(names, "1") | {"PYTHONPATH": str(PROJECT)}


@pytest.mark.cluster
def test_a_task_larger_than_every_machine_is_refused(cluster):
    options = ClusterOptions(cluster.address, cpus=1, gpus=1)
    message = "no machine of the cluster has 1 cores and 1 GPUs for one run; .* 1 cores, 0 GPUs"
    with pytest.raises(UserError, match=message), cluster_connection(options):
        pass


@pytest.mark.cluster
def test_sigterm_has_its_own_code_although_ray_replaces_the_exception(cluster, tmp_path):
    program = f"""
import subprocess
from lib.runtime.command_line import run_script
from lib.runtime.ray_cluster import ClusterOptions, cluster_connection, results_as_completed

def main():
    options = ClusterOptions({cluster.address!r})
    with cluster_connection(options):
        calls = [("waiting", (["sh", "-c", "touch '{tmp_path}/started'; exec sleep 60"],))]
        list(results_as_completed(subprocess.call, calls, options, own_process=True))

run_script(main)
"""
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        wait_for((tmp_path / "started").exists, process)
        process.terminate()
        _, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 143 and errors.strip() == "stopped by SIGTERM"


@pytest.mark.cluster
def test_a_plan_is_completed_after_an_interruption_and_a_killed_machine(cluster, prepared, tmp_path):
    vary = "training settings.N_epochs = 8\n[vary]\nmodel.architecture = unet | resunet\n"
    plans = {}
    for name in ("undisturbed", "disturbed"):
        (tmp_path / name).mkdir()
        file = plan_file(tmp_path / name, vary)
        text = file.read_text().replace("training settings.N_epochs = 1\n", "")
        file.write_text(text.replace(str(file.parent / "datasets"), str(prepared / "datasets")))
        plans[name] = file
    with start("run_experiments.py", plans["undisturbed"], "--cluster", cluster.address) as process:
        finished(process)  # not in this process: the number of threads changes the fourth digit
    folder = tmp_path / "disturbed" / "experiments" / "plan"

    def epochs() -> dict[Path, int]:
        tables = folder.glob("*/history.csv")
        return {table.parent: len(table.read_text().splitlines()) - 1 for table in tables}

    command = ("run_experiments.py", plans["disturbed"], "--cluster", cluster.address)
    with start(*command) as interrupted:
        wait_for(epochs, interrupted)
        interrupted.send_signal(signal.SIGINT)
        _, errors = interrupted.communicate(timeout=LONGEST)
    assert interrupted.returncode == 130 and errors.strip() == "stopped by Ctrl-C"
    before = epochs()
    with start(*command) as process:
        wait_for(lambda: any(n > before.get(run, 0) for run, n in epochs().items()), process)
        killed = next(run for run, n in epochs().items() if n > before.get(run, 0))
        kill_machine(cluster, int((killed / "training.lock.txt").read_text().split()[1]))
        done = epochs()[killed]
        output = finished(process)
    assert output.count(": finished") == 2 and "[2/2]" in output
    for run in ("architecture-unet", "architecture-resunet"):
        with (folder / run / "history.csv").open() as table:
            assert [row["epoch"] for row in csv.DictReader(table)] == list("12345678")
    log = (killed / f"{killed.name}_training.nohup").read_text()
    resumed = int(log.rpartition("\ncontinuing after epoch ")[2].partition(";")[0])
    assert done - 1 <= resumed <= done < 8  # history.csv is written just before the checkpoint
    expected = tmp_path / "undisturbed" / "experiments" / "plan" / "results.json"
    assert content(folder / "results.json") == content(expected)


def content(results: Path) -> dict:
    read = json.loads(results.read_text())
    for row in read["runs"]:
        del row["training minutes"]
    return read


@pytest.mark.cluster
def test_each_image_is_predicted_once_although_a_machine_is_killed(cluster, tested, tmp_path):
    _, experiment, _ = tested
    write_synthetic_angiograms(tmp_path / "in", 12, seed=9, size=128)
    (tmp_path / "in" / "0.png").write_text("no picture")
    settings = {"stride_height": 4, "stride_width": 4, "threshold": 0.5, "min_area_px": 0}
    slow = [f"testing settings.{name}={value}" for name, value in settings.items()]
    network, _ = read_keras_network(experiment, slow)
    images = find_images([tmp_path / "in"], tmp_path / "out")
    alone, failures = predict_images(network, images, tmp_path / "alone", {})
    assert len(images) == 13 and len(failures) == 1
    settings = [*tiny_settings(experiment.folder.parents[1]), *slow]
    command = ["run_prediction.py", tmp_path / "in", "--output", tmp_path / "out"]
    command += ["--config", PROJECT / "configurations" / "demo.txt", "--experiment", "tested"]
    command += [part for setting in settings for part in ("--set", setting)]
    partial = tmp_path / "out" / "results.partial.jsonl"
    with start(*command, "--cluster", cluster.address) as process:
        wait_for(lambda: partial.exists() and partial.read_text().count('"image"') > 3, process)
        kill_machine(cluster)
        output, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 1 and "results of 12 images" in output, errors
    assert "failed (1):" in output and "0.png: is not an image" in output
    there, expected = (
        {
            file.name: file.read_bytes()
            for file in folder.iterdir()
            if not file.name.startswith("results.lock")
        }
        for folder in (tmp_path / "out", alone.parent)
    )
    assert there == expected
