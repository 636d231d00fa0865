"""What every command does around its own work: compose, report faults for people, exit codes."""

import os
import re
import select
import shutil
import sys
import traceback
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from svc.cli.quoting import options_first, quote_paths
from svc.config.paths import conf_dir
from svc.errors import EndedOnRequest, UserError

EXIT_FAILED = 1
EXIT_USER_MUST_CHANGE = 2
EXIT_INTERRUPTED = 130
EXIT_ENDED = 143
"""As shells put it for a process that SIGTERM ended."""


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


def _reporting(name: str, config_name: str, task: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The task, telling of its own faults, because Hydra would print a line of its own first.

    A job of a multirun must not end the others. It may run where nobody reads what it says, so
    that the launching process tells of it, when all have ended.
    """

    def command(config: Any) -> Any:
        from svc.cli.multirun import JobFailed, in_multirun, launched_elsewhere

        try:
            return task(config)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                sys.exit(0)
            code, message = _explain(config_name, error)
        # Hydra keeps what is raised to its end. From above, that would have the error as its
        # context, and with it all that the job held: its networks, on a GPU.
        if code == EXIT_USER_MUST_CHANGE:
            _remove_unused_run_folder()
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


def _remove_unused_run_folder() -> None:
    """Take back the folder that Hydra made for a run that never began, and those around it that
    hold nothing else."""
    from hydra.core.hydra_config import HydraConfig

    from svc.cli.multirun import remove_empty

    if HydraConfig.get().output_subdir is None:
        return
    folder = Path(HydraConfig.get().runtime.output_dir)
    logs = {f"{HydraConfig.get().job.name}.log", HydraConfig.get().output_subdir}
    if not {path.name for path in folder.iterdir()} <= logs:
        return
    shutil.rmtree(folder)
    remove_empty(folder.parent)


def _report(name: str, config_name: str, error: Exception) -> int:
    """Print one readable message and return the exit code."""
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
    message = _user_message(error, config_name)
    if message is not None:
        return EXIT_USER_MUST_CHANGE, message
    where = "Set SVC_DEBUG=1 to see where it happened."
    return EXIT_FAILED, f"{type(error).__name__}: {error}\n{where}"


def _user_message(error: BaseException, config_name: str) -> str | None:
    """The message of a fault that the user can mend, or None for any other."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, HydraException | OmegaConfBaseException):
        return _tidy_hydra_message(error, config_name)
    if isinstance(error, ValueError) and _raised_in(error).startswith("hydra."):
        return _explained_value_error(str(error))
    if isinstance(error, ValueError) and _raised_in(error).startswith("optuna."):
        return f"The search has no trial that ended well, or cannot go on: {error}"
    return None


def _raised_in(error: BaseException) -> str:
    """Name of the module whose code raised the error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", ""))


def _explained_value_error(text: str) -> str:
    """What Hydra says of a command line that it does not take, with what to type instead."""
    if text.startswith("Config group override must be"):
        given = [a.partition("=")[0] for a in sys.argv[1:] if a.endswith(("=null", "=None"))]
        groups = [key for key in given if (conf_dir() / key).is_dir()]
        left_out = f"~{groups[0]}" if groups else "~scheduler"
        return f"{text}. A group that may be absent is left out with a tilde: {left_out}"
    if "--cfg" in text and "--multirun" in text:
        return f"{text}. Leave out -m to see the settings of a single job."
    return text


def _tidy_hydra_message(error: BaseException, config_name: str) -> str:
    """Hydra's and OmegaConf's words, with what to do where they do not say it."""
    text = "\n".join(line for line in str(error).splitlines() if line.strip())
    cause = str(error.__cause__ or "").splitlines()
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown and (not cause or "not in" in cause[0]):
        return (
            f"{unknown.group(1)} is not a setting{_nearest_setting(unknown.group(1), config_name)}"
            f" See every setting with --cfg job, and the groups with --help."
        )
    plug_in = re.search(r"'hydra/(launcher|sweeper)/(joblib|ray|submitit|optuna)[a-z_]*'", text)
    if plug_in:
        extra = "sweep" if plug_in.group(2) == "optuna" else plug_in.group(2)
        text += f"\nIt comes with an extra: pip install 'svc[{extra}]'"
    text = re.sub(r"\n(Config search path:|\s+provider=)[^\n]*", "", text)
    text = re.sub(r"\n\s*(full_key|object_type|reference_type)[^\n]*", "", text)
    if cause and cause[0] and cause[0] not in text:
        text = f"{text}\n{cause[0]}"
    if "override_grammar" in text:
        text = re.sub(r"\nSee https[^\n]*", "", text)
        text += "\nPut quotes around values with special characters: \"key='a value, (so)'\""
    return text


def _nearest_setting(key: str, config_name: str) -> str:
    """A hint at the setting or group that was probably meant, or nothing."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    groups = [a for a in sys.argv[1:] if (conf_dir() / a.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            composed = compose(config_name, groups)
        except HydraException:  # a sweep, or an option from elsewhere
            composed = compose(config_name)
    plain = OmegaConf.to_container(composed, resolve=False)
    settings: list[str] = []
    _collect_keys(plain, "", settings)
    key = key.replace("/", ".")
    if key in settings:
        group = key.rpartition(".")[0]
        return (
            f" here, because a file gives {group} as a single value; write out there what is in it."
        )
    if close := get_close_matches(key, settings, n=1):
        return f"; did you mean {close[0]}?"
    group, _, name = key.rpartition(".")
    siblings = [s.rpartition(".")[2] for s in settings if s.rpartition(".")[0] == group]
    if not group or not siblings:
        return "."
    return (
        f"; {group} has {', '.join(siblings)}. What its class takes besides these is given with "
        f"a plus: +{group}.{name}=…"
    )


def _collect_keys(node: Any, path: str, found: list[str]) -> None:
    if isinstance(node, dict):
        for key, child in node.items():
            if str(key).startswith("_"):  # _target_ and its like are not for the command line
                continue
            inner = f"{path}.{key}" if path else str(key)
            found.append(inner)
            _collect_keys(child, inner, found)
