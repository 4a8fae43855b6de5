"""What the crops of every face are called: no two alike, whatever the samples' names are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafiqs.datasets.dataset import Sample
from grafiqs.run.crops import Crops, path_of


def samples(*paths: str) -> list[Sample]:
    return [Sample(path.rpartition("/")[0].split("/")[0], path.partition("/")[2] or path, path) for path in paths]


@pytest.mark.parametrize(
    ("names", "second"),
    [
        (["ann/0"], ["ann/0_1"]),
        (["ann/0", "ann/0_1"], ["ann/0__1", "ann/0_1_1"]),
        (["ann/0", "bob/0_1"], ["ann/0_1", "bob/0_1_1"]),
        (["ann/0", "ann/0_", "ann/0_7"], ["ann/0__1", "ann/0___1", "ann/0_7_1"]),
        (["ann/0", "ann/0_1.png/x"], ["ann/0__1", "ann/0_1.png/x_1"]),
        (["0", "0_2"], ["0__1", "0_2_1"]),
    ],
)
def test_a_second_face_has_the_name_of_its_photo_and_a_number(names: list[str], second: list[str]) -> None:
    photos = samples(*names)
    crops = Crops(photos, every_face=True)
    assert [crops.path(sample, 1) for sample in photos] == [f"{path}.png" for path in second]
    assert [crops.path(sample) for sample in photos] == [f"{path}.png" for path in names]
    assert {crops.of(sample, 3).location for sample in photos} == {sample.location for sample in photos}


@given(
    st.lists(
        st.text("0a_/1", min_size=1, max_size=6).filter(lambda n: "//" not in n and n.strip("/") == n), unique=True
    )
)
def test_no_two_crops_share_a_path_nor_is_one_a_folder_of_others(names: list[str]) -> None:
    photos = [Sample("ann", name, f"ann/{name}") for name in names]
    crops = Crops(photos, every_face=True)
    paths = [crops.path(sample, number) for sample in photos for number in (0, *range(1, 13), 100, 101)]
    assert len(set(paths)) == len(paths)
    folders = {str(above) for path in paths for above in Path(path).parents}
    assert not folders & {crops.path(sample, number) for sample in photos for number in (1, 2, 11)}


def test_crops_are_found_and_removed_from_the_last_one_on(tmp_path: Path) -> None:
    photos = samples("ann/0", "ann/0_1")
    crops = Crops(photos, every_face=True)
    (tmp_path / "ann").mkdir()
    for path in [path_of(photos[1]), *(crops.path(photos[0], number) for number in range(4))]:
        (tmp_path / path).touch()
    assert crops.found(tmp_path, photos[0]) == ["ann/0.png", "ann/0__1.png", "ann/0__2.png", "ann/0__3.png"]
    crops.remove(tmp_path, photos[0], 2)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["0.png", "0_1.png", "0__1.png"]
    crops.remove(tmp_path, photos[0])
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["0_1.png"]
    assert Crops(photos).found(tmp_path, photos[0]) == ["ann/0.png"]
