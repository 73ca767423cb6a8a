"""Teachers as a worker loads them, from what a config says."""

from pathlib import Path

from pipeline.teacher.record import describe_teacher
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig


def make_teacher(config: TeacherConfig, states: StatesConfig, folder: Path, adapter: Path | None = None) -> Teacher:
    """The teacher in `folder` that gives what `states` asks for; raises what settling and loading raise."""
    return Teacher(config, WantedStates.of_config(states, describe_teacher(config, folder)), folder, adapter)
