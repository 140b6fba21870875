"""Where everything lies: one reading of the environment, typed paths.

Belongs here: environment variables and the folders they name. Does not: anything that opens those files.
"""

import importlib.util
import os
import re
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.errors import Refusal

ROOT = Path(__file__).resolve().parent.parent
DBT_PROJECT_DIR = ROOT / "dbt_project"
DBT_PROJECT_PARTS = ("dbt_project.yml", "profiles.yml", "macros", "models", "seeds", "statistical_tables", "tests")
# Who answers for every asset, as Dagster shows it.
OWNERS = ["team:cmhs"]
EXPECTATIONS_DIR = ROOT / "expectations"
# Dagster's own configuration, copied where it is missing, and the comment by which a copy is known.
DAGSTER_YAML = ROOT / "deployment" / "dagster.yaml"
DAGSTER_YAML_HEADER = "# Written by the warehouse where it was missing"
# Below a warehouse's private folder; emptied when a run starts.
TEMPORARY = "tmp"
# There, the number of the process of dbt while it runs.
DBT_PID = "dbt.pid"
# The engines that the models run on: targets of the dbt profile.
DUCKDB, SPARK = "duckdb", "spark"


@dataclass(frozen=True)
class Settings:
    """Absolute paths of one warehouse and of the survey it is filled from, and how it is run."""

    raw_dir: Path
    seeds_dir: Path
    warehouse: Path
    published_dir: Path
    dagster_home: Path
    target: str
    keep_releases: int
    # Spark's master, and a folder that its workers reach; none where they run on this machine.
    spark_master: str = "local[2]"
    spark_shared_dir: Path | None = None
    # Whom to tell that a refresh was blocked; an address may hold a secret.
    alert_command: str = field(default="", repr=False)
    alert_url: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read the CMHS_* variables and DAGSTER_HOME; what is not set lies inside the checkout."""

        def path(variable: str, default: str) -> Path:
            return Path(os.environ.get(variable) or ROOT / default).expanduser().resolve()

        return cls(
            raw_dir=path("CMHS_RAW_DIR", "data/raw"),
            seeds_dir=path("CMHS_SEEDS_DIR", "dbt_project/seeds"),
            warehouse=path("CMHS_WAREHOUSE", "data/warehouse/warehouse.duckdb"),
            published_dir=path("CMHS_PUBLISHED_DIR", "data/published"),
            dagster_home=path("DAGSTER_HOME", "data/dagster"),
            target=_target(),
            keep_releases=_whole_number("CMHS_KEEP_RELEASES", 20),
            spark_master=_spark_master(),
            spark_shared_dir=path("CMHS_SPARK_DIR", "") if os.environ.get("CMHS_SPARK_DIR") else None,
            alert_command=_command("CMHS_ALERT_COMMAND"),
            alert_url=_address("CMHS_ALERT_URL"),
        )

    @property
    def registry(self) -> Path:
        """The list of raw files."""
        return self.raw_dir / "registry.csv"

    @property
    def state_dir(self) -> Path:
        """The private folder beside the warehouse with what belongs to it: dbt's artifacts and the lock."""
        return state_dir_of(self.warehouse)

    @property
    def dbt_project_dir(self) -> Path:
        """The dbt project to run: the checkout's, or where another crosswalk is used a folder of links to it.

        dbt is never given the other folder by its path: it writes the SQL it ran for a seed to the seed's path
        below its target folder, which for an absolute path is the seed itself.
        """
        own = self.seeds_dir.resolve() == (DBT_PROJECT_DIR / "seeds").resolve()
        return DBT_PROJECT_DIR if own else self.state_dir / "project"

    @property
    def dbt_target_dir(self) -> Path:
        """dbt's compiled project and artifacts of this warehouse (dbt appends to it, one folder a warehouse)."""
        return self.state_dir / "dbt"

    @property
    def spark_dir(self) -> Path:
        """Where Spark finds raw tables and crosswalk and leaves its own tables, as Parquet, while dbt runs."""
        return (self.spark_shared_dir or self.state_dir / TEMPORARY) / "spark"

    @property
    def current_release(self) -> Path:
        """The link that readers follow."""
        return self.published_dir / "current"

    def export(self) -> None:
        """Put the paths into this process's environment, so that dbt and its profile see the same ones."""
        # dbt takes each of its options from the environment, too: some leave checks out, some write answers to a log.
        for variable in [name for name in os.environ if name.startswith("DBT_")]:
            del os.environ[variable]
        os.environ.update(
            CMHS_RAW_DIR=str(self.raw_dir),
            CMHS_SEEDS_DIR=str(self.seeds_dir),
            CMHS_WAREHOUSE=str(self.warehouse),
            CMHS_PUBLISHED_DIR=str(self.published_dir),
            CMHS_TARGET=self.target,
            CMHS_KEEP_RELEASES=str(self.keep_releases),
            CMHS_SPARK_MASTER=self.spark_master,
            CMHS_SPARK_DIR=str(self.spark_shared_dir or ""),
            CMHS_ALERT_COMMAND=self.alert_command,
            CMHS_ALERT_URL=self.alert_url,
            DAGSTER_HOME=str(self.dagster_home),
            DBT_PROFILES_DIR=str(DBT_PROJECT_DIR),
            DBT_SEND_ANONYMOUS_USAGE_STATS="false",
            # What the database says of an error may quote a respondent's answer.
            DBT_LOG_LEVEL_FILE="none",
            GX_ANALYTICS_ENABLED="false",
        )
        # Dagster's programs are started by name: those of this environment, also when it was not activated.
        binaries = str(Path(sys.executable).parent)
        path = os.environ.get("PATH", os.defpath)
        if binaries not in path.split(os.pathsep):
            os.environ["PATH"] = binaries + os.pathsep + path

    def prepare(self) -> None:
        """Make the folders and Dagster's own configuration where they are missing.

        What this process writes from now on is private to the user; a release is opened to all when it is whole.
        """
        # Readers have to reach a release, so the folders above it are open where they are made here.
        os.umask(0o022)
        self.published_dir.mkdir(parents=True, exist_ok=True)
        os.umask(0o077)
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.dagster_home.mkdir(parents=True, exist_ok=True)
        if self.dbt_project_dir != DBT_PROJECT_DIR:
            self.dbt_project_dir.mkdir(exist_ok=True)
            for part in DBT_PROJECT_PARTS:
                link = self.dbt_project_dir / part
                target = self.seeds_dir if part == "seeds" else DBT_PROJECT_DIR / part
                if not link.is_symlink() or link.readlink() != target:
                    link.unlink(missing_ok=True)
                    link.symlink_to(target)
        configuration = self.dagster_home / "dagster.yaml"
        # An empty one would let Dagster fall back to its own settings, telemetry among them.
        if not configuration.exists() or configuration.stat().st_size == 0:
            whole = configuration.with_name(f"dagster.yaml.{os.getpid()}")
            whole.write_bytes(DAGSTER_YAML.read_bytes())
            whole.replace(configuration)


def state_dir_of(warehouse: Path) -> Path:
    """The private folder that belongs to a warehouse file."""
    return warehouse.with_name(warehouse.name + ".d")


def _target() -> str:
    target = os.environ.get("CMHS_TARGET") or DUCKDB
    if target not in (DUCKDB, SPARK):
        raise Refusal(f"CMHS_TARGET is '{target}'; expected {DUCKDB} or {SPARK}.")
    if target == SPARK:
        missing = [name for name in ("pyspark", "dbt.adapters.spark") if not importlib.util.find_spec(name)]
        if missing:
            raise Refusal("CMHS_TARGET is spark, and Spark is not installed here.", ["Install it: `make spark`."])
        if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
            raise Refusal("CMHS_TARGET is spark, and there is no Java.", ["Install Java 17, or set JAVA_HOME."])
    return target


def _spark_master() -> str:
    master = os.environ.get("CMHS_SPARK_MASTER") or "local[2]"
    if not re.fullmatch(r"local\[([1-9][0-9]*|\*)\]|spark://\S+|k8s://\S+|yarn", master):
        raise Refusal(f"CMHS_SPARK_MASTER is '{master}'; expected local[2], spark://host:port, yarn or k8s://...")
    return master


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise Refusal(f"{variable} is '{text}'; expected a whole number from 1.")
    return int(text)


def _command(variable: str) -> str:
    text = os.environ.get(variable) or ""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise Refusal(f"{variable} is no command line: {error}.") from None
    return text if words else ""


def _address(variable: str) -> str:
    text = os.environ.get(variable) or ""
    # It is not shown: such addresses often hold a secret.
    if text and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise Refusal(f"{variable} is no address; expected one that begins with http:// or https://.")
    return text
