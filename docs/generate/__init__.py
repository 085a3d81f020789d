"""What writes the generated parts of README and docs."""
