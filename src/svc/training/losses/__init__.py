"""What training minimises, one loss per file."""
