"""What a dashboard of our runs shows: panels and the metrics in them, whoever draws it."""

from dataclasses import dataclass

from svc.training.callbacks.alarms import ALARMS

STEP = "trainer/global_step"
"""Under this name wandb has generator updates, the x axis of everything."""

SAMPLES = 3
"""Validation crops that runs send by default (callbacks.samples.count)."""


@dataclass(frozen=True)
class LinePanel:
    """Curves over generator updates."""

    title: str
    metrics: tuple[str, ...]
    """Those of all architectures; a run draws the ones it has."""
    tells: str
    """What to see in it, in a line."""
    log_y: bool = False
    y_range: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True)
class MediaPanel:
    """Sounds or pictures, one beside the other."""

    title: str
    keys: tuple[str, ...]
    tells: str


@dataclass(frozen=True)
class TablePanel:
    """A table that was logged."""

    title: str
    table: str
    tells: str


Panel = LinePanel | MediaPanel | TablePanel


@dataclass(frozen=True)
class Section:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]
    columns: int = 2
    is_open: bool = True


def _samples(kind: str) -> tuple[str, ...]:
    return tuple(f"sample/{number}/{kind}" for number in range(SAMPLES))


def _both(prefix: str) -> tuple[str, ...]:
    return f"{prefix}/generator", f"{prefix}/discriminator"


SECTIONS: tuple[Section, ...] = (
    Section(
        "Quality",
        (
            LinePanel(
                "Validation loss",
                ("valid_loss",),
                "best.ckpt is chosen by it: falls, then flattens; stop when it has long been flat",
            ),
            LinePanel(
                "Validation, mel distance",
                ("valid_loss/mel", "valid_loss/bottleneck"),
                "of rendered mels (diffusion, flow); of the mel before the decoder (HiFiSinger)",
            ),
        ),
    ),
    Section(
        "Samples",
        (
            TablePanel("Samples over steps", "samples", "sort by sample to hear one over time"),
            MediaPanel("Predictions", _samples("prediction"), "of the newest validation"),
            MediaPanel("Recordings", _samples("target"), "what they should sound like"),
            MediaPanel("Mels", _samples("mel"), "recording above prediction"),
        ),
    ),
    Section(
        "Losses",
        (
            LinePanel(
                "Generator",
                ("train_loss_gen", "train_loss_aux"),
                "both fall at first; the upper rises when the discriminators join or improve",
            ),
            LinePanel(
                "Generator, spectral parts",
                ("train_loss_gen/mel", "train_loss_gen/stft", "train_loss_gen/bottleneck"),
                "fall for as long as anything is learnt",
                log_y=True,
            ),
            LinePanel(
                "Generator, adversarial parts",
                ("train_loss_gen/adversarial", "train_loss_gen/feature_matching"),
                "a truce: flat or slowly rising",
            ),
            LinePanel(
                "Denoiser",
                ("train_loss", "train_loss/diffusion", "train_loss/flow", "train_loss/guess"),
                "falls fast, then ever more slowly; noisy, for every step draws its own times",
                log_y=True,
            ),
        ),
    ),
    Section(
        "Discriminators",
        (
            LinePanel(
                "Right answers",
                ("disc_accuracy",),
                "0.6 to 0.9 is healthy; pinned at 0 or 1, one side learns nothing",
                y_range=(0.0, 1.0),
            ),
            LinePanel(
                "Discriminators",
                ("train_loss_disc", "train_loss_disc/r1"),
                "0.5 for each of them means guessing; near 0 they have won",
            ),
        ),
    ),
    Section(
        "Optimisation",
        (
            LinePanel(
                "Gradient norms",
                _both("grad_norm"),
                "before clipping; level or falling, without growing peaks",
                log_y=True,
            ),
            LinePanel("Learning rates", _both("lr"), "as the schedule says", log_y=True),
            LinePanel(
                "Loss scale",
                _both("loss_scale"),
                "fp16 only: falls in the first steps, then doubles and halves now and then",
                log_y=True,
            ),
            LinePanel(
                "Skipped steps", ("skipped_steps",), "so far: a few under fp16, else none at all"
            ),
        ),
    ),
    Section(
        "Alarms",
        (
            LinePanel(
                "Alarms",
                tuple(f"alarm/{name}" for name in ALARMS),
                "1 from where something is wrong until it is over",
                y_range=(0.0, 1.0),
            ),
        ),
        columns=1,
    ),
    Section(
        "Speed and memory",
        (
            LinePanel(
                "Generator updates per second", ("perf/steps_per_s",), "level; a fall has a cause"
            ),
            LinePanel(
                "Seconds of audio per second", ("perf/audio_s_per_s",), "compares batch sizes"
            ),
            LinePanel(
                "Share of time that waits for data",
                ("perf/data_wait_fraction",),
                "near 0; above 0.05, raise data.workers or set data.cache",
                y_range=(0.0, None),
            ),
            LinePanel(
                "Memory in GiB",
                ("perf/gpu_mem_gib", "perf/host_mem_gib"),
                "level after the first few validations; steady growth is a leak",
                y_range=(0.0, None),
            ),
        ),
    ),
)
"""From top to bottom."""


def line_metrics() -> set[str]:
    """Every metric that a panel draws as a curve."""
    return {
        metric
        for section in SECTIONS
        for panel in section.panels
        if isinstance(panel, LinePanel)
        for metric in panel.metrics
    }
