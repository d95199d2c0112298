"""How good a graph is: task metrics, scores on the evaluation data, tests that stop early, comparisons."""
