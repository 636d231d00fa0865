"""Gaussian diffusion and rectified flow: noise schedules and samplers, apart from any network."""
