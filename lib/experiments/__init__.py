"""Many runs from one plan: folds, seeds, variants; pooled results, tables, comparison figures.
May import: every other package.
"""
