import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.runtime.paths import PROJECT
from tests.conftest import tiny_settings

SCRIPTS = ["prepare_datasets_FFA.py", "run_training.py", "run_testing.py"]
ALL_SCRIPTS = sorted(file.name for file in PROJECT.glob("*.py"))


def run(script: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, script if script == "-m" else str(PROJECT / script), *arguments]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # no GPU, wherever the tests run
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env=environment)


def options(folder: Path, *more: str) -> list[str]:
    settings = [*tiny_settings(folder), "training settings.N_epochs=1", *more]
    pairs = [part for setting in settings for part in ("--set", setting)]
    return ["--config", str(PROJECT / "configurations" / "demo.txt"), *pairs]


@pytest.mark.parametrize("script", ALL_SCRIPTS)
def test_help_needs_no_installed_package(script):
    """So run_script can report a missing package or a wrong version of Python."""
    command = [sys.executable, "-S", str(PROJECT / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
    assert ("--config" in done.stdout) == (script not in {"run_experiments.py", "run_web.py"})


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_mistake_is_one_line_without_a_traceback_and_exit_code_2(script, tmp_path):
    done = run(script, "--set", "model.filter=4 8", folder=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "did you mean 'filters'" in done.stderr


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("run_testing.py", ["--experiments", "a"], "expected two or more different names"),
        ("run_prediction.py", [".", "--experiments", "a", "a"], "two or more different names"),
        ("run_prediction.py", [".", "--engine", "onnx", "--experiments", "a", "b"], "--engine keras"),
        ("run_prediction.py", [".", "--model", "a.onnx", "--experiment", "b"], "--model: expected neither"),
    ],
)
def test_a_wrong_ensemble_is_an_error_of_one_line(script, arguments, message, tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "image.png")
    done = run(script, *arguments, folder=tmp_path)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["../../x", "/etc", "..", "a\\b"])
def test_the_name_of_an_experiment_cannot_be_a_path(name, tmp_path):
    (tmp_path / "a.png").touch()
    for script, *arguments in (
        ("run_prediction.py", "a.png", "--experiment", name),
        ("run_prediction.py", "a.png", "--engine", "onnx", "--experiment", name),
        ("run_prediction.py", "a.png", "--experiments", "a", name),
        ("run_testing.py", "--experiments", "a" * 90, name),
        ("run_training.py", "--set", f"experiment name.name={name}"),
    ):
        done = run(script, *arguments, folder=tmp_path)
        assert done.returncode == 2 and "expected a plain folder name" in done.stderr, done.stderr
    exported = run("run_export.py", name, folder=PROJECT)
    assert exported.returncode == 2 and "expected a plain folder name" in exported.stderr


@pytest.fixture
def two_trained(tmp_path):
    """Experiments "demo" and "drive", an untrained one, and the options that name their folder."""
    for name in ("demo", "drive", "begun"):
        folder = tmp_path / "experiments" / name
        folder.mkdir(parents=True)
        shutil.copy(PROJECT / "configurations" / "demo.txt", folder / f"{name}_configuration.txt")
        if name != "begun":
            (folder / f"{name}_best.weights.h5").touch()
    Image.new("L", (64, 64)).save(tmp_path / "a.png")
    return ["--set", f"experiment name.path_experiments={tmp_path / 'experiments'}"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["run_export.py"], "expected the NAME of an experiment;"),
        (["run_export.py", "wrong"], "no trained experiment wrong ("),
        (["run_prediction.py", "a.png"], "no trained experiment enhance_laddernet ("),
        (["run_prediction.py", "a.png", "--experiment", "wrong"], "no trained experiment wrong ("),
        (
            ["run_prediction.py", "a.png", "--engine", "onnx", "--experiment", "wrong"],
            "no trained experiment wrong (",
        ),
        (["run_prediction.py", "a.png", "--experiments", "demo", "wrong"], "no trained experiment wrong ("),
        (["run_testing.py"], "no trained experiment enhance_laddernet ("),
        (["run_testing.py", "--experiments", "demo", "wrong"], "no trained experiment wrong ("),
    ],
    ids=" ".join,
)
def test_a_wrong_experiment_is_an_error_with_the_trained_ones(command, message, two_trained, tmp_path):
    done = run(*command, *two_trained, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"error: {message}")
    assert f"trained experiments in {tmp_path / 'experiments'}: demo, drive" in done.stderr


def test_a_network_that_is_not_exported_is_an_error_with_the_command(two_trained, tmp_path):
    options = ["--engine", "onnx", "--experiment", "demo", *two_trained]
    done = run("run_prediction.py", "a.png", *options, folder=tmp_path)
    assert done.returncode == 2 and "demo.onnx: no such file" in done.stderr
    command = shlex.join(["python", str(PROJECT / "run_export.py"), *two_trained, "demo"])
    assert done.stderr.endswith(f"write it with: {command}\n")


def test_the_web_page_without_a_network_is_an_error_with_the_trained_experiments(tmp_path, monkeypatch):
    monkeypatch.setenv("CNP_WEB_FOLDER", str(tmp_path))
    done = run("run_web.py", "--model", "wrong.onnx", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "wrong.onnx: no such file; export" in done.stderr
    assert f"in {PROJECT / 'experiments'}" in done.stderr


def test_without_any_trained_experiment_the_error_says_how_to_train(tmp_path):
    options = ["--set", f"experiment name.path_experiments={tmp_path}"]
    done = run("run_export.py", *options, folder=tmp_path)
    assert done.returncode == 2
    assert f"no experiment in {tmp_path} is trained; run run_training.py first" in done.stderr


def test_all_scripts_work_from_any_working_directory(tmp_path):
    made = run(
        "prepare_datasets_FFA.py", *options(tmp_path, "preparation.split_seed=1"), "--synthetic", "6", folder=tmp_path
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "test" in made.stdout and (tmp_path / "datasets" / "prepared.png").is_file()
    trained = run("run_training.py", *options(tmp_path, "training settings.nohup=True"), folder=tmp_path)
    assert trained.returncode == 0, trained.stderr
    folder = tmp_path / "experiments" / "tiny"
    log = (folder / "tiny_training.nohup").read_text()
    assert "epoch   1/1" in log and "epoch" not in trained.stdout
    tested = run("run_testing.py", *options(tmp_path), folder=tmp_path)
    assert tested.returncode == 0, tested.stderr
    assert (folder / "ROC.png").is_file() and (folder / "Precision_recall.png").is_file()
    # Messages of TensorFlow do not help the user.
    assert tested.stderr == "" and "cuda" not in log.lower()
    predict_and_export(tmp_path)


def predict_and_export(folder: Path):
    bad = folder / "bad.png"
    bad.write_text("no picture")
    images = [str(folder / "angiograms"), str(bad)]
    options_here = [*options(folder), "--experiment", "tiny", "--output"]
    done = run("run_prediction.py", *images, *options_here, "keras", folder=folder)
    assert done.returncode == 1 and "results of 6 images" in done.stdout, done.stderr
    assert "bad.png: is not an image" in done.stdout and done.stderr == ""
    assert "finds no GPU and computes on the CPU" in done.stdout
    exported = run("run_export.py", "tiny", *options(folder), folder=PROJECT)
    assert exported.returncode == 0, exported.stderr
    assert "tiny.onnx" in exported.stdout and exported.stderr == ""
    again = run("run_prediction.py", *images, *options_here, "onnx", "--engine", "onnx", folder=folder)
    assert again.returncode == 1, again.stderr
    for file in (folder / "keras").glob("*_probability.png"):
        levels = [np.asarray(Image.open(folder / e / file.name)) / 65535 for e in ("keras", "onnx")]
        assert np.abs(levels[0] - levels[1]).max() < 1e-3 and np.ptp(levels[0]) > 0.01


def test_importing_the_configuration_does_not_import_a_framework():
    code = "import sys, lib.configuration.reading; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, env=os.environ
    )
    assert not {"keras", "tensorflow", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize("script", ALL_SCRIPTS)
def test_no_script_imports_keras_before_it_starts_keras(script):
    modules = "lib.experiments.plan, lib.experiments.running" if script == "run_experiments.py" else "lib"
    code = f"import sys, {script.removesuffix('.py')}, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"keras", "tensorflow"} & set(done.stdout.split())


def test_model_alone_chooses_onnxruntime(tmp_path):
    image = tmp_path / "a.png"
    Image.new("L", (40, 40)).save(image)
    missing = run("run_prediction.py", str(image), "--model", "nowhere.onnx", folder=tmp_path)
    assert missing.returncode == 2 and "nowhere.onnx: no such file" in missing.stderr
    refused = run("run_prediction.py", str(image), "--model", "a.onnx", "--engine", "keras", folder=tmp_path)
    assert refused.returncode == 2 and "--model: expected --engine onnx or openvino" in refused.stderr


def test_a_missing_package_is_an_error_of_one_line_with_the_remedy(tmp_path):
    done = subprocess.run(
        [sys.executable, "-S", str(PROJECT / "run_training.py")], capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is missing: activate the environment" in done.stderr


def test_an_unknown_backend_of_keras_is_an_error_of_one_line(monkeypatch):
    code = "from lib.runtime import command_line, keras_startup as k; command_line.run_script(k.start_keras)"
    for backend, message in (("pytorch", "expected tensorflow, jax, torch"), ("jax", "pip install jax")):
        if backend == "jax" and find_spec("jax"):
            continue
        monkeypatch.setenv("KERAS_BACKEND", backend)
        done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith(f"error: KERAS_BACKEND={backend}: ") and message in done.stderr


def test_ctrl_c_while_numpy_is_imported_ends_with_code_130(tmp_path):
    """It comes when numpy's C code looks for datetime, or else when numpy.linalg is looked for."""
    (tmp_path / "stopped.py").write_text(
        f"import signal, sys\nsys.path.insert(0, {str(PROJECT)!r})\n"
        "from lib.runtime.command_line import run_script\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name in ('datetime', 'numpy.linalg'):\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "def main():\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    sys.meta_path.insert(0, Finder)\n"
        "    import numpy\n"
        "run_script(main)\n"
    )
    done = run(str(tmp_path / "stopped.py"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (130, "\nstopped by Ctrl-C\n")


def test_missing_memory_is_an_error_of_one_line():
    code = "import numpy, lib.runtime.command_line as c; c.run_script(lambda: numpy.ones(10**15))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: not enough memory; end other programs")


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path):
    (tmp_path / "datasets").write_text("a file in the way")
    done = run("prepare_datasets_FFA.py", *options(tmp_path), "--synthetic", "6", folder=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert "datasets" in done.stderr and "Traceback" not in done.stderr
