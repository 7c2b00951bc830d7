"""Lambent: AWS Lambda functions on your own machines, with the lifecycle that AWS gives them."""

__version__ = "0.1.0"
