"""Files that start clusters, checked without a network: shapes, and rules that keep strangers out."""

from itscale.clusters.check import Problem, check_text, kind_of

__all__ = ["Problem", "check_text", "kind_of"]
