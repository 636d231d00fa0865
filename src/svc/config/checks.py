"""Faults that only show when several groups are seen together, all found in one go."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from svc.config.ranges import range_faults
from svc.config.signatures import signature_faults
from svc.errors import UserErrors

DeviceCheck = Callable[[str, int | str, str], str | None]
"""(accelerator, devices, precision) -> why this machine cannot do that, or None."""


class DeviceUnavailable(UserErrors):
    """The only thing wrong with a configuration is that this machine has no device for it."""


def check_config(
    config: Mapping[str, Any],
    run_time: Mapping[str, Collection[str]],
    device_problem: DeviceCheck | None = None,
) -> None:
    """Refuse a configuration that cannot work, naming every fault in it.

    Args:
        config: the resolved configuration as plain containers.
        run_time: by path, arguments that are passed at the call and so need not be set.
        device_problem: asks the machine whether the trainer can run on it.

    Raises:
        UserErrors: unknown or missing arguments, values of a wrong type or out of range, groups
            that do not fit each other, a callback or logger without `_target_`, a device that is
            not there.
        DeviceUnavailable: nothing but the last of these.
    """
    faults = signature_faults(config, run_time=run_time)
    faults += range_faults(config)
    faults += _nodes_without_target(config)
    faults += _framing_faults(config)
    faults += _unread_settings(config)
    faults += _vocoder_faults(config)
    faults += _content_faults(config)
    faults += _finetuning_faults(config)
    faults += _sharding_faults(config)
    faults += _resume_faults(config.get("resume"))
    missing_device: list[str] = []
    if device_problem is not None and not any(f.startswith("trainer.") for f in faults):
        missing_device = _device_faults(config.get("trainer"), device_problem)
    if faults or missing_device:
        fault = UserErrors if faults else DeviceUnavailable
        raise fault("The configuration cannot be used:", [*faults, *missing_device])


def _nodes_without_target(config: Mapping[str, Any]) -> list[str]:
    return [
        f"{group}.{name} has no `_target_`, so nothing would be built from it; "
        f"add one, or remove the entry with ~{group}.{name}"
        for group in ("logger", "callbacks")
        for name, node in (config.get(group) or {}).items()
        if node is not None and "_target_" not in node
    ]


def _framing_faults(config: Mapping[str, Any]) -> list[str]:
    vocoder, audio = config.get("vocoder") or {}, config.get("audio") or {}
    generator = (config.get("arch") or {}).get("generator") or {}
    has_mel = generator.get("mel_bottleneck", True)
    faults = []
    source = ("audio.mel_bins", audio.get("mel_bins"))
    if not has_mel:  # the decoder takes hidden features
        source = ("arch.generator.conditioner.channels", generator["conditioner"].get("channels"))
    if "mel_bins" in vocoder and vocoder["mel_bins"] != source[1]:
        faults.append(f"vocoder.mel_bins={vocoder['mel_bins']} must equal {source[0]}={source[1]}")
    if vocoder.get("shaped_source") and not has_mel:
        faults.append(
            "vocoder.shaped_source takes its shape from a mel, and this architecture has none; "
            "take vocoder=nsf_hifigan_fish"
        )
    rates = vocoder.get("upsample_rates")
    if rates and math.prod(rates) != audio.get("hop_samples"):
        faults.append(
            f"vocoder.upsample_rates={list(rates)} multiply to {math.prod(rates)}, but "
            f"audio.hop_samples={audio.get('hop_samples')}; they must be equal"
        )
    return faults


def _unread_settings(config: Mapping[str, Any]) -> list[str]:
    """Groups that were chosen but that nothing of this architecture takes."""
    arch = config.get("arch") or {}
    generator = arch.get("generator") or {}
    taken = {
        "sampler": "sampler" in arch,
        "mel_scaling": "scaling" in generator,
        "noise_schedule": "schedule" in generator,
    }
    return [
        f"{group}={config[group].get('_target_')}: this architecture takes no {group}; leave it "
        f"out, or choose one that samples its mel, such as arch=diffsvc"
        for group, is_taken in taken.items()
        if arch and config.get(group) and not is_taken
    ]


def _vocoder_faults(config: Mapping[str, Any]) -> list[str]:
    """A vocoder that cannot do what the architecture needs: learn, or render from the start."""
    generator = (config.get("arch") or {}).get("generator") or {}
    target = str((config.get("vocoder") or {}).get("_target_"))
    if "vocoder" in generator:
        if target.endswith(".GriffinLim") or config.get("vocoder_weights"):
            return []
        return [
            f"vocoder={target} would render with random weights, because this architecture does "
            f"not train it: give vocoder_weights=FILE (a checkpoint of arch=nsf_hifigan), or "
            f"vocoder=griffin_lim for a smoke test"
        ]
    if generator and target.endswith(".GriffinLim"):
        return [
            "vocoder=griffin_lim has no weights and cannot be trained; take vocoder=nsf_hifigan, "
            "or an architecture that only predicts mels (arch=diffsvc, arch=flowsvc)"
        ]
    return []


def _content_faults(config: Mapping[str, Any]) -> list[str]:
    """A model that converts and is to hear nothing."""
    generator = (config.get("arch") or {}).get("generator") or {}
    target = str((config.get("content") or {}).get("_target_"))
    if "conditioner" not in generator or not target.endswith(".NoContent"):
        return []
    return [
        "content=none tells a model nothing of what is sung; it is for training vocoders "
        "(arch=nsf_hifigan). Take an encoder, such as content=hubert_soft"
    ]


def _finetuning_faults(config: Mapping[str, Any]) -> list[str]:
    """Choices that are not, and ways of fine-tuning where there is nothing to fine-tune."""
    finetune, lora = config.get("finetune") or {}, config.get("lora") or {}
    faults = [
        f"finetune.{key}={finetune[key]} must be {' or '.join(choices)}"
        for key, choices in (("speakers", ("replace", "add")), ("train", ("all", "speakers")))
        if key in finetune and finetune[key] not in choices
    ]
    if config.get("pretrained") == "":  # an experiment that makes no sense without
        faults.append("pretrained is not set; give pretrained=FILE, the model to begin with")
    if lora.get("rank", 0) < 0:
        faults.append(f"lora.rank={lora['rank']} must be 0 (none) or more")
    trained = config.get("pretrained"), config.get("vocoder_weights")
    if all(trained) and config["arch"]["generator"]["_target_"] == config["vocoder"]["_target_"]:
        faults.append("pretrained and vocoder_weights both say what this vocoder begins with")
    if config.get("pretrained") is None and finetune:
        ways = {
            "lora.rank": lora.get("rank", 0) > 0,
            "finetune.speakers=add": finetune["speakers"] == "add",
            "finetune.train=speakers": finetune["train"] == "speakers",
            "finetune.freeze": bool(finetune["freeze"]),
        }
        faults += [
            f"{way} builds on a trained model: give pretrained=FILE, or leave it out"
            for way, is_wanted in ways.items()
            if is_wanted
        ]
    if lora.get("rank", 0) > 0 and finetune.get("train") == "speakers":
        faults.append("lora.rank and finetune.train=speakers exclude each other; choose one")
    return faults


def _resume_faults(resume: Any) -> list[str]:
    """`resume` is a checkpoint by itself, or a mapping with two keys."""
    given = resume if isinstance(resume, Mapping) else {"checkpoint": resume}
    checkpoint, allowed = given.get("checkpoint"), given.get("allow_changes", False)
    faults = []
    if not isinstance(checkpoint, str | None):
        faults.append(f"resume.checkpoint={checkpoint} must be null, auto or a path")
    if not isinstance(allowed, bool):
        faults.append(f"resume.allow_changes={allowed} must be true or false")
    unknown = sorted(given.keys() - {"checkpoint", "allow_changes"})
    return faults + [
        f"resume.{key} is not a setting; resume has checkpoint and allow_changes" for key in unknown
    ]


def _sharding_faults(config: Mapping[str, Any]) -> list[str]:
    """What cannot be divided over several processes (`svc.training.sharding`)."""
    trainer, arch = config.get("trainer") or {}, config.get("arch") or {}
    if trainer.get("strategy") != "fsdp":
        return []
    faults = []
    if "denoiser" not in (arch.get("generator") or {}):
        faults.append(
            "trainer.strategy=fsdp divides a denoiser, which this architecture has not, and its "
            "networks are too small to be worth it; take trainer=ddp_bf16 (or "
            "trainer.strategy=data_parallel), or arch=diffsvc or flowsvc"
        )
    if trainer.get("compile"):
        faults.append(
            f"trainer.compile={trainer['compile']} compiles networks that every process holds "
            f"whole; leave it out with trainer.strategy=fsdp"
        )
    return faults


def _device_faults(trainer: Mapping[str, Any] | None, device_problem: DeviceCheck) -> list[str]:
    if not trainer:
        return []
    problem = device_problem(trainer["accelerator"], trainer["devices"], str(trainer["precision"]))
    return [problem] if problem else []
