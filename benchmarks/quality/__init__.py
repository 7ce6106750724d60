"""What lateness costs in quality and saves in time: the figures and pictures of docs/quality.md."""
