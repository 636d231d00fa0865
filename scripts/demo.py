#!/usr/bin/env python
"""The whole way in one go: synthetic singers -> prepare -> train -> convert -> report.

Runs the commands that a user would type, in the folder that it is called from, and writes
outputs/demo/. `--fast` trains for a few steps only, to try the machinery.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

OUTPUT = Path("outputs/demo")
RUN = OUTPUT / "run"
SOURCE_SINGER, TARGET_SINGER = "bruno_bass", "alma_alto"
HELD_OUT_SEED = 1000
OTHER_PAIRS = (
    ("bruno_bass", "theo_tenor"),
    ("alma_alto", "theo_tenor"),
    ("theo_tenor", "alma_alto"),
    ("alma_alto", "bruno_bass"),
)


def main() -> None:
    """Run the demo and say where its results are and what they mean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    parser.add_argument("overrides", nargs="*", help="settings for svc-train")
    arguments = parser.parse_args()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    overrides = ["experiment=demo", f"hydra.run.dir={RUN}", *arguments.overrides]
    if arguments.fast:
        overrides.append("debug=fast")
    seconds = _command("svc-train", *overrides)

    from svc.audio.spec import AudioSpec
    from svc.data.demo.phrases import held_out
    from svc.evaluation.demo import write_pair

    pair = held_out(HELD_OUT_SEED, 0, SOURCE_SINGER, TARGET_SINGER)
    write_pair(OUTPUT, pair, AudioSpec())
    _command(
        "svc-infer",
        f"checkpoint={RUN}",
        f"input={OUTPUT / 'source.wav'}",
        f"output={OUTPUT / 'converted.wav'}",
        f"speaker={TARGET_SINGER}",
        f"pitch_shift={pair.semitones}",
    )
    _report(pair, seconds)


def _command(*words: str) -> float:
    """Run a command of this environment as a user would; -> seconds. Ends where it fails."""
    print(f"\n$ {shlex.join(words)}", flush=True)
    start = time.monotonic()
    program = Path(sys.executable).with_name(words[0])
    code = subprocess.run([program, *words[1:]], check=False).returncode
    if code:
        sys.exit(code)
    return time.monotonic() - start


def _report(pair: object, training_s: float) -> None:
    from svc.checkpoints.runs import checkpoint_to_convert_with
    from svc.data.demo.phrases import held_out
    from svc.evaluation.demo import report_demo
    from svc.inference.converter import Converter

    print("\nMeasuring against the exact truth (about a minute)…", flush=True)
    others = [
        held_out(HELD_OUT_SEED + 1, index, source, target)
        for index, (source, target) in enumerate(OTHER_PAIRS)
    ]
    converter = Converter.from_checkpoint(checkpoint_to_convert_with(RUN), device="cpu")
    page = report_demo(
        OUTPUT,
        converter,
        pair,
        others,
        next((RUN / "metrics").rglob("metrics.csv")),
        settings={
            "training": "svc-train experiment=demo",
            "preparing and training took": f"{training_s:.0f} s",
        },
    )
    _explain(page)


def _explain(page: Path) -> None:
    import json

    metrics = json.loads((OUTPUT / "metrics.json").read_text(encoding="utf-8"))
    phrase, held, shuffled = (
        metrics[key] for key in ("phrase", "held_out", "held_out_shuffled_content")
    )
    f0 = phrase["f0"]
    lines = (
        f"{OUTPUT}/ holds source.wav, converted.wav, truth.wav, mels.png, metrics.json,",
        f"{page.name}",
        "",
        f"  nearer to the target voice by  {phrase['mcd_reduction_percent']:.0f} % (mel-cepstral "
        f"distortion {phrase['mcd_source_db']:.1f} -> {phrase['mcd_converted_db']:.1f} dB)",
        f"  on {held['phrases']} more phrases              {held['mcd_reduction_percent']:.0f} %; "
        f"{shuffled['mcd_reduction_percent']:.0f} % when told in random order what is sung",
        f"  pitch error                    {f0['median_abs_cents']:.1f} cents (100 are a semitone; "
        f"the tracker itself errs by {phrase['f0_of_truth']['median_abs_cents']:.1f})",
        f"  voiced and unvoiced mixed up   {100 * f0['voicing_error_share']:.1f} % of the time",
        "",
        f"Open {page} in a browser to listen.",
    )
    print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
