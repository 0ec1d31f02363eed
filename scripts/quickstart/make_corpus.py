"""Write a small German-English corpus of numbers, dates, times and prices.

Every sentence pair is made by the grammar in this file, so the corpus needs no
download and carries no licence but this project's.  It is small, yet a real
translation task.  Nothing can be copied but a few names, since all numbers are
words (``einundzwanzig`` is ``twenty-one``, ``halb drei`` is ``half past two``),
and the word order differs throughout: German puts the verb second in a main
clause and last in a subordinate one, splits it in two around the clause, and
moves the time or the object to the front where English keeps subject, verb,
object, clock time and day in this order.

Each German sentence has exactly one right English translation, which lets a
small model come close to 100 BLEU.  German word order is free in places, so two
German sentences may share a translation.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, NamedTuple, NoReturn

try:
    from num2words import num2words  # type: ignore[import-untyped]
except ImportError:
    sys.exit("make_corpus: num2words is missing; run: pip install num2words")

# The grammar makes far more sentences than this.  The bound keeps the corpus in
# memory and the search for one more unseen sentence short.
MAX_PAIRS = 1_000_000


class Pair(NamedTuple):
    """The same words in both languages."""

    de: str
    en: str


class Noun(NamedTuple):
    """A countable thing; ``gender`` is m, f or n."""

    gender: str
    one: Pair
    many: Pair


class Verb(NamedTuple):
    """A verb with an object: infinitives, then participle and past tense."""

    infinitive: Pair
    past: Pair


class Modal(NamedTuple):
    """A modal verb for one person and for several."""

    one: Pair
    many: Pair


class Journey(NamedTuple):
    """A separable verb of travel with the preposition of its town."""

    verb: Pair
    prefix: str
    preposition: Pair


@dataclass(frozen=True)
class Person:
    """Someone who acts; ``pronoun`` refers back to them."""

    name: Pair
    pronoun: Pair
    plural: bool = False

    def agree(self, one: str, many: str) -> str:
        """Choose the verb form that goes with this person."""
        return many if self.plural else one


HE, SHE, THEY = Pair("er", "he"), Pair("sie", "she"), Pair("sie", "they")

PEOPLE = (
    Person(Pair("Anna", "Anna"), SHE),
    Person(Pair("Peter", "Peter"), HE),
    Person(Pair("meine Schwester", "my sister"), SHE),
    Person(Pair("mein Bruder", "my brother"), HE),
    Person(Pair("die Ärztin", "the doctor"), SHE),
    Person(Pair("der Lehrer", "the teacher"), HE),
    Person(Pair("der alte Mann", "the old man"), HE),
    Person(Pair("die junge Frau", "the young woman"), SHE),
    # "sie" is "she" or "they": only the verb tells, and it may come last.
    Person(Pair("die Kinder", "the children"), THEY, plural=True),
    Person(Pair("meine Eltern", "my parents"), THEY, plural=True),
)

NOUNS = (
    Noun("m", Pair("Apfel", "apple"), Pair("Äpfel", "apples")),
    Noun("m", Pair("Hut", "hat"), Pair("Hüte", "hats")),
    Noun("m", Pair("Schlüssel", "key"), Pair("Schlüssel", "keys")),
    Noun("m", Pair("Stuhl", "chair"), Pair("Stühle", "chairs")),
    Noun("m", Pair("Tisch", "table"), Pair("Tische", "tables")),
    Noun("f", Pair("Blume", "flower"), Pair("Blumen", "flowers")),
    Noun("f", Pair("Flasche", "bottle"), Pair("Flaschen", "bottles")),
    Noun("f", Pair("Lampe", "lamp"), Pair("Lampen", "lamps")),
    Noun("f", Pair("Tasse", "cup"), Pair("Tassen", "cups")),
    Noun("n", Pair("Bild", "picture"), Pair("Bilder", "pictures")),
    Noun("n", Pair("Buch", "book"), Pair("Bücher", "books")),
    Noun("n", Pair("Messer", "knife"), Pair("Messer", "knives")),
)

ADJECTIVES = (
    Pair("alt", "old"),
    Pair("blau", "blue"),
    Pair("groß", "big"),
    Pair("grün", "green"),
    Pair("klein", "small"),
    Pair("neu", "new"),
    Pair("rot", "red"),
    Pair("schön", "beautiful"),
)

VERBS = (
    Verb(Pair("abholen", "pick up"), Pair("abgeholt", "picked up")),
    Verb(Pair("bestellen", "order"), Pair("bestellt", "ordered")),
    Verb(Pair("finden", "find"), Pair("gefunden", "found")),
    Verb(Pair("kaufen", "buy"), Pair("gekauft", "bought")),
    Verb(Pair("mitbringen", "bring"), Pair("mitgebracht", "brought")),
    Verb(Pair("suchen", "look for"), Pair("gesucht", "looked for")),
    Verb(Pair("verkaufen", "sell"), Pair("verkauft", "sold")),
    Verb(Pair("zählen", "count"), Pair("gezählt", "counted")),
)

MODALS = (
    Modal(Pair("kann", "can"), Pair("können", "can")),
    Modal(Pair("muss", "must"), Pair("müssen", "must")),
    Modal(Pair("soll", "should"), Pair("sollen", "should")),
    Modal(Pair("will", "wants to"), Pair("wollen", "want to")),
)

MOODS = (
    Pair("froh", "happy"),
    Pair("müde", "tired"),
    Pair("stolz", "proud"),
    Pair("traurig", "sad"),
)

REPORTS = (
    Pair("alle wissen, dass", "everyone knows that"),
    Pair("ich glaube, dass", "I believe that"),
    Pair("niemand weiß, ob", "nobody knows whether"),
    Pair("wir fragen, ob", "we are asking whether"),
)

VEHICLES = (
    Pair("der Bus", "the bus"),
    Pair("das Schiff", "the ship"),
    Pair("der Zug", "the train"),
)

TOWNS = (
    Pair("Hamburg", "Hamburg"),
    Pair("Köln", "Cologne"),
    Pair("München", "Munich"),
    Pair("Wien", "Vienna"),
)

JOURNEYS = (
    Journey(Pair("fährt", "leaves"), "ab", Pair("nach", "for")),
    Journey(Pair("kommt", "arrives"), "an", Pair("aus", "from")),
)

WEEKDAYS = (
    Pair("Montag", "Monday"),
    Pair("Dienstag", "Tuesday"),
    Pair("Mittwoch", "Wednesday"),
    Pair("Donnerstag", "Thursday"),
    Pair("Freitag", "Friday"),
    Pair("Samstag", "Saturday"),
    Pair("Sonntag", "Sunday"),
)

# With 28 days in February no date here is wrong in any year.
MONTHS = (
    (Pair("Januar", "January"), 31),
    (Pair("Februar", "February"), 28),
    (Pair("März", "March"), 31),
    (Pair("April", "April"), 30),
    (Pair("Mai", "May"), 31),
    (Pair("Juni", "June"), 30),
    (Pair("Juli", "July"), 31),
    (Pair("August", "August"), 31),
    (Pair("September", "September"), 30),
    (Pair("Oktober", "October"), 31),
    (Pair("November", "November"), 30),
    (Pair("Dezember", "December"), 31),
)

# Minutes in words.  German counts from "half" to the hour that follows, so the
# last field says how far the German hour is ahead of the English one.
MINUTES = (
    (Pair("fünf nach", "five past"), 0),
    (Pair("zehn nach", "ten past"), 0),
    (Pair("Viertel nach", "a quarter past"), 0),
    (Pair("zwanzig nach", "twenty past"), 0),
    (Pair("fünf vor halb", "twenty-five past"), 1),
    (Pair("halb", "half past"), 1),
    (Pair("fünf nach halb", "twenty-five to"), 0),
    (Pair("zwanzig vor", "twenty to"), 0),
    (Pair("Viertel vor", "a quarter to"), 0),
    (Pair("zehn vor", "ten to"), 0),
    (Pair("fünf vor", "five to"), 0),
)


@functools.cache
def number(value: int, form: str = "cardinal") -> Pair:
    """Spell a number; ``form`` is cardinal, ordinal or year."""
    return Pair(num2words(value, lang="de", to=form), num2words(value, lang="en", to=form))


def sentence(de: str, en: str) -> Pair:
    """Capitalise the first letters and close with a full stop."""
    return Pair(f"{de[0].upper()}{de[1:]}.", f"{en[0].upper()}{en[1:]}.")


def one_thing(adjective: Pair, noun: Noun, accusative: bool) -> Pair:
    """Say ``a red apple``; the German endings follow gender and case."""
    masculine = ("einen", "en") if accusative else ("ein", "er")
    endings = {"m": masculine, "f": ("eine", "e"), "n": ("ein", "es")}
    article, ending = endings[noun.gender]
    english_article = "an" if adjective.en[0] in "aeiou" else "a"
    return Pair(
        f"{article} {adjective.de}{ending} {noun.one.de}",
        f"{english_article} {adjective.en} {noun.one.en}",
    )


def things(rng: random.Random, count: int, accusative: bool = True) -> Pair:
    """Say ``a red apple`` or ``twenty-one red apples``."""
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    if count == 1:
        return one_thing(adjective, noun, accusative)
    many = number(count)
    return Pair(
        f"{many.de} {adjective.de}e {noun.many.de}",
        f"{many.en} {adjective.en} {noun.many.en}",
    )


def some_things(rng: random.Random) -> Pair:
    """Say how many of what; one of every six times it is a single thing."""
    return things(rng, 1 if rng.randrange(6) == 0 else rng.randint(2, 99))


def price(rng: random.Random) -> Pair:
    """Say ``drei Euro zwanzig``: German leaves out ``and`` and ``cents``."""
    euros, cents = rng.randint(1, 99), rng.choice((0, rng.randint(2, 99)))
    # Before a noun, German says "ein" for "eins".
    de = "ein Euro" if euros == 1 else f"{number(euros).de} Euro"
    en = f"{number(euros).en} {'euro' if euros == 1 else 'euros'}"
    if cents:
        de = f"{de} {number(cents).de}"
        en = f"{en} and {number(cents).en} cents"
    return Pair(de, en)


def date(rng: random.Random) -> Pair:
    """Say ``dritten Mai``, to follow ``am`` or ``dem``."""
    month, days = rng.choice(MONTHS)
    day = number(rng.randint(1, days), "ordinal")
    return Pair(f"{day.de}n {month.de}", f"the {day.en} of {month.en}")


def day(rng: random.Random) -> Pair:
    """Say a weekday, a date or both; German closes the latter with a comma."""
    weekday, calendar = rng.choice(WEEKDAYS), date(rng)
    return rng.choice(
        (
            Pair(f"am {weekday.de}", f"on {weekday.en}"),
            Pair(f"am {calendar.de}", f"on {calendar.en}"),
            Pair(
                f"am {weekday.de}, dem {calendar.de},",
                f"on {weekday.en}, {calendar.en}",
            ),
        )
    )


def clock(rng: random.Random) -> Pair:
    """Say a time of day to five minutes, as in ``um halb drei``."""
    hour, step = rng.randint(1, 12), rng.randint(0, len(MINUTES))
    if step == len(MINUTES):
        full = "ein" if hour == 1 else number(hour).de
        return Pair(f"um {full} Uhr", f"at {number(hour).en} o'clock")
    minutes, ahead = MINUTES[step]
    # "Fünf nach halb drei" is "twenty-five to three": the same hour again.
    german_hour = hour % 12 + 1 if ahead else hour
    return Pair(
        f"um {minutes.de} {number(german_hour).de}",
        f"at {minutes.en} {number(hour).en}",
    )


def when(rng: random.Random) -> Pair:
    """Say a day, a time or both; German begins with the day, English ends so."""
    the_day, the_time = day(rng), clock(rng)
    both = Pair(f"{the_day.de} {the_time.de}", f"{the_time.en} {the_day.en}")
    return rng.choice((the_day, the_time, both))


def main_clause(rng: random.Random, subject: str, verb: str, time: str, rest: str) -> str:
    """Order a German main clause: the verb is second, subject or time first."""
    if rng.randrange(2):
        return f"{subject} {verb} {time} {rest}"
    return f"{time} {verb} {subject} {rest}"


def deed(rng: random.Random, person: Person) -> tuple[str, Pair]:
    """Say what someone did or is to do with a thing.

    Return the German finite verb, which moves about, and the non-finite rest;
    the English verb is whole.
    """
    verb = rng.choice(VERBS)
    if rng.randrange(2):
        return person.agree("hat", "haben"), verb.past
    modal = rng.choice(MODALS)
    form = modal.many if person.plural else modal.one
    return form.de, Pair(verb.infinitive.de, f"{form.en} {verb.infinitive.en}")


def plain(rng: random.Random) -> Pair:
    """Am Montag hat Anna drei rote Hüte gekauft."""
    person, time, goods = rng.choice(PEOPLE), when(rng), some_things(rng)
    finite, verb = deed(rng, person)
    return sentence(
        main_clause(rng, person.name.de, finite, time.de, f"{goods.de} {verb.de}"),
        f"{person.name.en} {verb.en} {goods.en} {time.en}",
    )


def reported(rng: random.Random) -> Pair:
    """Niemand weiß, ob Anna am Montag drei rote Hüte gekauft hat."""
    report, person = rng.choice(REPORTS), rng.choice(PEOPLE)
    time, goods = when(rng), some_things(rng)
    finite, verb = deed(rng, person)
    return sentence(
        f"{report.de} {person.name.de} {time.de} {goods.de} {verb.de} {finite}",
        f"{report.en} {person.name.en} {verb.en} {goods.en} {time.en}",
    )


def reason(rng: random.Random) -> Pair:
    """Peter ist froh, weil er um halb drei einen roten Hut gekauft hat."""
    person, mood = rng.choice(PEOPLE), rng.choice(MOODS)
    time, goods = when(rng), some_things(rng)
    finite, verb = deed(rng, person)
    name, pronoun = person.name, person.pronoun
    is_de, is_en = person.agree("ist", "sind"), person.agree("is", "are")
    if rng.randrange(2):
        return sentence(
            f"{name.de} {is_de} {mood.de}, weil {pronoun.de} {time.de} {goods.de} "
            f"{verb.de} {finite}",
            f"{name.en} {is_en} {mood.en} because {pronoun.en} {verb.en} {goods.en} {time.en}",
        )
    return sentence(
        f"weil {name.de} {time.de} {goods.de} {verb.de} {finite}, {is_de} {pronoun.de} {mood.de}",
        f"because {name.en} {verb.en} {goods.en} {time.en}, {pronoun.en} {is_en} {mood.en}",
    )


def cost(rng: random.Random) -> Pair:
    """Ein roter Hut kostet drei Euro zwanzig."""
    count = rng.choice((1, rng.randint(2, 99)))
    goods, amount = things(rng, count, accusative=False), price(rng)
    costs = Pair("kostet", "costs") if count == 1 else Pair("kosten", "cost")
    return sentence(f"{goods.de} {costs.de} {amount.de}", f"{goods.en} {costs.en} {amount.en}")


def payment(rng: random.Random) -> Pair:
    """Für drei rote Hüte hat Anna zwanzig Euro bezahlt."""
    person, goods, amount = rng.choice(PEOPLE), some_things(rng), price(rng)
    has = person.agree("hat", "haben")
    return sentence(
        f"für {goods.de} {has} {person.name.de} {amount.de} bezahlt",
        f"{person.name.en} paid {amount.en} for {goods.en}",
    )


def journey(rng: random.Random) -> Pair:
    """Am Montag fährt der Zug nach Wien um halb drei ab."""
    vehicle, town, travel = (
        rng.choice(VEHICLES),
        rng.choice(TOWNS),
        rng.choice(JOURNEYS),
    )
    the_day, the_time = day(rng), clock(rng)
    verb, preposition = travel.verb, travel.preposition
    subject = f"{vehicle.de} {preposition.de} {town.de}"
    return sentence(
        main_clause(rng, subject, verb.de, the_day.de, f"{the_time.de} {travel.prefix}"),
        f"{vehicle.en} {preposition.en} {town.en} {verb.en} {the_time.en} {the_day.en}",
    )


def birth(rng: random.Random) -> Pair:
    """Peter wurde am dritten Mai neunzehnhundertvierundachtzig geboren."""
    person, calendar = rng.choice(PEOPLE), date(rng)
    year = number(rng.randint(1910, 1999), "year")
    was = Pair(person.agree("wurde", "wurden"), person.agree("was", "were"))
    time = f"am {calendar.de} {year.de}"
    return sentence(
        main_clause(rng, person.name.de, was.de, time, "geboren"),
        f"{person.name.en} {was.en} born on {calendar.en}, {year.en}",
    )


def ticket(rng: random.Random) -> Pair:
    """Die Nummer dreihundertzwölf hat Anna am Montag gezogen."""
    person, the_day = rng.choice(PEOPLE), day(rng)
    drawn = number(rng.randint(100, 999))
    has = person.agree("hat", "haben")
    return sentence(
        f"die Nummer {drawn.de} {has} {person.name.de} {the_day.de} gezogen",
        f"{person.name.en} drew number {drawn.en} {the_day.en}",
    )


SENTENCES: tuple[Callable[[random.Random], Pair], ...] = (
    plain,
    reported,
    reason,
    cost,
    payment,
    journey,
    birth,
    ticket,
)


def make_pairs(count: int, seed: int) -> list[Pair]:
    """Make sentence pairs in random order, no two with the same source."""
    rng = random.Random(seed)
    english: dict[str, str] = {}
    while len(english) < count:
        pair = rng.choice(SENTENCES)(rng)
        if english.setdefault(pair.de, pair.en) != pair.en:
            raise AssertionError(f"two translations of: {pair.de}")
    return [Pair(de, en) for de, en in english.items()]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a file under another name first, so that none is ever half there."""
    unfinished = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(f"{line}\n" for line in lines)
        unfinished.replace(path)
    finally:
        if unfinished.exists():
            unfinished.unlink()


def write_corpus(folder: Path, sizes: dict[str, int], seed: int) -> None:
    """Write both sides of every split; sources differ, so splits are disjoint."""
    pairs = iter(make_pairs(sum(sizes.values()), seed))
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        chosen = [next(pairs) for _ in range(size)]
        write_lines(folder / f"{split}.de", (pair.de for pair in chosen))
        write_lines(folder / f"{split}.en", (pair.en for pair in chosen))


class OneLineParser(argparse.ArgumentParser):
    """A parser that reports bad input in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and exit."""
        self.exit(2, f"make_corpus: {message}\n")


def positive(text: str) -> int:
    """Read a number of sentence pairs from the command line."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"not a whole number above 0: {text!r}")
    return value


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = OneLineParser(
        description="Write a made-up German-English corpus of number words, dates, "
        "times and prices: train, valid and test, each as .de and .en with one "
        "sentence a line.",
        epilog="The same sizes and seed give the same files. No German sentence "
        "occurs twice, within a split or across splits.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    # SUPPRESS keeps the help from claiming "(default: None)".
    parser.add_argument(
        "output_dir",
        type=Path,
        metavar="OUTPUT_DIR",
        default=argparse.SUPPRESS,
        help="folder to write to, made if missing",
    )
    for split, size in (("pairs", 20_000), ("valid", 500), ("test", 500)):
        name = "training" if split == "pairs" else split
        parser.add_argument(
            f"--{split}",
            type=positive,
            default=size,
            metavar="N",
            help=f"sentence pairs in the {name} split",
        )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="choose another corpus")
    arguments = parser.parse_args()
    total = arguments.pairs + arguments.valid + arguments.test
    if total > MAX_PAIRS:
        parser.error(f"{total} pairs asked for, at most {MAX_PAIRS} can be made")
    return arguments


def main() -> int:
    """Run the program and return its exit status."""
    arguments = parse_arguments()
    sizes = {
        "train": arguments.pairs,
        "valid": arguments.valid,
        "test": arguments.test,
    }
    try:
        write_corpus(arguments.output_dir, sizes, arguments.seed)
    except OSError as error:
        print(f"make_corpus: cannot write the corpus: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
