"""A training's folder: what is saved when something goes wrong, and whose files are written."""

import dataclasses

import pytest
from tiny_data import make_detection_data
from tiny_training import fresh, trainer

from yolo.datasets import sources
from yolo.datasets.data import Data
from yolo.errors import DarknetError, DataError
from yolo.evaluation.results import ClassifierEvaluation, DetectorEvaluation
from yolo.files import write_files
from yolo.models.checkpoint import Checkpoint, checkpoint_writer, load_checkpoint
from yolo.training.curves import SCORES
from yolo.training.run import Run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return sources.load(make_detection_data(tmp_path_factory.mktemp("data")))


@pytest.mark.parametrize("failure", [DataError("valid.txt:3: bad"), KeyboardInterrupt()])
def test_an_epoch_outlives_its_evaluation(data, tmp_path, failure):
    def metric(network):
        raise failure

    run = Run(trainer(data), tmp_path, "x", metric)
    with pytest.raises(type(failure)):
        list(run.epochs())
    saved = load_checkpoint(run.last_path).training
    assert saved["trainer"]["epoch"] == 1
    assert [row["epoch"] for row in saved["history"]] == [1]


def test_a_training_stopped_before_its_first_step_can_go_on(data, tmp_path):
    run = Run(trainer(data), tmp_path, "x")
    run.trainer.stop = True
    assert list(run.epochs()) == []
    again = Run(trainer(data), tmp_path, "x")
    again.resume(load_checkpoint(run.last_path))
    assert len(list(again.epochs())) == 2


def test_a_folder_that_can_not_be_written_is_an_error_before_the_training(data, tmp_path):
    (tmp_path / "file").touch()
    run = Run(trainer(data), tmp_path / "file", "x")
    with pytest.raises(DarknetError, match="is not a directory"):
        list(run.epochs())
    assert run.trainer.done == 0


def test_the_best_of_an_earlier_training_is_not_ours(data, tmp_path):
    other = fresh()
    best = Checkpoint(other.cfg, other.state())
    write_files([(tmp_path / "best.pt", checkpoint_writer(best))])
    run = Run(trainer(data, epochs=1), tmp_path, "x")
    list(run.epochs())
    names = {path.name for path in run.write_model()}
    assert names == {"x.cfg", "x_last.weights"}


def test_a_training_that_goes_on_elsewhere_has_a_best_there(data, tmp_path):
    scores = iter((0.9, 0.2))

    def metric(network):
        return {"score": next(scores)}

    first = Run(trainer(data), tmp_path / "one", "x", metric)
    for _ in first.epochs():
        first.trainer.stop = True
    second = Run(trainer(data), tmp_path / "two", "x", metric)
    second.resume(load_checkpoint(first.last_path))
    list(second.epochs())
    assert tmp_path / "two" / "x_best.weights" in second.write_model()
    assert second.best == 0.2


class Same:
    """An observer whose figure has the name of another's."""

    def __init__(self, name):
        self.name = name

    def look(self, network):
        return {self.name: 7.0}

    def line(self):
        return ""

    def writers(self, folder):
        return []

    def state(self):
        return None


@pytest.mark.parametrize("name", ["rate", "loss", "score"])
def test_no_figure_takes_the_place_of_another(data, tmp_path, name):
    run = Run(trainer(data), tmp_path, "x", lambda network: {"score": 0.5}, observer=Same(name))
    with pytest.raises(ValueError, match=f"two numbers of an epoch are named {name}$"):
        list(run.epochs())
    assert load_checkpoint(run.last_path).training["history"][0].get("rate") == 0.004


def test_curves_draw_what_evaluations_say():
    names = {"iou"}  # of the training itself
    for kind in (DetectorEvaluation, ClassifierEvaluation):
        names |= {field.name for field in dataclasses.fields(kind)} | set(dir(kind))
    assert set(SCORES) <= names
