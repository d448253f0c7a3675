"""Kaggle: what a session there has attached and lacks in; packages, data and records found out; what is uploaded, built."""
