"""What scripts/gpu_check.sh measures, one kind of measurement per file."""
