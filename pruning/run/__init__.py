"""What commands run: comparisons, gradual pruning, reports and figures."""
