import math

import pytest

from homespun_core.estimates import spelled, widening


def test_an_interval_stands_behind_its_value_and_an_unknown_one_is_called_so() -> None:
    assert spelled({"value": 0.25, "low": 0.1, "high": 0.4}, ".1%") == "25.0% [10.0%, 40.0%]"
    assert spelled({"value": -1.5, "low": None, "high": None}, "+.3f") == "-1.500 [not known]"


@pytest.mark.parametrize(("clusters", "t"), [(4, 3.1824), (10, 2.2622), (20, 2.0930), (60, 2.0010), (1_000, 1.9623)])
def test_with_few_clusters_an_interval_is_as_wide_as_students(clusters: int, t: float) -> None:
    wanted = t / 1.959964 * math.sqrt(clusters / (clusters - 1))
    assert widening(clusters) == pytest.approx(wanted, rel=2e-3)
