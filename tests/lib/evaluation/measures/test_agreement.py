import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from lib.evaluation.measures.agreement import icc_2_1, icc_interval, mean_squares

SHROUT_AND_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float
)
"""Table 2 of Shrout and Fleiss, Psychol. Bull. 86, 1979."""

TWO_RATERS = np.array([
    [0.275, 0.25], [0.332, 0.359], [0.329, 0.31], [0.145, 0.09], [0.073, 0.12], [0.347, 0.349],
    [-0.073, 0.002], [0.284, 0.328], [0.247, 0.319], [0.195, 0.187], [0.078, 0.121], [0.145, 0.111],
])  # fmt: skip


def measure(ratings):
    squares = mean_squares(ratings, np.ones(len(ratings)))
    return squares, float(icc_2_1(squares)), icc_interval(squares)


@pytest.mark.parametrize(
    ("ratings", "icc", "interval"),
    [
        (SHROUT_AND_FLEISS, 0.289764, (0.02, 0.76)),  # .29 in the paper
        (TWO_RATERS, 0.939596, (0.81, 0.98)),
    ],
)
def test_icc_is_that_of_pingouin(ratings, icc, interval):
    """Values of pingouin 0.7.0, intraclass_corr, ICC(A,1); it gives its intervals with two digits."""
    _, found, ends = measure(ratings)
    assert found == pytest.approx(icc, abs=1e-6)
    assert ends == pytest.approx(interval, abs=0.005)


@pytest.mark.parametrize("seed", range(4))
def test_mean_squares_are_those_of_an_analysis_of_variance(seed):
    ratings = np.random.default_rng(seed).uniform(0, 1, (7, 2 + seed % 2))
    subject, rater = np.indices(ratings.shape)
    table = pd.DataFrame({"y": ratings.ravel(), "subject": subject.ravel(), "rater": rater.ravel()})
    expected = anova_lm(ols("y ~ C(subject) + C(rater)", table).fit())["mean_sq"]
    squares, *_ = measure(ratings)
    found = (squares.between_subjects, squares.between_raters, squares.error)
    assert found == pytest.approx(tuple(expected), rel=1e-9)


def test_weights_are_repetitions_of_subjects():
    weights = np.array([[2, 0, 1, 3, 1, 1], [1, 1, 1, 1, 1, 1]])
    found = icc_2_1(mean_squares(SHROUT_AND_FLEISS, weights))
    repeated = np.repeat(SHROUT_AND_FLEISS, weights[0], axis=0)
    assert found.tolist() == pytest.approx([measure(repeated)[1], 0.289764], abs=1e-6)


@pytest.mark.parametrize("ratings", [np.zeros((0, 2)), np.array([[0.2, 0.3]]), np.zeros((5, 2))])
def test_few_or_equal_ratings_have_no_icc(ratings):
    _, icc, ends = measure(ratings)
    assert np.isnan([icc, *ends]).all()
