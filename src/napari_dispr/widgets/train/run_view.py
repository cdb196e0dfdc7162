"""Shows the training of a shape model: its state, its curves and scores."""

from collections.abc import Mapping
from html import escape

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QPushButton

from napari_dispr.settings import RivalTrainSettings
from napari_dispr.widgets.parts.docked import Message
from napari_dispr.widgets.parts.layouts import column, row
from napari_dispr.widgets.parts.run_follower import RunFollower
from napari_dispr.widgets.parts.wording import breakable, shortened
from napari_dispr.widgets.train.curves import Curves
from napari_dispr.widgets.train.follow import FollowedRun, Score, cells_words, start_name

_ABOUT_PICTURE = (
    "Validation cells, one in each row. From left to right: the picture inside the outline, the true shape "
    "(grey), and shapes that the model predicts now (blue)."
)

_ABOUT_SCORES = (
    "Energy score: distance of the predicted shapes from the true shape, minus their own spread. Volume "
    "error: relative error of their mean volume. Lower is better for both."
)


class RunView(RunFollower[FollowedRun]):
    """Follows one training."""

    #: The user wants to train the model of a finished run further: the run and the model's file.
    further_wanted = Signal(object, str)
    #: The user wants to predict with the model of this file.
    model_wanted = Signal(str)

    def __init__(self) -> None:
        super().__init__(FollowedRun, _ABOUT_PICTURE)
        self.summary = QLabel(wordWrap=True)
        self.verdict = Message()
        self.scores = QLabel()
        self.curves = Curves()
        self.use_button = QPushButton("Use in Predict", toolTip="Open Predict 3D shapes with this model")
        self.further_button = QPushButton(
            "Train further", toolTip="Start a new run from this model: with more time, or with more cells"
        )
        save = (self.finish_button, self.use_button, self.further_button, self.delete_button)
        buttons = row(*((button, 1) for button in (self.stop_button, self.continue_button, *save)))
        words = (self.headline, self.progress_bar, self.numbers)
        below = (self.problem, self.verdict, self.scores, self.curves, self.caption, self.picture, None)
        column(self.summary, *words, buttons, *below, parent=self)
        self.use_button.clicked.connect(self._on_use)
        self.further_button.clicked.connect(self._on_further)

    def _show_more(self, followed: FollowedRun) -> None:
        plan, log = followed.run.plan, followed.log
        self.summary.setText(breakable(_summary(followed)))
        self.verdict.say(followed.verdict())
        scores = followed.scores()
        self.scores.setText(_table(scores))
        self.scores.setToolTip("\n".join((*scores, _ABOUT_SCORES)))
        self.scores.setVisible(bool(self.scores.text()))
        self.curves.setVisible(bool(log.losses or log.scores))
        self.curves.show_log(log, plan.start is not None)

    def _show_buttons(self, followed: FollowedRun) -> None:
        super()._show_buttons(followed)
        finished = followed.state == "finished"
        self.use_button.setVisible(finished)
        ours = not isinstance(followed.run.plan.settings, RivalTrainSettings)
        self.further_button.setVisible(finished and ours)

    def _on_use(self) -> None:
        if self._followed is not None:
            self.model_wanted.emit(self._followed.model or self._followed.run.plan.out)

    def _on_further(self) -> None:
        if self._followed is not None:
            run = self._followed.run
            self.further_wanted.emit(run, self._followed.model or run.plan.out)


def _summary(followed: FollowedRun) -> str:
    plan, begin = followed.run.plan, followed.log.begin
    text = f"From {start_name(plan)}, {plan.settings.budget}, preset {plan.preset}."
    return text if begin is None else f"{text} {cells_words(begin)}."


def _table(scores: Mapping[str, Score]) -> str:
    """Scores as an HTML table, one row for each model; empty if there are none."""
    if not scores:
        return ""
    row = (
        '<tr><td style="padding-right: 14px;">{}</td><td style="padding-right: 14px;" align="right">{}</td>'
        '<td align="right">{}</td></tr>'
    )
    lines = [
        row.format(escape(shortened(name)), f"{score.energy_score:.3f}", f"{score.volume_error:.1%}")
        for name, score in scores.items()
    ]
    return f"<table>{row.format('', 'energy score', 'volume error')}{''.join(lines)}</table>"
