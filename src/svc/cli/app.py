"""What every command does around its own work: compose, report faults for people, exit codes."""

import os
import re
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from svc.cli.messages import user_message
from svc.cli.quoting import options_first, quote_paths
from svc.config.paths import conf_dir
from svc.errors import EndedOnRequest, UserError

EXIT_FAILED = 1
EXIT_USER_MUST_CHANGE = 2
EXIT_INTERRUPTED = 130
EXIT_ENDED = 143
"""As shells put it for a process that SIGTERM ended."""

_FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--resolve", "--package", "-p"),
    *("--run", "-r", "--multirun", "-m", "--shell-completion", "-sc", "--config-path", "-cp"),
    *("--config-name", "-cn", "--config-dir", "-cd", "--experimental-rerun", "--info", "-i"),
)
"""What commands take with dashes, which is up to Hydra."""


def run_command(name: str, config_name: str, task: Callable[[Any], Any]) -> NoReturn:
    """Compose the configuration `config_name` from the command line, run the task on it, and exit.

    Args:
        name: the command as the user types it; it starts every message.
        config_name: primary file in conf/.
        task: receives the composed configuration; its return value goes to Hydra's sweepers.

    Exit codes: 0 done; 1 failed while working; 2 the user must change something. A traceback is
    shown only where SVC_DEBUG=1 is set.
    """
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of exiting with 1
    sys.argv = [sys.argv[0], *quote_paths(options_first(sys.argv[1:]))]
    try:
        import hydra

        from svc.cli.multirun import JobFailed, remove_sweep_folder
        from svc.config.resolvers import register_resolvers
        from svc.config.schema import register_schemas

        _refuse_dashes(sys.argv[1:])
        register_schemas()
        register_resolvers()
        command = _reporting(name, config_name, task)
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name)(
                command
            )()
        except JobFailed as failure:
            if failure.message:
                print(f"{name}: {failure.message}", file=sys.stderr)
            sys.exit(failure.code)
        finally:
            remove_sweep_folder()
        sys.stdout.flush()  # what a reader that has left would make of it is dealt with below
    except KeyboardInterrupt:
        print(f"{name}: interrupted; what was finished is kept.", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if not (isinstance(error, BrokenPipeError) and _nobody_reads()):
            sys.exit(_report(name, config_name, error))
    sys.exit(0)


def _refuse_dashes(arguments: list[str]) -> None:
    """Refuse `--lr 1e-4`, which is how most other programs take it.

    Raises:
        UserError: says how it is typed here.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if not re.match(r"--?[A-Za-z]", flag) or any(f.startswith(flag) for f in _FLAGS):
            continue
        raise UserError(
            f"{argument}: settings are given without dashes and with an equals sign, such as "
            f"{flag.lstrip('-').replace('-', '_')}=VALUE. --help shows them."
        )


def _reporting(name: str, config_name: str, task: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The task, telling of its own faults, because Hydra would print a line of its own first.

    A job of a multirun must not end the others. It may run where nobody reads what it says, so
    that the launching process tells of it, when all have ended.
    """

    def command(config: Any) -> Any:
        from svc.cli.multirun import JobFailed, in_multirun, launched_elsewhere
        from svc.cli.run_folder import remove_unused_run_folder

        try:
            return task(config)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                sys.exit(0)
            code, message = _explain(config_name, error)
        # Hydra keeps what is raised to its end. From above, that would have the error as its
        # context, and with it all that the job held: its networks, on a GPU.
        if code == EXIT_USER_MUST_CHANGE:
            remove_unused_run_folder()
        if launched_elsewhere():
            raise JobFailed(code, message)
        if message:
            print(f"{name}: {message}", file=sys.stderr)
        if in_multirun():
            raise JobFailed(code, "")
        sys.exit(code)

    return command


def _nobody_reads() -> bool:
    """Whether what reads our output has left, as `head` does; then the rest goes nowhere.

    A broken pipe may also be one to a worker process, which is a failure.
    """
    if not hasattr(select, "poll"):
        return False
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, 0)  # an error is told of in any case
    if not any(event & select.POLLERR for _, event in poll.poll(0)):
        return False
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), output)
    return True


def _report(name: str, config_name: str, error: Exception) -> int:
    """Print one readable message and return the exit code."""
    # The task tells of its own. Hydra's unknown options are an OSError as well, without a number.
    if config_name == "train" and isinstance(error, OSError) and error.errno is not None:
        error = UserError(
            f"The folder of the run cannot be made: {error}. Give paths.output_dir=FOLDER, or the "
            f"environment variable SVC_OUTPUT_DIR, where you may write and there is space."
        )
    code, message = _explain(config_name, error)
    print(f"{name}: {message}", file=sys.stderr)
    return code


def _explain(config_name: str, error: Exception) -> tuple[int, str]:
    """The exit code and one readable message; none where it has been told already."""
    from svc.cli.multirun import JobFailed

    if isinstance(error, JobFailed):
        return error.code, error.message
    if isinstance(error, EndedOnRequest):
        return EXIT_ENDED, str(error)
    if os.environ.get("SVC_DEBUG") == "1":
        traceback.print_exception(error)
    message = user_message(error, config_name)
    if message is not None:
        return EXIT_USER_MUST_CHANGE, message
    where = "Set SVC_DEBUG=1 to see where it happened."
    return EXIT_FAILED, f"{type(error).__name__}: {error}\n{where}"
