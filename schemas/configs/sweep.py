"""The settings of `stillroom sweep`: many trainings that differ in a few values."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from schemas.bounds import LocalPath, Name, Seed, zero_or
from schemas.strict import Strict

Values = Annotated[list[Any], Field(min_length=1, max_length=1_000)]
NamedValues = Annotated[dict[Name, Any], Field(min_length=1, max_length=1_000)]


class VariantConfig(Strict):
    """One set of values that is laid over the base."""

    name: Name | None = None
    """How its runs are called; left out, by its values."""
    set: dict[Name, Any] = {}
    """Fields and their values, as `--set` of `stillroom train` names them: optimizer.lr, or objective.sra.weight."""

    @model_validator(mode="after")
    def _differs(self) -> "VariantConfig":
        if self.name is None and not self.set:
            raise ValueError("give `set`, or the name of a run that is as the base is")
        return self


class SweepWorkersConfig(Strict):
    """Where the runs are trained. None of this changes a student."""

    kind: Literal["sequence", "processes", "ray"] = "sequence"
    """One after the other, in processes of this machine, or as Ray tasks."""
    count: Annotated[int, Field(ge=1, le=1_000)] = 1
    """How many train at a time, in processes or as Ray tasks."""
    cpus: Annotated[float, Field(ge=0, le=10_000), zero_or(0.001)] = 1
    """CPUs that Ray reserves for each."""
    gpus: Annotated[float, Field(ge=0, le=1_000), zero_or(0.001)] = 0
    """GPUs that Ray reserves for each; fractions share a GPU."""
    address: Name | None = None
    """Ray address; left out, the cluster this job runs on, or else a local Ray."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> "SweepWorkersConfig":
        if self.kind == "sequence" and self.count > 1:
            raise ValueError(f"`kind: sequence` trains one run at a time; for {self.count} give processes or ray")
        misfits = sorted(self.model_fields_set & {"cpus", "gpus", "address"})
        if self.kind != "ray" and misfits:
            raise ValueError(f"{', '.join(misfits)} goes with `kind: ray`")
        return self


class SweepConfig(Strict):
    """Trainings of one base config: every variant with every point of the grid and every seed."""

    base: LocalPath | dict[str, Any]
    """A training config, as a file or in place; what it says of `output` and `seed` does not count."""
    output: LocalPath
    """The sweep's folder: runs, table, curves."""
    grid: Annotated[dict[Name, Values | NamedValues], Field(max_length=20)] = {}
    """Fields with the values that each takes, all combined; `{optimizer.lr: [1e-3, 3e-4]}`. Values that are lists or
    mappings have names: `{objective: {ce: [{loss: ce}], kd: [{loss: kd}]}}`."""
    runs: Annotated[list[VariantConfig], Field(min_length=1, max_length=10_000)] | None = None
    """Variants with values of their own, each at every point of the grid."""
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=1_000)] | None = None
    """The seeds of every variant; left out, the base's."""
    workers: SweepWorkersConfig = SweepWorkersConfig()
    share: Annotated[int, Field(ge=1, le=64)] = 1
    """Up to how many students learn in one process from one read: those whose batches are the same. Each is the student
    it would be alone."""
    share_gb: Annotated[float, Field(ge=0, le=10_000)] = 4
    """Up to how many GB of the teacher's logits over a batch these students hold, so that the first computes them for
    all; 0 for none."""
    stop_at_failure: bool = False
    """End at the first run that fails; otherwise the others go on."""

    @model_validator(mode="after")
    def _no_field_twice(self) -> "SweepConfig":
        reserved = {"output": "`output` of the sweep", "seed": "`seeds`"}
        for fields in (self.grid, *(variant.set for variant in self.runs or [])):
            for field in fields:
                if field in reserved:
                    raise ValueError(f"the {field} of a run is given by {reserved[field]}")
                if fields is not self.grid and field in self.grid:
                    raise ValueError(f"{field} stands in `grid` and in `runs`: give it in one of them")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError("a seed is given twice")
        return self
