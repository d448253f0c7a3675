"""Measurements that anyone can repeat: `python -m tests.benchmarks.NAME --data FOLDER`."""
