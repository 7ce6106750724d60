"""What it costs a cell when devices die, freeze, are cut off and slow down: `python -m benchmarks.trouble --help`."""
