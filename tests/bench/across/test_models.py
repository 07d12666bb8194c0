"""What is known of models, what runs share, and which runs are refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.across.agreement import unlike_words
from bench.across.contrasts import contrasts_of, groups_of, levels_in_range
from bench.across.models import CONFIGURATION, models_of
from bench.across.readings import follower_shift
from bench.across.shared import shared
from bench.errors import UserError
from datasets.items import Item
from tests.bench.across.synthetic import run_of, with_conditions

ZOO = ("tiny", "unet_noise_1", "unet_flow_0", "mmdit_flow_0", "mmdit_flow_0_at_160", "dit_noise_0")


def test_the_models_of_the_zoo_are_described_by_their_folders() -> None:
    found = {model.name: model for model in models_of([run_of(name) for name in ZOO])}
    kinds = {
        name: (model.architecture, model.objective, model.training_images, model.seed)
        for name, model in found.items()
    }
    assert kinds == {
        "tiny": ("UNet", "noise", 204_800, 0),
        "unet_noise_1": ("UNet", "noise", 204_800, 1),
        "unet_flow_0": ("UNet", "flow", 204_800, 0),
        "mmdit_flow_0": ("MMDiT", "flow", 204_800, 0),
        "mmdit_flow_0_at_160": ("MMDiT", "flow", 10_240, 0),
        "dit_noise_0": ("DiT", "noise", 204_800, 0),
    }


def test_networks_of_another_size_are_no_seeds_of_each_other() -> None:
    models = models_of([run_of("tiny"), run_of("unet_noise_1")])
    assert groups_of(models) == [tuple(models)]
    wider = replace(models[1], configuration="wider")
    (contrast,) = contrasts_of([models[0], wider])
    assert contrast.what == CONFIGURATION
    assert unlike_words(models[0], wider) == "seed, configuration"
    assert unlike_words(*models) == "seed"


def test_of_an_unknown_model_the_run_says_what_it_can() -> None:
    flow = with_conditions(run_of("some/hub-id"), sampler="FlowMatchEulerDiscreteScheduler")
    model = models_of([flow, run_of("tiny")])[0]
    assert (model.name, model.architecture, model.objective) == ("hub-id", "UNet", "flow")
    assert model.seed is model.training_images is None


def test_a_damaged_record_of_a_training_is_refused(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text('{"seed": "zero"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"is no record of a training \(.*seed.*; mend it"):
        models_of([run_of(str(tmp_path)), run_of("tiny")])


def test_one_run_a_model_twice_and_random_weights_are_refused() -> None:
    tiny = run_of("tiny")
    with pytest.raises(UserError, match="give the run folders of two or more models"):
        models_of([tiny])
    with pytest.raises(UserError, match="two of the runs are of the model tiny"):
        models_of([tiny, run_of("mmdit_flow_0"), tiny])
    with pytest.raises(UserError, match="is of random weights"):
        models_of([tiny, run_of("mmdit_flow_0", weights="random")])


def test_runs_of_other_datasets_are_refused() -> None:
    runs = [
        with_conditions(run_of(name), dataset=dataset, **{"test items": dataset})
        for name, dataset in (("tiny", "scenes617"), ("mmdit_flow_0", "paper617"))
    ]
    with pytest.raises(UserError, match=r"differ in dataset \(scenes617, paper617\).* no pairs"):
        shared(models_of(runs))


def test_runs_with_other_labels_without_levels_or_without_common_items_are_refused() -> None:
    tiny, other = run_of("tiny"), run_of("mmdit_flow_0")
    labelled = [
        with_conditions(results, labeler=name)
        for results, name in ((tiny, "tiny"), (other, "midas"))
    ]
    with pytest.raises(UserError, match=r"differ in labeler \(tiny, midas\)"):
        shared(models_of(labelled))
    older = replace(other, record=other.record.model_copy(update={"log_snr": ()}))
    with pytest.raises(UserError, match="does not hold the noise levels"):
        shared(models_of([tiny, older]))
    renamed = tuple(f"x{item}" for item in other.record.test_items[:-2])
    apart = replace(
        other,
        record=other.record.model_copy(
            update={"test_items": (*renamed, *other.record.test_items[-2:])}
        ),
    )
    with pytest.raises(UserError, match="share 2 test items"):
        shared(models_of([tiny, apart]))


def test_equal_ids_of_other_prompts_or_seeds_are_no_pairs() -> None:
    runs = [
        with_conditions(run_of(name), **{"test items": f"80 (hash {name})"})
        for name in ("tiny", "mmdit_flow_0")
    ]
    with pytest.raises(UserError, match="equal ids with other prompts or seeds"):
        shared(models_of(runs))


def test_an_item_of_another_prompt_is_no_pair_in_runs_of_other_sizes() -> None:
    runs = [run_of("tiny", images=40), run_of("mmdit_flow_0", images=60)]
    keyed = [
        replace(
            results,
            record=results.record.model_copy(
                update={"item_keys": tuple(f"key of {item}" for item in results.record.test_items)}
            ),
        )
        for results in runs
    ]
    assert len(shared(models_of(keyed)).items) == 40
    _, *others = keyed[1].record.item_keys
    changed = keyed[1].record.model_copy(update={"item_keys": ("another", *others)})
    with pytest.raises(UserError, match="equal ids with other prompts or seeds"):
        shared(models_of([keyed[0], replace(keyed[1], record=changed)]))


def test_runs_that_do_not_begin_at_the_first_step_are_refused() -> None:
    late = run_of("mmdit_flow_0")
    late = replace(late, record=late.record.model_copy(update={"steps": (1, 2)}))
    with pytest.raises(UserError, match="was not probed at the first step"):
        shared(models_of([run_of("tiny"), late]))


@pytest.mark.parametrize(
    ("prompts", "seeds", "shift"),
    [("abcd", "1234", 1), ("aabb", "1234", 2), ("abcd", "1123", 2), ("aaab", "1234", None)],
)
def test_an_items_follower_has_another_prompt_and_seed(
    prompts: str, seeds: str, shift: int | None
) -> None:
    items = [
        Item(id=str(n), prompt=prompt, seed=int(seed), split="test")
        for n, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True))
    ]
    if shift is None:
        with pytest.raises(UserError, match="too few different prompts or seeds"):
            follower_shift(items)
    else:
        assert follower_shift(items) == shift


def test_levels_that_are_named_twice_count_once() -> None:
    both = shared(models_of([run_of("tiny"), run_of("mmdit_flow_0")]))
    assert levels_in_range(both, (2.0, 0.0, 2.0)) == (0.0, 2.0)


def test_orders_over_few_items_are_called_uncertain() -> None:
    few, many = (
        shared(models_of([run_of(name, images=count) for name in ("tiny", "dit_noise_0")]))
        for count in (80, 120)
    )
    assert "orders of emergence over 80 items are uncertain" in few.notes[0]
    assert many.notes == ()


def test_a_model_that_was_probed_in_some_layers_is_named() -> None:
    some = run_of("tiny", images=120)
    some = replace(some, config=replace(some.config, layers=("mid", "up2")))
    found = shared(models_of([some, run_of("dit_noise_0", images=120)]))
    assert found.notes == (
        "tiny was probed in mid, up2 alone, and its best layer is the best of these",
    )


def test_a_missing_task_is_refused_if_it_is_named_and_else_left_out() -> None:
    models = models_of(
        [
            run_of("tiny", tasks=("saliency", "depth"), images=120),
            run_of("dit_noise_0", tasks=("depth",), images=120),
        ]
    )
    found = shared(models)
    assert found.tasks == ("depth",)
    assert found.notes == ("left out, as not every run has it: saliency of tiny",)
    with pytest.raises(UserError, match="has no task saliency, only depth; leave saliency out"):
        shared(models, ["saliency"])
    apart = models_of([run_of("tiny", tasks=("depth",)), run_of("dit_noise_0", tasks=("colour",))])
    with pytest.raises(UserError, match="have no task in common"):
        shared(apart)


def test_scores_are_those_of_the_shared_items_in_one_order() -> None:
    tiny, other = run_of("tiny", images=10), run_of("mmdit_flow_0", images=10)
    order = [7, 3, 9, 1, 5]
    fewer = replace(
        other,
        record=other.record.model_copy(update={"test_items": tuple(map(str, order))}),
        tasks={
            name: replace(task, scores=task.scores[:, :, order])
            for name, task in other.tasks.items()
        },
    )
    models = models_of([tiny, fewer])
    found = shared(models)
    assert found.items == ("1", "3", "5", "7", "9")
    for model, whole in zip(models, (tiny, other), strict=True):
        expected = whole.tasks["depth"].scores[:, :, [1, 3, 5, 7, 9]]
        assert np.array_equal(found.task(model, "depth").scores, expected)
