"""What is learnt: the meaning of the head's outputs, their loss, and their forecast in original units.

A new objective is one class in a file of its own.
"""

from cnn_lstm.model.objectives.base import Objective
from cnn_lstm.model.objectives.classes import Classes
from cnn_lstm.model.objectives.gaussian import Gaussian
from cnn_lstm.model.objectives.mixture import Mixture
from cnn_lstm.model.objectives.point import Point
from cnn_lstm.model.objectives.qlike import Qlike
from cnn_lstm.model.objectives.quantiles import Quantiles
from cnn_lstm.model.objectives.student_t import SkewStudentT, StudentT

__all__ = ["Classes", "Gaussian", "Mixture", "Objective", "Point", "Qlike", "Quantiles", "SkewStudentT", "StudentT"]

# checkpoints, config.yaml and messages name the class by the path that a user writes, not by its file
for _objective in (Classes, Gaussian, Mixture, Objective, Point, Qlike, Quantiles, SkewStudentT, StudentT):
    _objective.__module__ = __name__
