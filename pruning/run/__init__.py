"""The loops of commands: single cuts, comparisons, gradual pruning; reports and figures."""
