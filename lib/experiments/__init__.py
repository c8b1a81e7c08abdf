"""Plans of many runs: folds, seeds, variants; pooled results, tables, comparison figures.
May import: every other package.
"""
