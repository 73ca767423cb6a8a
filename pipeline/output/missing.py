"""What of a request is not in its cache yet: shards of units, by section, and codecs that are to be calibrated."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pipeline.corpus.plan import Unit
from pipeline.output.codecs import needs_calibration
from pipeline.output.disk import codec_bytes, teacher_bytes
from pipeline.output.forecast import Forecast
from pipeline.output.resume import look_at_output
from pipeline.request.extension import require_extension
from pipeline.request.request import Request, make_request
from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import TEACHER, VERSION, read_manifest
from schemas.cache.sections import Section, list_sections
from schemas.cache.seen_shard import Seen
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError, CorpusError


@dataclass(frozen=True)
class Missing:
    """What is still to be made of `request` at `cache`, where the shards in `seen` are."""

    request: Request
    cache: Path
    seen: Seen

    @property
    def sections(self) -> list[Section]:
        """Those that lack a shard, or codecs."""
        return [
            section
            for section in self._all_sections
            if self.units_of(section) or needs_calibration(section.folder, section.manifest)
        ]

    @property
    def arrays(self) -> list[ArrayRecord]:
        """Those of `sections`."""
        return [array for section in self.sections for array in section.manifest.arrays]

    @property
    def units(self) -> list[Unit]:
        """Those that lack a shard in some section."""
        return [u for u in self.request.plan.units if any(u.number not in self._seen(s) for s in self._all_sections)]

    def units_of(self, section: Section, units: Iterable[Unit] | None = None) -> list[Unit]:
        """Those of `units`, or of all, that lack a shard in one section."""
        seen = self._seen(section)
        return [unit for unit in (self.request.plan.units if units is None else units) if unit.number not in seen]

    def predict_bytes(self, units: Iterable[Unit] | None = None) -> int:
        """About how many bytes the missing shards of `units`, or of all, will take on disk."""
        wanted = None if units is None else list(units)
        return sum(self.forecast.bytes(section, self.units_of(section, wanted)) for section in self._all_sections)

    @cached_property
    def forecast(self) -> Forecast:
        """What the shards that are there let expect."""
        return Forecast(self.request, self._all_sections, self.seen)

    def as_request(self) -> Request:
        """A request for what is missing alone, as if its arrays were those of a new cache."""
        paths, request = {array.path for array in self.arrays}, self.request
        arrays = [array for array in request.manifest.arrays if array.path in paths]
        manifest = request.manifest.of_arrays(arrays).model_copy(update={"parts": [], "version": VERSION})
        return replace(request, manifest=manifest, plan=request.plan.of_units(self.units))

    def bytes_beside(self) -> int:
        """About the bytes of teacher/ and codecs/ that are still to be written."""
        teacher = 0 if (self.cache / TEACHER).is_dir() else teacher_bytes(self.request.manifest.teacher)
        return teacher + sum(codec_bytes(section.manifest) for section in self._uncalibrated())

    @property
    def needs_calibration(self) -> bool:
        """Whether codecs are still to be calibrated."""
        return bool(self._uncalibrated())

    @property
    def is_prepared(self) -> bool:
        """Whether what is made once, before the first shard, is there."""
        return (self.cache / TEACHER).is_dir() and not self.needs_calibration

    @cached_property
    def _all_sections(self) -> list[Section]:
        return list_sections(self.cache, self.request.manifest)

    def _uncalibrated(self) -> list[Section]:
        return [s for s in self._all_sections if needs_calibration(s.folder, s.manifest)]

    def _seen(self, section: Section) -> Container[int]:
        return self.seen.get(section.number, {})


def request_at_output(config: ExtractionConfig, cache: Path) -> tuple[Request, Missing | str | None]:
    """The request that a cache at `config.output` is to be gone on with or extended by, and what of it is missing.
    `cache` is the folder in which it is looked at, as `seen_from_outside` gives it.

    Where there is no cache, a new one and None; where the cache there is of another request, a new one, and why it
    cannot be gone on with. Changes nothing. Raises what `make_request` does.
    """
    try:
        before = read_manifest(cache)
    except CacheError:
        return make_request(config), None
    try:
        request = make_request(config, before)
        require_extension(before, request.manifest, request.plan, grows=True)
        return request, Missing(request, cache, look_at_output(cache, request.manifest))
    except (CacheError, CorpusError) as refusal:
        return make_request(config), str(refusal)
