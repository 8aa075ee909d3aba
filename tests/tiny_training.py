"""Trainers of the tiny networks."""

import dataclasses

from tiny_data import DETECTOR

from yolo.cfg import Cfg
from yolo.datasets.data import Data
from yolo.models.initialize import initialize
from yolo.network import Network
from yolo.training.settings import Settings
from yolo.training.trainer import Options, Trainer


def fresh(text: str = DETECTOR) -> Network:
    network = Network(Cfg(text.encode(), "x.cfg"))
    initialize(network)
    return network


def trainer(data: Data, text: str = DETECTOR, epochs: int = 2, **settings: object) -> Trainer:
    network = fresh(text)
    asked = dataclasses.replace(Settings.of(network.cfg), **settings)
    options = Options(epochs, workers=0, ema=asked.ema_alpha or 0.9)
    return Trainer(network, data, asked.over(epochs * 3), options)
