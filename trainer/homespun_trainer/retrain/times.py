"""When training may start by the clock: schedules in cron syntax, windows of hours, both in one time zone. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from homespun_core.config import Settings
from homespun_core.errors import ConfigError

_LAST = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)")


class _Machine(tzinfo):
    """The machine's zone, with its rules: `astimezone()` gives the offset of one moment, which is an hour off for times
    beyond the next change of the clocks."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return moment.replace(tzinfo=None).astimezone().utcoffset() if moment is not None else None

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return moment.replace(tzinfo=None).astimezone().tzname() if moment is not None else None

    def fromutc(self, moment: datetime) -> datetime:
        exact = moment.replace(tzinfo=UTC).astimezone()
        local = exact.replace(tzinfo=self)
        return local if local.utcoffset() == exact.utcoffset() else local.replace(fold=1)


MACHINE = _Machine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds since 1970 in and out; clocks that are put forward or back are `zone`'s business."""

    zone: tzinfo = MACHINE
    schedule: str | None = None
    window: tuple[time, time] | None = None
    """From, to; over midnight when the first is the later one."""

    def next_tick(self, after: float) -> float | None:
        """The schedule's first time later than `after`; None without a schedule, or when it never comes again."""
        if self.schedule is None:
            return None
        ticks = (tick.timestamp() for tick in CronSim(self.schedule, self._local(after)))
        later = (tick for tick in ticks if tick > after)  # of an hour that comes twice, CronSim says the first
        return next(later, None)

    def opens(self, now: float) -> float:
        """When training may start: `now` within the window, else the next time that it begins."""
        if self.window is None or self._is_open(now):
            return now
        start, local = self.window[0], self._local(now)
        days = (local + timedelta(days=n) for n in range(3))
        starts = (datetime.combine(day.date(), start, self.zone).timestamp() for day in days)
        return next(at for at in starts if at > now)

    def in_words(self, at: float) -> str:
        """Settings can name a time after the last year that there is."""
        return f"{self._local(min(at, _LAST)):%Y-%m-%d %H:%M}"

    def _is_open(self, now: float) -> bool:
        assert self.window is not None
        start, end = self.window
        at = self._local(now).time()
        return start <= at < end if start <= end else at >= start or at < end

    def _local(self, at: float) -> datetime:
        return datetime.fromtimestamp(at, self.zone)


def times_of(settings: Settings) -> Times:
    """Raises ConfigError."""
    return Times(
        zone=_zone(settings.retrain_timezone),
        schedule=_schedule(settings.retrain_schedule),
        window=_window(settings.retrain_window),
    )


def _zone(name: str) -> tzinfo:
    if not name:
        return MACHINE
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # the last: there is no such zone
        raise ConfigError(f"retrain_timezone: {name!r} is no time zone; write it like Europe/Berlin") from error


def _schedule(text: str) -> str | None:
    if not text.strip():
        return None
    try:
        if (num_fields := len(text.split())) != 5:  # CronSim takes six, too, the first of them seconds
            raise CronSimError(f"{num_fields} fields instead of 5")
        CronSim(text, datetime.fromtimestamp(0, UTC))
    except CronSimError as error:
        raise ConfigError(
            f"retrain_schedule: {text!r} is no cron expression ({error});"
            " write minute, hour, day, month and weekday, like 0 2 * * 1-5"
        ) from error
    return text


def _window(text: str) -> tuple[time, time] | None:
    if not text.strip():
        return None
    match = _WINDOW.fullmatch(text.strip())
    if match is None or match.group(1, 2) == match.group(3, 4):
        raise ConfigError(f"retrain_window: {text!r} is no window of hours; write it like 22:00-06:00")
    hours = [int(part) for part in match.groups()]
    return time(hours[0], hours[1]), time(hours[2], hours[3])
