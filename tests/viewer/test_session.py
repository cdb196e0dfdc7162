"""What widgets of one viewer share: the newest state of each prediction, and what is looked at."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from napari.components import ViewerModel
from napari.utils._proxies import PublicOnlyProxy
from support.predictions import ball, prediction_of

from napari_dispr.prediction.tables import measure, measure_cells
from napari_dispr.shapes.ensemble import Ensemble
from napari_dispr.viewer.content import METADATA_KEY
from napari_dispr.viewer.displayed import displayed_plane
from napari_dispr.viewer.layers import PREDICTION_KEY, PredictionHandle, ResultLayers
from napari_dispr.viewer.link import PictureLink
from napari_dispr.viewer.opened import OpenPrediction, opened
from napari_dispr.viewer.session import Selection, Session


@pytest.fixture(scope="module")
def two_cells() -> OpenPrediction:
    prediction = prediction_of(ball(1, (50, 50), [20, 15, 10]), ball(2, (50, 110), [12, 11, 12]))
    return opened(prediction, measure(prediction), "cells")


def heard(session: Session) -> list[str]:
    """Collects the events of the session."""
    events: list[str] = []
    session.events.predictions.connect(lambda event: events.append("predictions"))
    session.events.selected.connect(lambda event: events.append(f"selected {session.selection.cell}"))
    return events


def test_a_viewer_has_one_session_also_through_its_proxy(two_cells: OpenPrediction) -> None:
    viewer = ViewerModel()
    session = Session.of(viewer)
    assert Session.of(PublicOnlyProxy(viewer)) is session
    assert Session.of(ViewerModel()) is not session
    assert session.current is None and session.selection == Selection()


def test_selection_is_one_event_and_ends_with_its_cell(two_cells: OpenPrediction) -> None:
    session = Session.of(ViewerModel())
    events = heard(session)
    session.show(two_cells)
    session.select(1, 2)
    session.select(1, 2)
    assert events == ["predictions", "selected 1"]
    assert session.current is two_cells
    session.show(two_cells.changed_to(two_cells.prediction.reject(1, 2)))
    assert session.selection == Selection(1, None), "the member is gone, the cell is not"
    assert [one.key for one in session.predictions] == [two_cells.key]
    alone = prediction_of(ball(2, (50, 110), [12]))
    session.show(opened(alone, two_cells.measures, "others", cells=pd.DataFrame()))
    assert session.selection == Selection() and len(session.predictions) == 2


def test_another_state_has_the_tables_of_a_new_measurement(two_cells: OpenPrediction) -> None:
    one = two_cells.prediction[1]
    further = Ensemble(1, one.signed_distance[:1] - 2, one.grid_to_world, "micrometer", 0.5, (3,))
    prediction = two_cells.prediction.reject(1, 0)
    prediction = prediction.with_cell(prediction[1].joined(further)).keep(2, "consensus")
    after = two_cells.changed_to(prediction)
    pd.testing.assert_frame_equal(after.measures, measure(prediction))
    pd.testing.assert_frame_equal(after.cells, measure_cells(prediction))
    assert after.measures.attrs == measure(prediction).attrs
    assert after.key is two_cells.key


def test_layers_bring_their_prediction_and_take_it_along(two_cells: OpenPrediction) -> None:
    drawn_elsewhere = ViewerModel()
    other = Session.of(drawn_elsewhere)
    other.show(two_cells)
    handle = other.handle(two_cells)
    viewer = ViewerModel()
    session = Session.of(viewer)
    events = heard(session)
    volume, _ = two_cells.prediction.label_volume(0)
    layers = [viewer.add_labels(volume, metadata={PREDICTION_KEY: handle}) for _ in range(2)]
    assert session.current is two_cells and events == ["predictions"]
    viewer.layers.remove(layers[0])
    assert session.current is two_cells
    viewer.layers.remove(layers[1])
    assert session.current is None and session.predictions == []
    late = ViewerModel()
    late.add_labels(volume, metadata={PREDICTION_KEY: handle})
    assert Session.of(late).current is two_cells, "layers that are older than the session"


def test_predictions_from_folders_have_names_of_their_own(two_cells: OpenPrediction) -> None:
    viewer = ViewerModel()
    session = Session.of(viewer)
    volume, _ = two_cells.prediction.label_volume(0)
    for folder in ("first", "second", "second"):
        prediction = two_cells.prediction.with_provenance(folder=f"somewhere/{folder}")
        handle = PredictionHandle(replace(two_cells, key=object(), prediction=prediction))
        metadata = {PREDICTION_KEY: handle, METADATA_KEY: {"member": 0}}
        viewer.add_labels(volume, name="cells: member 1", metadata=metadata)
    names = ["cells", "cells (second)", "cells (second) (2)"]
    assert [one.name for one in session.predictions] == names
    assert [layer.name for layer in viewer.layers] == [f"{name}: member 1" for name in names]


def test_a_change_goes_to_its_prediction_whichever_is_looked_at(two_cells: OpenPrediction) -> None:
    session = Session.of(ViewerModel())
    session.show(two_cells)
    alone = prediction_of(ball(2, (50, 110), [12]))
    session.show(opened(alone, two_cells.measures, "others", cells=pd.DataFrame()))
    session.select(2, 0)
    looked_at, events = session.current, heard(session)
    changed = replace(two_cells, prediction=two_cells.prediction.reject(2, 0))
    assert session.update(changed) and events == ["predictions"]
    assert session.newest(two_cells.key) is changed
    assert session.current is looked_at and session.selection == Selection(2, 0)


def test_a_prediction_that_was_closed_does_not_come_back(two_cells: OpenPrediction) -> None:
    session = Session.of(ViewerModel())
    assert not session.update(two_cells)
    assert session.predictions == [] and session.newest(two_cells.key) is None


def test_what_one_link_shows_another_does_not_take_for_a_choice(two_cells: OpenPrediction) -> None:
    viewer = ViewerModel()
    session = Session.of(viewer)
    session.show(two_cells)
    volume, _ = two_cells.prediction.label_volume(0)
    metadata = {PREDICTION_KEY: session.handle(two_cells), METADATA_KEY: {"member": 0}}
    layer = viewer.add_labels(volume, metadata=metadata)
    links = [PictureLink(viewer, session.select) for _ in range(2)]  # of two widgets
    session.select(2, 1)
    links[0].show(2)
    assert layer.selected_label == 2 and session.selection == Selection(2, 1)
    layer.selected_label = 1
    assert session.selection == Selection(1, 0), "that was the user"
    for link in links:
        link.stop()


def test_the_slider_of_members_says_which_one_is_clicked(two_cells: OpenPrediction) -> None:
    viewer = ViewerModel()
    session = Session.of(viewer)
    session.show(two_cells)
    stack = np.stack([volume for volume, _ in two_cells.prediction.label_volumes()])
    metadata = {PREDICTION_KEY: session.handle(two_cells), METADATA_KEY: {"members": [0, 1, 2]}}
    viewer.add_labels(stack, metadata=metadata)
    link = PictureLink(viewer, session.select)
    viewer.dims.set_point(0, 2)
    place = np.array([2, *np.argwhere(stack[2] == 1).mean(axis=0)])
    link.click(place)
    assert session.selection == Selection(1, 2)
    session.select(None)
    for layer in viewer.layers:
        layer.units = ("pixel", "um", "um", "um")
    viewer.add_image(np.zeros((9, 9)), units=("nm", "nm"), visible=False)  # the viewer counts in nanometers
    place *= [1, 1000, 1000, 1000]
    viewer.dims.set_point((0, 1), place[:2])
    link.click(place)
    assert session.selection == Selection(1, 2)
    link.stop()


def test_a_drawn_prediction_goes_when_it_is_neither_seen_nor_looked_at(two_cells: OpenPrediction) -> None:
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((200, 200)))
    plane = displayed_plane(image, viewer.dims)
    session = Session.of(viewer)
    drawn = [replace(two_cells, key=object(), plane=plane) for _ in range(3)]
    volume, _ = two_cells.prediction.label_volume(0)
    layers = []
    for one in drawn:
        session.show(one)
        handle = session.handle(one)
        layers.append(
            viewer.add_labels(volume, metadata={PREDICTION_KEY: handle, METADATA_KEY: {"member": 0}})
        )
        handle.layers = ResultLayers.found(viewer, handle)
    viewer.layers.remove(layers[2])
    assert session.current is drawn[2], "it is looked at, without layers, too"
    viewer.layers.remove(layers[0])
    assert session.predictions == [drawn[1], drawn[2]]
    session.show(drawn[1])
    assert session.predictions == [drawn[1]]
