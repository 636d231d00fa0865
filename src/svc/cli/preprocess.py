"""`svc-preprocess`: a folder of recordings -> slices, checks, features."""

from typing import Any, NoReturn

from svc.cli.app import run_command
from svc.errors import UserError


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command("svc-preprocess", "preprocess", preprocess)


def preprocess(config: Any) -> None:
    """Prepare the dataset that the composed configuration names, and print what was found."""
    from rich.console import Console

    from svc.cli.multirun import in_multirun, jobs_at_once, launched_elsewhere, share_of_cores
    from svc.cli.parts import plain_config, prepare_dataset, prepare_share
    from svc.config.instantiate import build
    from svc.data.shards import Shard

    plain = plain_config(config, run_time={})
    shard = Shard(plain["shard"]["index"], plain["shard"]["count"])
    merge = plain["shard"]["merge"]
    if merge and (shard.index or in_multirun()):
        raise UserError(
            "shard.merge=true is for one command after all shards: leave out shard.index and -m."
        )
    source, spec = build(plain["dataset"]), build(plain["audio"])
    report: Any
    with share_of_cores(jobs_at_once(shard.count if shard.count > 1 else None)) as processes:
        if processes is not None:
            preparation = plain["preparation"]
            preparation["workers"] = min(preparation["workers"] or processes, processes)
        if shard.count == 1 or merge:
            report = prepare_dataset(plain, source, spec, shard.count if merge else None)
        else:
            report = prepare_share(plain, source, spec, shard, progress=not launched_elsewhere())
    Console().print(report)


if __name__ == "__main__":
    main()
