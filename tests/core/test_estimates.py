from homespun_core.estimates import spelled


def test_an_interval_stands_behind_its_value_and_an_unknown_one_is_called_so() -> None:
    assert spelled({"value": 0.25, "low": 0.1, "high": 0.4}, ".1%") == "25.0% [10.0%, 40.0%]"
    assert spelled({"value": -1.5, "low": None, "high": None}, "+.3f") == "-1.500 [not known]"


def test_a_value_that_is_no_number_is_not_known() -> None:
    assert spelled({"value": None, "low": None, "high": None}, "+.3f") == "not known"
