"""Runs many tasks on the machines of a Ray cluster, as many at a time as fit."""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import signal
import socket
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

LOCAL = "local"
RETRIES = 3
"""How often Ray repeats a task whose process or machine died."""
IN_FLIGHT = 256
"""How many tasks Ray gets at a time, so that memory does not grow with their number."""


@dataclass(frozen=True)
class ClusterOptions:
    """Where tasks are computed, and the resources of each task.

    Attributes:
        address: HOST:PORT of a running cluster, or LOCAL.
        at_once: number of tasks at a time on this machine; 1 needs no Ray.
        cpus: cores and threads of each task.
        gpus: GPUs of each task.
    """

    address: str = LOCAL
    at_once: int = 1
    cpus: int = 1
    gpus: int = 0

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ClusterOptions | None:
        """Check the parsed options; None: all tasks run one after the other in this process.

        Raises:
            UserError: a number is out of range, or options contradict each other.
        """
        options = cls(arguments.cluster, arguments.at_once, arguments.cpus_per_run, arguments.gpus_per_run)
        for name, value, least in (
            ("--at_once", options.at_once, 1),
            ("--cpus_per_run", options.cpus, 1),
            ("--gpus_per_run", options.gpus, 0),
        ):
            if value < least:
                raise UserError(f"{name} {value}: expected at least {least}")
        if options.address != LOCAL and options.at_once > 1:
            raise UserError("--at_once needs --cluster local; another cluster runs as many tasks as fit")
        if options.address != LOCAL or options.at_once > 1:
            return options
        if options != cls():
            raise UserError("--cpus_per_run and --gpus_per_run need --cluster or --at_once")
        return None


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add --cluster, --at_once, --cpus_per_run and --gpus_per_run to a parser."""
    group = parser.add_argument_group("several at a time (pip install -r requirements/cluster.txt)")
    group.add_argument(
        "--cluster",
        default=LOCAL,
        metavar="HOST:PORT",
        help="head of a running Ray cluster that includes this machine (default: local)",
    )
    for name, default, what in (
        ("--at_once", 1, "with --cluster local: number at a time on this machine"),
        ("--cpus_per_run", 1, "cores of each"),
        ("--gpus_per_run", 0, "GPUs of each"),
    ):
        text = f"{what} (default: {default})"
        group.add_argument(name, type=int, default=default, metavar="N", help=text)


@contextmanager
def cluster_connection(options: ClusterOptions) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine; disconnect or stop it at the end.

    Raises:
        UserError: Ray is not installed, the cluster does not answer, or no machine of it is large enough.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default Ray sends statistics
    if options.address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        # Ray listens on all addresses of the machine; only processes with this secret can connect.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray = _ray()
    where: dict[str, Any]
    if options.address == LOCAL:
        where = {"num_cpus": options.at_once * options.cpus, "include_dashboard": False}
    else:
        _refuse_unreachable(options.address)
        where = {"address": options.address}
    environment = {"env_vars": worker_environment(options)}
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, runtime_env=environment, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--cluster {options.address}: {reason}") from None
    try:
        signal.signal(signal.SIGTERM, at_sigterm)  # Ray has replaced it
        _refuse_too_small(ray.nodes(), options)
        yield
    finally:
        ray.shutdown()


Name = TypeVar("Name", bound=Hashable)


def results_as_completed(
    function: Callable, calls: Iterable[tuple[Name, tuple]], options: ClusterOptions, *, own_process: bool
) -> Iterator[tuple[Name, Any]]:
    """Call `function` on the connected cluster; repeat a call whose process or machine died.

    Args:
        function: a function of a module of this project.
        calls: name and arguments of each call; a limited number of calls is read in advance.
        options: the resources of each call.
        own_process: end the process after each call, to free its memory and locks.

    Yields:
        The name of each call with its result, or with a str that describes the error; in order of completion.
    """
    ray = _ray()
    task = ray.remote(
        num_cpus=options.cpus, num_gpus=options.gpus, max_retries=RETRIES, max_calls=1 if own_process else 0
    )(function)
    waiting, pending = iter(calls), dict[Any, Name]()
    while True:
        for name, arguments in itertools.islice(waiting, IN_FLIGHT - len(pending)):
            pending[task.remote(*arguments)] = name
        if not pending:
            return
        (finished,), _ = ray.wait(list(pending), num_returns=1)
        try:
            outcome = ray.get(finished)
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            outcome = f"{type(cause).__name__}: {str(cause).strip()}".splitlines()[0]
        yield pending.pop(finished), outcome


def worker_environment(options: ClusterOptions) -> dict[str, str]:
    """Environment of each worker: import path, Keras backend, and as many threads as cores."""
    threads = (
        "OMP_NUM_THREADS",  # OpenMP, OpenBLAS, torch
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "NPROC",  # XLA on CPU, so JAX
        "OPENCV_FOR_THREADS_NUM",
    )
    kept = {name: os.environ[name] for name in ("KERAS_BACKEND",) if name in os.environ}
    return dict.fromkeys(threads, str(options.cpus)) | kept | {"PYTHONPATH": str(PROJECT)}


def _ray() -> ModuleType:
    try:
        import ray  # an optional package
    except ModuleNotFoundError:
        raise UserError("--cluster and --at_once need Ray: pip install -r requirements/cluster.txt") from None
    return ray


def _refuse_unreachable(address: str) -> None:
    """Refuse an address without a server; Ray would try for two minutes and then end the process."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal()):
        raise UserError(f"--cluster {address}: expected HOST:PORT, e.g. 10.0.0.1:6379, or local")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--cluster {address}: no answer ({error}); is Ray running there (ray start --head)?"
        ) from None


def _refuse_too_small(nodes: list[dict], options: ClusterOptions) -> None:
    """Refuse a task larger than each machine; Ray would wait for a larger machine."""
    sizes = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(size.get("CPU", 0) >= options.cpus and size.get("GPU", 0) >= options.gpus for size in sizes):
        there = "; ".join(f"{size.get('CPU', 0):g} cores, {size.get('GPU', 0):g} GPUs" for size in sizes)
        raise UserError(
            f"no machine of the cluster has {options.cpus} cores and {options.gpus} GPUs for one run; "
            f"its machines have: {there}"
        )
