"""Schedules and sampling results of the original implementation are reproduced."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion.reference_denoiser import reference_denoiser, step_embedding
from svc.diffusion.samplers.base import Sampler
from svc.diffusion.samplers.ddpm import Ddpm
from svc.diffusion.samplers.plms import Plms
from svc.diffusion.samplers.unipc import UniPc
from svc.diffusion.sampling import initial_noise, sample
from svc.diffusion.schedule import cosine_schedule, linear_schedule

FILES = ("diffsvc_denoiser_small.pt", "diffsvc_denoiser_small_v1.pt")
SCHEDULE = linear_schedule(1000, max_beta=0.01)


@pytest.fixture(params=FILES, scope="module")
def golden(request: pytest.FixtureRequest, shared: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(shared / "golden" / request.param, weights_only=True)
    return loaded


def _network(golden: dict[str, Any], condition: Tensor) -> Any:
    cycle = golden["config"]["diffusion"]["denoiser"].get("dilation_cycle")
    return reference_denoiser(golden["denoiser_state_dict"], condition, cycle)


def _published(case: str) -> Sampler:
    """The settings under which ours are the published samplers."""
    if case.startswith("unipc"):
        return UniPc(100 if "100" in case else 20, spacing="time", denoise_to_zero=False)
    if case.startswith("plms"):
        steps = 100 if "100" in case else 20
        return Plms(steps, spacing="leading", denoise_to_zero=False)
    return Ddpm(20, spacing="leading", posterior="single_step")


def test_the_reference_denoiser_is_the_original(golden: dict[str, Any]) -> None:
    io = golden["denoiser"]
    network = _network(golden, io["cond"])
    torch.testing.assert_close(network(io["x"], io["t"]), io["output"], atol=1e-5, rtol=0)
    fractional = network(io["x"], io["t_float"])
    torch.testing.assert_close(fractional, io["output_t_float"], atol=1e-5, rtol=0)
    embedding = step_embedding(io["t"], 32)
    torch.testing.assert_close(embedding, io["step_embedding"], atol=1e-5, rtol=0)


def test_schedules(golden: dict[str, Any]) -> None:
    published = golden["schedule"]
    close = {"atol": 1e-7, "rtol": 0, "check_dtype": False}
    torch.testing.assert_close(SCHEDULE.betas, published["betas_float64"], **close)
    torch.testing.assert_close(SCHEDULE.alphas_cumprod, published["alphas_cumprod"], **close)
    cosine = cosine_schedule(1000)
    torch.testing.assert_close(cosine.betas, published["cosine_betas_float64"], **close)
    signal, sigma = SCHEDULE.levels(torch.arange(1000))
    torch.testing.assert_close(signal, published["sqrt_alphas_cumprod"], **close)
    torch.testing.assert_close(sigma, published["sqrt_one_minus_alphas_cumprod"], **close)


def test_noised_data(golden: dict[str, Any]) -> None:
    io = golden["q_sample"]
    noised = SCHEDULE.noised(io["x_start"], io["t"], io["noise"])
    torch.testing.assert_close(noised, io["output"], atol=1e-6, rtol=0)


CASES = ("unipc_20step", "unipc_100step", "plms_20step", "plms_100step", "naive_20step")


@pytest.mark.parametrize("case", [*CASES, "naive_20step_zero_noise"])
def test_sampling(golden: dict[str, Any], case: str) -> None:
    io = golden["sampling"][case]
    network = _network(golden, golden["features"].mT)
    sampler = _published(case)
    sampler.set_steps(SCHEDULE)
    assert len(sampler.times) == io["nfe"]
    assert sampler.times == pytest.approx(io["denoiser_t"], abs=1e-3)
    mel = sample(sampler, network, io["initial_noise"], step_noise=io.get("step_noise"))
    (low,), (high,) = (golden["config"]["diffusion"][name] for name in ("spec_min", "spec_max"))
    denormalised = (mel.mT + 1) / 2 * (high - low) + low
    expected = io["output_mel_denormed"]
    tolerance = 1e-4 * float(expected.abs().max())
    torch.testing.assert_close(denormalised, expected, atol=tolerance, rtol=0)


def test_the_initial_noise_is_that_of_the_seed(golden: dict[str, Any]) -> None:
    io = golden["sampling"]["unipc_20step"]
    rng = torch.Generator().manual_seed(io["seed"])
    assert torch.equal(initial_noise((1, 24, 40), rng), io["initial_noise"])
