"""Labels of ImageNet's lists: a WordNet id and a name."""

from __future__ import annotations

import pytest

from vitedge.errors import DataError
from vitedge.images.class_matching import match_classes
from vitedge.images.label_names import names_for_people

LABELS = ("n01440764 tench, Tinca tinca", "n02877765 bottlecap", "n03045698 cloak")


def test_people_see_names_without_ids() -> None:
    assert names_for_people(LABELS) == ("tench, Tinca tinca", "bottlecap", "cloak")


@pytest.mark.parametrize("labels", [("n01440764 tench", "cloak"), ("n1 a", "n2 b"), ()])
def test_labels_that_are_not_all_ids_with_names_stay(labels: tuple[str, ...]) -> None:
    assert names_for_people(labels) == labels


@pytest.mark.parametrize("called", ["n02877765", "bottlecap", "N02877765 Bottlecap", "1"])
def test_a_class_is_found_by_its_id_its_name_both_or_its_index(called: str) -> None:
    assert match_classes([called], LABELS, "photos")[1] == {called: 1}


def test_another_id_is_no_class() -> None:
    with pytest.raises(DataError, match="n99999999"):
        match_classes(["n99999999"], LABELS, "photos")
