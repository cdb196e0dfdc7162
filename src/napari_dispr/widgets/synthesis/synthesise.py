"""The window "Synthesise annotated images": pages to learn from layers, to make images, and to judge them."""

from pathlib import Path

from napari.viewer import Viewer
from qtpy.QtWidgets import QTabBar

from napari_dispr.widgets.parts.docked import DockedWidget
from napari_dispr.widgets.synthesis.judge_page import JudgePage
from napari_dispr.widgets.synthesis.learn_page import LearnPage
from napari_dispr.widgets.synthesis.make_page import MakePage


class SynthesiseWidget(DockedWidget):
    """Learn from a few annotated images, make many, and judge whether they help."""

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self.learn = LearnPage(napari_viewer)
        self.make = MakePage(napari_viewer)
        self.judge = JudgePage()
        self._pages: tuple[LearnPage | MakePage | JudgePage, ...] = (self.learn, self.make, self.judge)
        self.tabs = QTabBar(toolTip="Learn from your images, make images like them, judge whether they help")
        for name in ("1 Learn", "2 Make", "3 Judge"):
            self.tabs.addTab(name)
        self._lay_out(self.tabs, *self._pages)
        self.tabs.currentChanged.connect(self.show_page)
        self.show_page(0)
        self.learn.model_wanted.connect(self._on_model)
        self.learn.models_changed.connect(self.make.offer_models)
        self.make.browser.folder_changed.connect(self._on_folder)
        self._follow_theme(self.learn.view.curve.set_colours)

    def show_page(self, number: int) -> None:
        """Show a page; the others take no space."""
        self.tabs.setCurrentIndex(number)
        for index, page in enumerate(self._pages):
            page.setVisible(index == number)

    def _on_model(self, model: Path) -> None:
        self.make.use_model(model)
        self.show_page(1)
        if self.learn.run is not None:
            self.judge.suggest(real_train=self.learn.run.images)

    def _on_folder(self) -> None:
        if (folder := self.make.browser.folder) is not None:
            self.judge.suggest(synthetic=folder)
