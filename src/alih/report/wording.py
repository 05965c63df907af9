"""The page in one language: its texts from a catalogue, its numbers, moments and names as that language writes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from decimal import Decimal
from importlib.resources import files
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel.dates import format_date, format_datetime
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.units import format_unit

from alih.errors import Refused
from alih.report.figures import Figure, Kind

SOURCE_LANGUAGE = "en"
_TIME = {"en": "HH:mm:ss", "id": "HH.mm.ss"}
LANGUAGES = tuple(_TIME)
_DAY = "d MMMM y"
_SHORT_DAY = "d MMM y"
_RUPIAH = "'Rp'#,##0;-'Rp'#,##0"


@dataclass(frozen=True, slots=True)
class Language:
    """A language and the time zone in which moments are told."""

    code: str
    zone: tzinfo
    _catalog: Catalog | None

    def text(self, english: str) -> str:
        """The text of this language. Raises KeyError for one that is not in the catalogue: a test finds it first."""
        if self._catalog is None:
            return english
        return str(_found(self._catalog, english))

    def plural(self, one: str, many: str, number: int) -> str:
        """The form for `number` things. Catalogues that we have are of languages with one form (nplurals=1)."""
        if self._catalog is None:
            return one if number == 1 else many
        return _found(self._catalog, one)[0]

    def show(self, figure: Figure) -> str:
        """A figure as it is read."""
        return _SHOWN[figure.kind](self, figure.value)

    def count(self, value: int | str) -> str:
        return str(format_decimal(value, locale=self.code))

    def rupiah(self, value: int | str) -> str:
        return str(format_decimal(value, format=_RUPIAH, locale=self.code))

    def duration(self, value: int | str) -> str:
        return str(format_unit(value, "duration-millisecond", length="short", locale=self.code)).replace(" ", "\u00a0")

    def score(self, value: int | str) -> str:
        return str(format_decimal(Decimal(value), format="0.00", locale=self.code))

    def day(self, value: int | str) -> str:
        return str(format_date(date.fromisoformat(str(value)), _SHORT_DAY, locale=self.code))

    def moment(self, value: int | str) -> str:
        """With the zone's own name, as in 24 November 2026, 08.02.03 WIB."""
        at = datetime.fromisoformat(str(value)).astimezone(self.zone)
        shown = format_datetime(at, f"{_DAY}, {_TIME[self.code]}", tzinfo=self.zone, locale=self.code)
        return f"{shown} {at.tzname()}"

    def brief(self, value: int | str) -> str:
        """A moment in a table: the zone is said above."""
        at = datetime.fromisoformat(str(value))
        pattern = f"{_SHORT_DAY}, {_TIME[self.code]}"
        return str(format_datetime(at, pattern, tzinfo=self.zone, locale=self.code))

    def tick(self, value: str, days: float) -> str:
        """A moment on an axis: the time of day alone where it is of a day."""
        pattern = _TIME[self.code] if days < 1 else _SHORT_DAY
        return str(format_datetime(datetime.fromisoformat(value), pattern, tzinfo=self.zone, locale=self.code))

    def date_of(self, value: str) -> str:
        """The day of a moment, in the zone."""
        return str(format_datetime(datetime.fromisoformat(value), _DAY, tzinfo=self.zone, locale=self.code))


_SHOWN: Mapping[Kind, Callable[[Language, int | str], str]] = MappingProxyType(
    {
        Kind.COUNT: Language.count,
        Kind.RUPIAH: Language.rupiah,
        Kind.DURATION: Language.duration,
        Kind.SCORE: Language.score,
        Kind.MOMENT: Language.moment,
        Kind.DAY: Language.day,
    }
)


def language(code: str, zone: str) -> Language:
    """Raises Refused for a language without a catalogue, and for a zone that this machine does not know."""
    if code not in LANGUAGES:
        raise Refused(f"there is no report in {code!r}", remedy=f"name one of {', '.join(LANGUAGES)}")
    try:
        known = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise Refused(
            f"the time zone {zone!r} of the evidence is not known here", remedy="install the system's tzdata"
        ) from None
    return Language(code, known, None if code == SOURCE_LANGUAGE else catalog(code))


def catalog(code: str) -> Catalog:
    """The committed catalogue of a language."""
    with files("alih.report").joinpath("locale", f"{code}.po").open("rb") as file:
        return read_po(file, locale=code)


def _found(texts: Catalog, english: str) -> str | tuple[str, ...] | list[str]:
    message = texts.get(english)
    if message is None or not message.string:
        raise KeyError(f"not translated: {english}")
    found: str | tuple[str, ...] | list[str] = message.string
    return found
