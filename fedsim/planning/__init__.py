"""Planning: which split point, bottleneck and rate meet a goal on given devices and links, and what binds.

::

    run folders -> candidates ---+
    scenario ------> prediction -+-> settings --goal--> answer -> table, JSON, picture

``make_plan(scenario, folders, asked(accuracy=0.9, ...))`` does it all. docs/planning.md says what every
word and figure means.
"""

from fedsim.planning.answer import Answer, Obstacle, answer_to
from fedsim.planning.candidates import Candidate, Trained, read
from fedsim.planning.errors import PlanningError
from fedsim.planning.goal import Goal, asked
from fedsim.planning.plan import Plan, fleet_of, make_plan
from fedsim.planning.prediction import Costs, Predictor
from fedsim.planning.setting import QUANTITIES, Setting

__all__ = [
    "QUANTITIES",
    "Answer",
    "Candidate",
    "Costs",
    "Goal",
    "Obstacle",
    "Plan",
    "PlanningError",
    "Predictor",
    "Setting",
    "Trained",
    "answer_to",
    "asked",
    "fleet_of",
    "make_plan",
    "read",
]
