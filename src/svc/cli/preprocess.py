"""`svc-preprocess`: a folder of recordings -> slices, checks, features."""

from typing import Any, NoReturn

from svc.cli.app import run_command


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-preprocess", "preprocess", preprocess)


def preprocess(config: Any) -> None:
    """Prepare the dataset that the composed configuration names, and print what was found."""
    from rich.console import Console

    from svc.cli.parts import plain_config, prepare_dataset
    from svc.config.instantiate import build

    plain = plain_config(config, run_time={})
    report = prepare_dataset(plain, build(plain["dataset"]), build(plain["audio"]))
    Console().print(report)


if __name__ == "__main__":
    main()
