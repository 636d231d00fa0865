"""What each command's configuration holds at its root.

Scalars are typed, so that a mistyped key or value is refused at composition. Groups are `Any`: what
may stand inside them is said by the constructor that `_target_` names (`svc.config.signatures`).
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class DatasetConfig:
    """What determines a prepared dataset."""

    seed: int = 0
    offline: bool = False
    """Fetch no weights, but say what to put where."""
    paths: Any = MISSING
    audio: Any = MISSING
    dataset: Any = MISSING
    content: Any = MISSING
    pitch: Any = MISSING
    energy: Any = MISSING
    augmentation: Any = MISSING
    preparation: Any = MISSING


@dataclass
class ShardConfig:
    """A share of the recordings, for preparing them on several machines."""

    count: int = 1
    """Of shares; 1 prepares everything."""
    index: int = 0
    """Which of them, from 0."""
    merge: bool = False
    """Extract nothing, but check that every share is there and make them one dataset."""


@dataclass
class PreprocessConfig(DatasetConfig):
    """`svc-preprocess`: recordings -> prepared dataset."""

    shard: ShardConfig = field(default_factory=ShardConfig)


@dataclass
class FinetuneConfig:
    """How a training goes on from the weights of another."""

    speakers: str = "replace"
    """The speaker table: `replace` has the dataset's voices alone, `add` has those of the
    pretrained model as well, at their places."""
    train: str = "all"
    """`all` weights learn, or only the rows of the dataset's `speakers`."""
    freeze: Any = field(default_factory=list)
    """Patterns of weights that stay as they are, such as decoder.*"""
    discriminators: bool = True
    """Take the discriminators of the pretrained file, where it holds them."""


@dataclass
class LoraConfig:
    """Low-rank updates in place of all weights."""

    rank: int = 0
    """0 for none."""
    alpha: float | None = None
    """Scale times rank; null for a scale of 1."""
    targets: Any = field(default_factory=lambda: ["conditioner", "backbone", "denoiser"])
    """Parts of the model."""


@dataclass
class PreflightConfig:
    """What is looked at before training begins; see `svc.training.preflight.PreflightOptions`."""

    check: Any = "auto"
    """Tell what a training step takes of the memory, and refuse what does not fit: on GPUs (auto),
    everywhere (true) or nowhere (false)."""
    margin: float = 0.1
    """Share of the memory that data.batch_size=auto leaves free."""
    max_batch_size: int = 128
    """Largest that data.batch_size=auto chooses."""


@dataclass
class TrainConfig(DatasetConfig):
    """`svc-train`: prepared dataset -> checkpoints."""

    run_name: str = MISSING
    """Folder under paths.output_dir that collects the runs of this kind."""
    resume: Any = None
    """Which run goes on, in conf/train.yaml; files may also give its `checkpoint` by itself."""
    vocoder_weights: str | None = None
    """Checkpoint of a trained vocoder: what renders the mels of arch=diffsvc and arch=flowsvc, or
    where arch=nsf_hifigan starts from."""
    pretrained: str | None = None
    """File of a model to begin with, ours or published."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    licence: str | None = None
    """Of the weights that are learnt; recorded in every checkpoint."""
    preflight: PreflightConfig = field(default_factory=PreflightConfig)
    data: Any = MISSING
    vocoder: Any = MISSING
    sampler: Any = None
    mel_scaling: Any = None
    noise_schedule: Any = None
    arch: Any = MISSING
    optim: Any = MISSING
    scheduler: Any = None
    trainer: Any = MISSING
    logger: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    experiment: Any = None


@dataclass
class RefineConfig:
    """A second model that refines mels before they are rendered."""

    checkpoint: str | None = None
    """Of a DiffSVC model; null refines nothing."""
    steps: int = 100
    """Of its schedule, up to which mels are noised: more make more anew."""


@dataclass
class InferConfig:
    """`svc-infer`: recordings -> converted recordings."""

    checkpoint: str = MISSING
    """Checkpoint file, or the folder of a run (then its best checkpoint)."""
    adapters: Any = field(default_factory=list)
    """What LoRA trainings on it learned: files, each with a scale ("a.safetensors:1.0")."""
    input: str = MISSING
    """A recording, or a folder of recordings."""
    output: str | None = None
    """A file or a folder; null writes beside the input."""
    speaker: str | None = None
    """Name from the checkpoint's speaker table, or a mix of several ("anna:0.7,bert:0.3"); may stay
    null where it knows only one."""
    speaker_curve: str | None = None
    """In place of speaker, a .yaml or .csv file of mixes over time."""
    speaker_interpolation: str = "linear"
    """Between the voices of a mix: linear or spherical."""
    pitch_shift: float = 0.0
    """Semitones, fractions allowed."""
    content_model: str | None = None
    """Where the content encoder's weights lie; null looks where they were in training."""
    sampler: Any = None
    """Of a model that samples, and of the refinement; null takes the one of the training."""
    steps: int | None = None
    """Of the sampler; null takes its own number."""
    vocoder_weights: str | None = None
    """Checkpoint of a vocoder that renders in place of the model's own."""
    refine: RefineConfig = field(default_factory=RefineConfig)
    seed: int = 0
    """Of all noise."""
    match_level: bool = True
    """Give each conversion, as a whole, the level of its source."""
    device: str = "auto"
    precision: str = "fp32"
    subtype: str = "PCM_16"
    """How samples are stored: PCM_16, PCM_24 or FLOAT."""
    overwrite: bool = True


@dataclass
class ExportConfig:
    """`svc-export`: a file that holds a model -> one safetensors file."""

    checkpoint: str = MISSING
    """File that holds a model, or the folder of a run (then its best checkpoint)."""
    output: str | None = None
    """A file or a folder; null writes NAME.safetensors beside the checkpoint."""
    adapters: Any = field(default_factory=list)
    """What is merged into the model: files, each with a scale ("a.safetensors:1.0")."""
    format: str = "safetensors"
    """safetensors, or adapter: only what LoRA learned."""
    precision: str = "fp32"
    """fp32 or fp16."""
    discriminators: bool = False
    """Take those of a GAN along."""
    remove_speakers: Any = field(default_factory=list)
    """One name or a list of them."""
    licence: str | None = None
    """Of the weights; null keeps what the checkpoint says."""
    overwrite: bool = False


@dataclass
class LayoutOptionsConfig:
    """What a published file does not say about itself; see `LayoutOptions`."""

    content: str | None = None
    pitch: str | None = None
    speakers: Any = None
    """One name or a list of them."""
    mel_log: str | None = None
    dilation_cycle: int | None = None
    pitch_encoding: str | None = None
    use_energy: bool | None = None
    use_key_shift: bool | None = None
    vocoder_config: str | None = None


@dataclass
class ConvertCheckpointConfig:
    """`svc-convert-checkpoint`: a published checkpoint -> one safetensors file of ours."""

    input: str = MISSING
    output: str | None = None
    """A file or a folder; null writes NAME.safetensors beside the input."""
    options: LayoutOptionsConfig = field(default_factory=LayoutOptionsConfig)
    discriminators: bool = True
    """Take those of a GAN along."""
    precision: str = "fp32"
    """fp32 or fp16."""
    licence: str | None = None
    overwrite: bool = False
    verbose: bool = False
    """Show every name."""


@dataclass
class DownloadConfig:
    """`svc-download`: names -> files of weights in the checkpoints folder."""

    name: Any = None
    """One name or a list of them; null lists what there is."""
    accept_licence: bool = False
    """Needed where a licence restricts use."""
    offline: bool = False
    checkpoint_dir: str = MISSING


@dataclass
class EvalConfig:
    """`svc-eval`: a part of the toolkit -> tables and plots of how well it does."""

    seed: int = 0
    output: str = MISSING
    """Folder that the results are written into."""
    paths: Any = MISSING
    audio: Any = MISSING
    task: Any = MISSING
    """What is measured: an option of the group `task`."""


@dataclass
class DoctorConfig:
    """`svc-doctor`: a dataset, or without one this machine -> verdict, page, JSON."""

    seed: int = 0
    paths: Any = MISSING
    dataset: Any = MISSING
    output: str | None = None
    """Folder of the page; null for paths.output_dir/doctor/NAME."""
    workers: int | None = None
    json: bool = False


def register_schemas() -> None:
    """Make the root schemas known to Hydra under the names that conf/*.yaml start from."""
    # Hydra copies its sources, and with them everything that every plug-in has stored here, for
    # each group that --help lists: five sixths of its time. Nothing is ever changed in the copies.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    store = ConfigStore.instance()
    store.store(name="preprocess_schema", node=PreprocessConfig)
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="infer_schema", node=InferConfig)
    store.store(name="export_schema", node=ExportConfig)
    store.store(name="convert_checkpoint_schema", node=ConvertCheckpointConfig)
    store.store(name="eval_schema", node=EvalConfig)
    store.store(name="download_schema", node=DownloadConfig)
    store.store(name="doctor_schema", node=DoctorConfig)
