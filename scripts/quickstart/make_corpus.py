"""Write a small German-English corpus of numbers, dates, times and prices.

Every sentence pair is made by the grammar in this file, so the corpus needs no download and has the
licence of this project. The corpus is small, yet a real translation task. A model can copy only a
few names, since all numbers are words (``einundzwanzig`` is ``twenty-one``, ``halb drei`` is ``half
past two``), and the word order differs throughout: German puts the verb second in a main clause and
last in a subordinate one, splits the verb in two around the clause, and moves the time or the
object to the front, where English keeps subject, verb, object, clock time and day in this order.

Each German sentence has exactly one right English translation, which lets a small model come close
to 100 BLEU. German word order is free in places, so two German sentences may share a translation.
"""

from __future__ import annotations

import argparse
import functools
import random
from itertools import islice
from typing import NamedTuple

from admin_fairseq.bounds import counting
from admin_fairseq.errors import exit_in_one_line
from admin_fairseq.files import write_all

try:
    from num2words import num2words
except ImportError:
    raise SystemExit("make_corpus: num2words is missing; run: pip install num2words") from None

MOST = 1_000_000
"""The most pairs of one split: these fit in memory, and the grammar can make far more sentences, so
that drawing at random finds unseen ones quickly."""


class Pair(NamedTuple):
    """A word, phrase or sentence in German and in English."""

    de: str
    en: str


class Noun(NamedTuple):
    """A noun in the singular and the plural; ``gender`` is the German noun's: m, f or n."""

    gender: str
    one: Pair
    many: Pair


class Verb(NamedTuple):
    """A transitive verb: its infinitive, and its past tense (in German, the past participle)."""

    infinitive: Pair
    past: Pair


class Modal(NamedTuple):
    """A modal verb in the third person: the singular form and the plural form."""

    one: Pair
    many: Pair


class Journey(NamedTuple):
    """A German separable verb of travel (``fährt … ab``, "leaves"), and the preposition that comes
    before the town (``nach``, "for")."""

    verb: Pair
    prefix: str
    preposition: Pair


class Person(NamedTuple):
    """A person as the subject of a sentence, and the pronoun that stands for the name later on."""

    name: Pair
    pronoun: Pair
    plural: bool = False

    def agree(self, one: str, many: str) -> str:
        """Return ``many``, a plural verb form, if this person is plural, or else ``one``."""
        return many if self.plural else one


def words(text: str) -> list[Pair]:
    """Parse a dictionary such as ``"alt = old; neu = new"`` into pairs."""
    return [Pair(*entry.split(" = ")) for entry in " ".join(text.split()).split("; ")]


def forms(text: str) -> list[tuple[Pair, Pair]]:
    """Parse a dictionary in which the two forms of a word follow one another, such as singular and
    plural, into (first form, second form)."""
    entries = iter(words(text))
    return list(zip(entries, entries))


HE, SHE, THEY = words("er = he; sie = she; sie = they")
PEOPLE = [
    Person(Pair("Anna", "Anna"), SHE),
    Person(Pair("Peter", "Peter"), HE),
    Person(Pair("meine Schwester", "my sister"), SHE),
    Person(Pair("mein Bruder", "my brother"), HE),
    Person(Pair("die Ärztin", "the doctor"), SHE),
    Person(Pair("der Lehrer", "the teacher"), HE),
    Person(Pair("der alte Mann", "the old man"), HE),
    Person(Pair("die junge Frau", "the young woman"), SHE),
    # "sie" is "she" or "they": only the verb tells, and it may come last
    Person(Pair("die Kinder", "the children"), THEY, plural=True),
    Person(Pair("meine Eltern", "my parents"), THEY, plural=True),
]
NOUNS_OF = {
    "m": """
        Apfel = apple; Äpfel = apples; Hut = hat; Hüte = hats; Schlüssel = key; Schlüssel = keys;
        Stuhl = chair; Stühle = chairs; Tisch = table; Tische = tables
    """,
    "f": """
        Blume = flower; Blumen = flowers; Flasche = bottle; Flaschen = bottles;
        Lampe = lamp; Lampen = lamps; Tasse = cup; Tassen = cups
    """,
    "n": """
        Bild = picture; Bilder = pictures; Buch = book; Bücher = books;
        Messer = knife; Messer = knives
    """,
}
NOUNS = [Noun(gender, *both) for gender, text in NOUNS_OF.items() for both in forms(text)]
ADJECTIVES = words(
    "alt = old; blau = blue; groß = big; grün = green; klein = small; neu = new; rot = red; "
    "schön = beautiful"
)
VERBS = [
    Verb(*both)
    for both in forms("""
        abholen = pick up; abgeholt = picked up; bestellen = order; bestellt = ordered;
        finden = find; gefunden = found; kaufen = buy; gekauft = bought;
        mitbringen = bring; mitgebracht = brought; suchen = look for; gesucht = looked for;
        verkaufen = sell; verkauft = sold; zählen = count; gezählt = counted
    """)
]
MODALS = [
    Modal(*both)
    for both in forms("""
        kann = can; können = can; muss = must; müssen = must; soll = should; sollen = should;
        will = wants to; wollen = want to
    """)
]
MOODS = words("froh = happy; müde = tired; stolz = proud; traurig = sad")
REPORTS = words("""
    alle wissen, dass = everyone knows that; ich glaube, dass = I believe that;
    niemand weiß, ob = nobody knows whether; wir fragen, ob = we are asking whether
""")
VEHICLES = words("der Bus = the bus; das Schiff = the ship; der Zug = the train")
TOWNS = words("Hamburg = Hamburg; Köln = Cologne; München = Munich; Wien = Vienna")
JOURNEYS = [
    Journey(Pair("fährt", "leaves"), "ab", Pair("nach", "for")),
    Journey(Pair("kommt", "arrives"), "an", Pair("aus", "from")),
]
WEEKDAYS = words("""
    Montag = Monday; Dienstag = Tuesday; Mittwoch = Wednesday; Donnerstag = Thursday;
    Freitag = Friday; Samstag = Saturday; Sonntag = Sunday
""")
MONTHS = words("""
    Januar = January; Februar = February; März = March; April = April; Mai = May; Juni = June;
    Juli = July; August = August; September = September; Oktober = October;
    November = November; Dezember = December
""")
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
"""The days of each month; February has 28, so that every date exists in every year."""
MINUTES = words("""
    fünf nach = five past; zehn nach = ten past; Viertel nach = a quarter past;
    zwanzig nach = twenty past; fünf vor halb = twenty-five past; halb = half past;
    fünf nach halb = twenty-five to; zwanzig vor = twenty to; Viertel vor = a quarter to;
    zehn vor = ten to; fünf vor = five to
""")
HALF_AHEAD = ("fünf vor halb", "halb")
"""Times that German names after the hour to come: ``halb drei`` is half past two."""


@functools.cache
def number(value: int, form: str = "cardinal") -> Pair:
    """Spell a number in words; ``form`` is cardinal, ordinal or year."""
    return Pair(num2words(value, lang="de", to=form), num2words(value, lang="en", to=form))


def sentence(de: str, en: str) -> Pair:
    """Capitalise the first letters and close with a full stop."""
    return Pair(f"{de[0].upper()}{de[1:]}.", f"{en[0].upper()}{en[1:]}.")


def one_thing(adjective: Pair, noun: Noun, accusative: bool) -> Pair:
    """Return a phrase such as ``a red apple``; the German endings depend on gender and case."""
    masculine = ("einen", "en") if accusative else ("ein", "er")
    endings = {"m": masculine, "f": ("eine", "e"), "n": ("ein", "es")}
    article, ending = endings[noun.gender]
    english_article = "an" if adjective.en[0] in "aeiou" else "a"
    return Pair(
        f"{article} {adjective.de}{ending} {noun.one.de}",
        f"{english_article} {adjective.en} {noun.one.en}",
    )


def things(rng: random.Random, count: int, accusative: bool = True) -> Pair:
    """Return a phrase of ``count`` random things: ``a red apple``, or ``twenty-one red apples``."""
    adjective, noun = rng.choice(ADJECTIVES), rng.choice(NOUNS)
    if count == 1:
        return one_thing(adjective, noun, accusative)
    many = number(count)
    de, en = f"{adjective.de}e {noun.many.de}", f"{adjective.en} {noun.many.en}"
    return Pair(f"{many.de} {de}", f"{many.en} {en}")


def some_things(rng: random.Random) -> Pair:
    """Return a phrase of some number of things; with probability 1/6 it is a single thing."""
    return things(rng, 1 if rng.randrange(6) == 0 else rng.randint(2, 99))


def price(rng: random.Random) -> Pair:
    """Return a random price, ``drei Euro zwanzig``: German leaves out "and" and "cents"."""
    euros, cents = rng.randint(1, 99), rng.choice((0, rng.randint(2, 99)))
    # before a noun, German says "ein" for "eins"
    de = "ein Euro" if euros == 1 else f"{number(euros).de} Euro"
    en = f"{number(euros).en} {'euro' if euros == 1 else 'euros'}"
    if cents:
        de = f"{de} {number(cents).de}"
        en = f"{en} and {number(cents).en} cents"
    return Pair(de, en)


def date(rng: random.Random) -> Pair:
    """Return a random date, ``dritten Mai``, in the case that ``am`` and ``dem`` need."""
    month, days = rng.choice(list(zip(MONTHS, DAYS)))
    day = number(rng.randint(1, days), "ordinal")
    return Pair(f"{day.de}n {month.de}", f"the {day.en} of {month.en}")


def day(rng: random.Random) -> Pair:
    """Return a weekday, a date or both; German has a comma after both."""
    weekday, calendar = rng.choice(WEEKDAYS), date(rng)
    both = Pair(f"{weekday.de}, dem {calendar.de},", f"{weekday.en}, {calendar.en}")
    said = rng.choice((weekday, calendar, both))
    return Pair(f"am {said.de}", f"on {said.en}")


def clock(rng: random.Random) -> Pair:
    """Return a random time of day in steps of five minutes, such as ``um halb drei``."""
    hour, step = rng.randint(1, 12), rng.randint(0, len(MINUTES))
    if step == len(MINUTES):
        full = "ein" if hour == 1 else number(hour).de
        return Pair(f"um {full} Uhr", f"at {number(hour).en} o'clock")
    minutes = MINUTES[step]
    german_hour = hour % 12 + 1 if minutes.de in HALF_AHEAD else hour
    return Pair(f"um {minutes.de} {number(german_hour).de}", f"at {minutes.en} {number(hour).en}")


def when(rng: random.Random) -> Pair:
    """Return a day, a time or both; German has the day first, English has it last."""
    the_day, the_time = day(rng), clock(rng)
    both = Pair(f"{the_day.de} {the_time.de}", f"{the_time.en} {the_day.en}")
    return rng.choice((the_day, the_time, both))


def main_clause(rng: random.Random, subject: str, verb: str, time: str, rest: str) -> str:
    """Order a German main clause: the verb is second, after the subject or, at random, the time."""
    if rng.randrange(2):
        return f"{subject} {verb} {time} {rest}"
    return f"{time} {verb} {subject} {rest}"


def deed(rng: random.Random, person: Person) -> tuple[str, Pair]:
    """Choose a verb in the past tense, or with a modal verb, for ``person``.

    Returns the German finite verb (``hat``), which stands apart, and the rest: (``gekauft``,
    "bought").
    """
    verb = rng.choice(VERBS)
    if rng.randrange(2):
        return person.agree("hat", "haben"), verb.past
    modal = rng.choice(MODALS)
    form = modal.many if person.plural else modal.one
    return form.de, Pair(verb.infinitive.de, f"{form.en} {verb.infinitive.en}")


def plain(rng: random.Random) -> Pair:
    """Make a sentence such as: Am Montag hat Anna drei rote Hüte gekauft."""
    person, time, goods = rng.choice(PEOPLE), when(rng), some_things(rng)
    finite, verb = deed(rng, person)
    return sentence(
        main_clause(rng, person.name.de, finite, time.de, f"{goods.de} {verb.de}"),
        f"{person.name.en} {verb.en} {goods.en} {time.en}",
    )


def reported(rng: random.Random) -> Pair:
    """Make a sentence such as: Niemand weiß, ob Anna am Montag drei rote Hüte gekauft hat."""
    report, person = rng.choice(REPORTS), rng.choice(PEOPLE)
    time, goods = when(rng), some_things(rng)
    finite, verb = deed(rng, person)
    return sentence(
        f"{report.de} {person.name.de} {time.de} {goods.de} {verb.de} {finite}",
        f"{report.en} {person.name.en} {verb.en} {goods.en} {time.en}",
    )


def reason(rng: random.Random) -> Pair:
    """Make a sentence such as: Peter ist froh, weil er um halb drei einen roten Hut gekauft hat."""
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
    """Make a sentence such as: Ein roter Hut kostet drei Euro zwanzig."""
    count = rng.choice((1, rng.randint(2, 99)))
    goods, amount = things(rng, count, accusative=False), price(rng)
    costs = Pair("kostet", "costs") if count == 1 else Pair("kosten", "cost")
    return sentence(f"{goods.de} {costs.de} {amount.de}", f"{goods.en} {costs.en} {amount.en}")


def payment(rng: random.Random) -> Pair:
    """Make a sentence such as: Für drei rote Hüte hat Anna zwanzig Euro bezahlt."""
    person, goods, amount = rng.choice(PEOPLE), some_things(rng), price(rng)
    has = person.agree("hat", "haben")
    return sentence(
        f"für {goods.de} {has} {person.name.de} {amount.de} bezahlt",
        f"{person.name.en} paid {amount.en} for {goods.en}",
    )


def journey(rng: random.Random) -> Pair:
    """Make a sentence such as: Am Montag fährt der Zug nach Wien um halb drei ab."""
    vehicle, town = rng.choice(VEHICLES), rng.choice(TOWNS)
    travel = rng.choice(JOURNEYS)
    the_day, the_time = day(rng), clock(rng)
    verb, preposition = travel.verb, travel.preposition
    subject = f"{vehicle.de} {preposition.de} {town.de}"
    return sentence(
        main_clause(rng, subject, verb.de, the_day.de, f"{the_time.de} {travel.prefix}"),
        f"{vehicle.en} {preposition.en} {town.en} {verb.en} {the_time.en} {the_day.en}",
    )


def birth(rng: random.Random) -> Pair:
    """Make a sentence such as: Peter wurde am dritten Mai neunzehnhundertvierundachtzig geboren."""
    person, calendar = rng.choice(PEOPLE), date(rng)
    year = number(rng.randint(1910, 1999), "year")
    was = Pair(person.agree("wurde", "wurden"), person.agree("was", "were"))
    time = f"am {calendar.de} {year.de}"
    return sentence(
        main_clause(rng, person.name.de, was.de, time, "geboren"),
        f"{person.name.en} {was.en} born on {calendar.en}, {year.en}",
    )


def ticket(rng: random.Random) -> Pair:
    """Make a sentence such as: Die Nummer dreihundertzwölf hat Anna am Montag gezogen."""
    person, the_day = rng.choice(PEOPLE), day(rng)
    drawn = number(rng.randint(100, 999))
    has = person.agree("hat", "haben")
    return sentence(
        f"die Nummer {drawn.de} {has} {person.name.de} {the_day.de} gezogen",
        f"{person.name.en} drew number {drawn.en} {the_day.en}",
    )


SENTENCES = (plain, reported, reason, cost, payment, journey, birth, ticket)


def make_pairs(count: int, seed: int) -> list[Pair]:
    """Make ``count`` random sentence pairs whose German sentences all differ; raise AssertionError
    if a German sentence has two translations."""
    rng = random.Random(seed)
    english: dict[str, str] = {}
    while len(english) < count:
        pair = rng.choice(SENTENCES)(rng)
        if english.setdefault(pair.de, pair.en) != pair.en:
            raise AssertionError(f"two translations of: {pair.de}")
    return [Pair(*both) for both in english.items()]


def corpus(sizes: dict[str, int], seed: int) -> dict[str, bytes]:
    """Make the files of all splits, as name → content; no German sentence is in two splits.

    ``sizes`` maps each split to its number of sentence pairs.
    """
    sentences = iter(make_pairs(sum(sizes.values()), seed))
    files = {}
    for split, size in sizes.items():
        for language, side in zip(Pair._fields, zip(*islice(sentences, size))):
            files[f"{split}.{language}"] = "".join(f"{line}\n" for line in side).encode()
    return files


def main() -> None:
    """Write the corpus that the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Write a made-up German-English corpus of number words, dates, times and "
        "prices: train, valid and test, each as .de and .en with one sentence a line.",
        epilog="The same sizes and seed give the same files. No German sentence occurs twice, "
        "within a split or across splits.",
    )
    parser.add_argument("output_dir", metavar="OUTPUT_DIR", help="folder for the files")
    for option, split, size in (
        ("--pairs", "train", 20_000),
        ("--valid", "valid", 500),
        ("--test", "test", 500),
    ):
        text = f"sentence pairs in the {split} split (default: {size})"
        parser.add_argument(
            option, dest=split, metavar="N", type=counting(1, MOST), default=size, help=text
        )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="choose another corpus (default: 1)"
    )
    sizes = vars(parser.parse_args())
    folder, seed = sizes.pop("output_dir"), sizes.pop("seed")
    with exit_in_one_line():
        write_all(corpus(sizes, seed), folder, force=True)


if __name__ == "__main__":
    main()
