"""Dagster's entry to the warehouse: the definitions of the settings in the environment."""

from orchestration.build import build_definitions
from orchestration.settings import Settings

defs = build_definitions(Settings.from_environment())
