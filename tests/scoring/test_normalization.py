import numpy as np
import pytest

from modeling_oskdft.scoring.normalization import adaptive_s_norm


def test_s_norm_by_hand():
    scores, cohort = np.array([1.0]), np.array([[0.0, 0.5, 0.7]])
    mean, deviation = 0.6, np.std([0.5, 0.7], ddof=1)
    np.testing.assert_allclose(adaptive_s_norm(scores, cohort, cohort, top_n=2), [(1 - mean) / deviation])
    with pytest.raises(ValueError, match="top_n is 4 of a cohort of 3"):
        adaptive_s_norm(scores, cohort, cohort, top_n=4)
