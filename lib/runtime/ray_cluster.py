"""Many tasks on the machines of a Ray cluster, as many at once as fit."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import socket
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from lib.runtime.errors import UserError
from lib.runtime.paths import PROJECT

if TYPE_CHECKING:
    import argparse

LOCAL = "local"
RETRIES = 3
"""Times that a task is begun again whose process or machine died."""
IN_FLIGHT = 256
"""Tasks that are handed to Ray at once, so that an archive of any size takes the same memory."""


@dataclass(frozen=True)
class ClusterOptions:
    """Where tasks are computed, and what each is given.

    Attributes:
        address: of a running cluster, HOST:PORT; or LOCAL.
        at_once: tasks at a time on this machine; 1 needs no Ray.
        cpus: cores, and threads, of each task.
        gpus: of each task.
    """

    address: str = LOCAL
    at_once: int = 1
    cpus: int = 1
    gpus: int = 0

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> ClusterOptions | None:
        """What the options of `add_cluster_options` choose; None: one after the other in this process.

        Raises:
            UserError: a number out of range, or an address that is none.
        """
        options = cls(
            arguments.cluster, arguments.at_once, arguments.cpus_per_run, arguments.gpus_per_run
        )
        for name, value, least in (
            ("--at_once", options.at_once, 1),
            ("--cpus_per_run", options.cpus, 1),
            ("--gpus_per_run", options.gpus, 0),
        ):
            if value < least:
                raise UserError(f"{name} {value}: expected at least {least}")
        if options.address != LOCAL and options.at_once > 1:
            raise UserError("--at_once is of --cluster local; a cluster runs as many as fit")
        if options.address != LOCAL or options.at_once > 1:
            return options
        if options != cls():
            raise UserError("--cpus_per_run and --gpus_per_run are of --cluster and --at_once")
        return None


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add --cluster and what belongs to it to a parser."""
    group = parser.add_argument_group("more at once (pip install -r requirements/cluster.txt)")
    group.add_argument(
        "--cluster",
        default=LOCAL,
        metavar="HOST:PORT",
        help="head of a running Ray cluster, of which this machine is part; default: local",
    )
    group.add_argument(
        "--at_once",
        type=int,
        default=1,
        metavar="N",
        help="with --cluster local: so many at a time on this machine (default: 1)",
    )
    group.add_argument("--cpus_per_run", type=int, default=1, metavar="N", help="default: 1")
    group.add_argument("--gpus_per_run", type=int, default=0, metavar="N", help="default: 0")


@contextmanager
def cluster_connection(options: ClusterOptions) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine; at the end nothing of it is left running.

    Raises:
        UserError: Ray is not installed, the cluster does not answer, or no machine of it is large enough.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report home
    if options.address == LOCAL and "RAY_AUTH_MODE" not in os.environ:
        # Ray listens on all of the machine's addresses; without this secret nobody gets in.
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        import ray
    except ModuleNotFoundError:
        raise UserError(
            "--cluster and --at_once need Ray: pip install -r requirements/cluster.txt"
        ) from None
    if options.address == LOCAL:
        where = {"num_cpus": options.at_once * options.cpus, "include_dashboard": False}
    else:
        _refuse_unreachable(options.address)
        where = {"address": options.address}
    at_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            **where,
            runtime_env={"env_vars": worker_environment(options)},
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"--cluster {options.address}: {reason}") from None
    try:
        signal.signal(signal.SIGTERM, at_sigterm)  # which Ray takes for itself
        _refuse_too_small(ray.nodes(), options)
        yield
    finally:
        ray.shutdown()


Name = TypeVar("Name", bound=Hashable)


def results_as_completed(
    function: Callable,
    calls: Iterable[tuple[Name, tuple]],
    options: ClusterOptions,
    *,
    own_process: bool,
) -> Iterator[tuple[Name, Any]]:
    """Call `function` for each of `calls`, its name and its arguments, on the cluster that is connected.

    A call whose process or machine dies is made again elsewhere.

    Args:
        function: of a module of this project.
        calls: taken one by one, a bounded number ahead of what has finished.
        options: what each call is given.
        own_process: end the process after a call, and with it whatever it holds.

    Yields:
        The call's name, and what came back or a str that says what went wrong; as they finish.
    """
    import ray

    task = ray.remote(
        num_cpus=options.cpus,
        num_gpus=options.gpus,
        max_retries=RETRIES,
        max_calls=1 if own_process else 0,
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
    """Of every process that computes: this checkout, this backend, and no more threads than its cores."""
    threads = (
        "OMP_NUM_THREADS",  # OpenMP, OpenBLAS, torch
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
        "NPROC",  # XLA on CPU, so JAX
        "OPENCV_FOR_THREADS_NUM",
    )
    kept = {name: os.environ[name] for name in ("KERAS_BACKEND",) if name in os.environ}
    return dict.fromkeys(threads, str(options.cpus)) | kept | {"PYTHONPATH": str(PROJECT)}


def _refuse_unreachable(address: str) -> None:
    """Ray itself would try for two minutes and then end the process."""
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
    """Ray would wait for a machine that is large enough."""
    sizes = [node["Resources"] for node in nodes if node["Alive"]]
    if not any(
        size.get("CPU", 0) >= options.cpus and size.get("GPU", 0) >= options.gpus for size in sizes
    ):
        there = "; ".join(
            f"{size.get('CPU', 0):g} cores, {size.get('GPU', 0):g} GPUs" for size in sizes
        )
        raise UserError(
            f"no machine of the cluster has {options.cpus} cores and {options.gpus} GPUs for one run; "
            f"there are: {there}"
        )
