"""Runtimes: which ones there are, what the host has of them, and how they are started."""

from lambent.runtimes.catalog import CATALOG, CatalogEntry, RuntimeUnavailable
from lambent.runtimes.preparation import Runtimes
from lambent.runtimes.prepared import BootstrapMissing, PreparedRuntime

__all__ = ["CATALOG", "BootstrapMissing", "CatalogEntry", "PreparedRuntime", "RuntimeUnavailable", "Runtimes"]
