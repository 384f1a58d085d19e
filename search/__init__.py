"""Design spaces, constraints, Pareto fronts and explanations."""
