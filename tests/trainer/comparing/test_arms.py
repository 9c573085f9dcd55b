from __future__ import annotations

from homespun_trainer.comparing.arms import arms_of


def test_without_an_adapter_only_the_base_model_is_asked() -> None:
    arms = arms_of(None, None)
    assert {arm.adapter for arm in arms} == {None} and arms[-1].name == "all together"


def test_with_adapters_each_has_the_control_it_is_compared_with() -> None:
    arms = {arm.name: arm for arm in arms_of("mine", "theirs")}
    assert arms["adapter+retrieval"].snippets == arms["other adapter+retrieval"].snippets == "found"
    assert arms["all together"].mixes and arms["all together"].adapter == "mine"
    assert len({arm.key for arm in arms.values()}) == len(arms)
