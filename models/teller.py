"""The teller of a story: its cast, its sentences, and the parts that many plots share."""

from __future__ import annotations

import re
from random import Random

from words import (
    ELDERS,
    FOODS,
    FOUND_NOTHING,
    GAMES,
    HOBBIES,
    HOMES,
    PLACES,
    RELATIVES,
    SPOTS,
    TOYS,
    WEATHERS,
    Elder,
    Weather,
    capital,
    make_character,
    make_thing,
)

CHOICE = re.compile(r"\[([^\[\]]*)\]")


class Teller:
    """Tells one story: holds the cast and the paragraphs told so far."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.paragraphs: list[list[str]] = [[]]
        self.begun = False
        self.weather: Weather = rng.choice(WEATHERS)
        hero = make_character(rng)
        friend = make_character(rng, (hero,))
        other = make_character(rng, (hero, friend))
        places = rng.sample(PLACES, 4)
        relative, female = rng.choice(RELATIVES)
        hobby, hobbying = rng.choice(HOBBIES).split("/")
        self.cast: dict[str, object] = {
            "h": hero, "f": friend, "o": other, "e": rng.choice(ELDERS), "r": Elder(relative, female),
            "p": places[0], "q": places[1], "s": places[2], "u": places[3], "t": make_thing(rng, TOYS),
            "home": rng.choice(HOMES), "hobby": hobby, "hobbying": hobbying, "game": rng.choice(GAMES),
            "spot": rng.choice(SPOTS),
        }  # fmt: skip

    def use(self, **cast: object) -> None:
        """Add to the cast, or replace parts of it."""
        self.cast.update(cast)

    def fill(self, template: str) -> str:
        """One template as text: choose the alternatives, innermost first, then put the cast in."""
        while "[" in template:
            template = CHOICE.sub(lambda m: self.rng.choice(m.group(1).split("|")), template)
        return template.format(**self.cast)

    def say(self, *variants: str) -> None:
        """Tell one of the variants as the next sentence (or sentences) of the paragraph."""
        self.paragraphs[-1].append(capital(self.fill(self.rng.choice(variants))))

    def maybe(self, chance: float, *variants: str) -> None:
        """Tell one of the variants, or leave it out."""
        if self.rng.random() < chance:
            self.say(*variants)

    def paragraph(self) -> None:
        """Start a new paragraph."""
        if self.paragraphs[-1]:
            self.paragraphs.append([])

    def text(self) -> str:
        """The story told so far."""
        return "\n".join(" ".join(p) for p in self.paragraphs if p)


# ---------------------------------------------------------------- parts that many plots share


def opening(t: Teller, alone: bool = False, at_once: bool = True) -> None:
    """Introduce the hero, the home (shared unless `alone`) and what the hero loves to do.

    `at_once` allows to begin with the morning of the story's day; `morning` then does not tell it again.
    """
    t.use(shared="" if alone else t.fill(" with {h.his} [mother|father|family|grandmother]"))
    t.begun = at_once and t.rng.random() < 0.2
    if t.begun:
        t.use(weather=t.weather.adjective, sky=t.rng.choice(t.weather.morning))
        t.say(
            "One {weather} [day|morning], {h.intro} [woke up early|looked out of the window|opened the door]. {sky}",
            "It was a {weather} morning. {sky} {h.Intro} [woke up early|looked out of the window].",
        )
        t.say("{h} lived {home}.", "{h.He} lived {home}{shared}.")
        return
    t.say(
        "Once upon a time, there was {h.intro}. {h.He} lived {home}{shared}.",
        "Once upon a time, there was {h.intro} who lived {home}.",
        "Once upon a time, {h.intro} lived {home}.",
        "Once upon a time, {home}, there lived {h.intro}.",
        "There was once {h.intro}. {h.He} lived {home}.",
        "There was once {h.intro} who lived {home}.",
        "Long ago, {h.intro} lived {home}.",
        "{h} was {h.a}. {h.He} lived {home}.",
        "{h} was {h.a} who lived {home}{shared}.",
        "{home}, there lived {h.intro}.",
        "{h} the {h.kind} lived {home}{shared}.",
        "{h.intro} lived {home}.",
        "This is the story of {h.intro}, who lived {home}.",
    )
    t.maybe(
        0.6,
        "{h} loved to {hobby}.",
        "{h.He} loved to {hobby}[ more than anything| every day|, and {h.he} did it very well|].",
        "Every day {h.he} liked to {hobby}.",
        "{h} was always happy when {h.he} could {hobby}.",
        "Everybody knew that {h} loved to {hobby}.",
    )


def morning(t: Teller) -> None:
    """Begin the day of the story with its weather, unless the opening did."""
    if t.begun:
        t.say(
            "After breakfast, {h} was ready for the day.",
            "{h} ate a quick breakfast and put on {h.his} [hat|scarf|cap].",
            "{h} had a good breakfast and was in a good mood.",
        )
        return
    t.use(weather=t.weather.adjective, sky=t.rng.choice(t.weather.morning))
    t.say(
        "One {weather} [day|morning], {h} [woke up early|got up early|looked out of the window|opened the door]. {sky}",
        "It was a {weather} [day|morning]. {sky}",
        "One morning, {h} woke up [early|and looked outside|and smiled]. {sky}",
    )


def sky(t: Teller, chance: float = 0.4) -> None:
    """Perhaps a word on the weather, in the middle of the day."""
    t.maybe(chance, t.rng.choice(t.weather.later))


def evening(t: Teller, chance: float = 0.7) -> None:
    """Perhaps the evening sky."""
    t.maybe(chance, t.rng.choice(t.weather.evening))


def meet_friend(t: Teller) -> None:
    """Bring the friend in, near the hero."""
    t.say(
        "[Just then|At that moment|Soon], {f.intro} came along.",
        "[Just then|At that moment|Suddenly], {h} [saw|heard|met] {f.intro}.",
        "On the way {h.he} met {f.intro}.",
    )


def bedtime(t: Teller, deed: str) -> None:
    """Close the day: the hero tells at home what happened (`deed`), and the story ends."""
    t.use(deed=t.fill(deed))
    t.paragraph()
    evening(t)
    t.maybe(
        0.75,
        "That evening, {h} told {h.his} [mother|father|family] [all about|everything about] {deed}.",
        "At home, {h} told the story of {deed}, [again and again|from the beginning to the end].",
        "When {h} lay in bed that night, {h.he} thought about {deed}.",
        '"What did you do today?" asked {h.his} [mother|father|grandmother]. {h} [smiled and |]told about {deed}.',
    )
    t.say(
        "{h} [closed {h.his} eyes|went to bed] and fell asleep with a smile.",
        "{h} slept very well that night[, and {h.he} had sweet dreams|].",
        "Then {h} went to bed, tired and happy.",
        "It had been a [wonderful|very good|long and happy] day.",
        "And {h} [lived happily ever after|was happy for a long, long time].",
        "And from that day on, {h} and {f} were the best of friends.",
    )


def moral(t: Teller, *lessons: str) -> None:
    """Say what the hero learned; a lesson reads after "that"."""
    t.use(lesson=t.fill(t.rng.choice(lessons)))
    t.say(
        "{h} learned that {lesson}.",
        "That day {h} learned that {lesson}.",
        "From then on, {h} always remembered that {lesson}.",
        "{h} [never forgot|understood now] that {lesson}.",
        "And so {h} found out that {lesson}.",
    )


def detour(t: Teller, chance: float = 0.25) -> None:
    """Perhaps a small adventure of its own on the way, which changes nothing of the plot."""
    if t.rng.random() >= chance:
        return
    t.paragraph()
    t.use(
        d=t.rng.choice([p for p in PLACES if p not in t.cast.values()]),
        snack=t.rng.choice(FOODS),
        nothing=t.rng.choice(FOUND_NOTHING),
    )
    t.rng.choice((detour_rest, detour_stranger, detour_sound, detour_bridge))(t)
    t.paragraph()


def detour_rest(t: Teller) -> None:
    t.say(
        "{h} came to a quiet place {d.at} and sat down to rest.",
        "After a while {h} was tired, so {h.he} sat down {d.at}.",
        "{d.at}, {h} stopped for a little rest.",
    )
    t.say(
        "{h.He} took {snack.a} out of {h.his} [bag|pocket|basket] and ate it slowly.",
        "{h.He} had {snack.a} in {h.his} bag, and it tasted very good.",
        "{h.He} ate {snack.a} and gave the crumbs to a hungry sparrow.",
    )
    t.say(
        "Then {h.he} felt [better|stronger] and went on.",
        "When the last bite was gone, {h.he} got up and walked on.",
        '"Now I can go on," {h.he} said[ to {h.himself}|].',
    )


def detour_stranger(t: Teller) -> None:
    t.use(x=t.rng.choice([e for e in ELDERS if e is not t.cast["e"] and not e.unique]))
    t.say("{d.at}, {x.intro} was [sitting in the shade|resting|looking at the sky].")
    t.say(
        '"Good day," said {x}. "Where are you going in such a hurry?"',
        '"Hello there," said {x}. "You look very busy today."',
        '"Please, can you help me?" asked {x}. "I dropped my glasses and I cannot see them."',
    )
    if "glasses" in t.paragraphs[-1][-1]:
        t.say("{h} looked [in the grass|on the ground] and soon found the glasses next to {nothing}.")
        t.say('"Thank you, {h}," said {x}. "You are very kind."')
    else:
        t.say('"I have something important to do," said {h}[ politely|].')
        t.say('"Then I wish you good luck," said {x}.', '"Then do not let me stop you," said {x} with a smile.')
    t.say("{h} waved and went on.", "{h} said goodbye and walked on.")


def detour_sound(t: Teller) -> None:
    t.say(
        "Suddenly {h} heard a [strange|funny|soft] sound {d.at}.",
        "{d.at}, something moved in the [bushes|leaves|grass].",
    )
    t.say("{h} stood still and listened.", "{h.He} held {h.his} breath.", '"Who is there?" {h.he} asked.')
    t.say(
        "But it was only {nothing} and a little bird, and {h} laughed.",
        "It was only a small frog that jumped away, and {h} laughed.",
        "It was only the wind, so {h} was not afraid any more.",
    )


def detour_bridge(t: Teller) -> None:
    t.say(
        "The path led over a [narrow|small|shaky] bridge.",
        "There was a stream with only a narrow bridge over it.",
    )
    t.say(
        "{h} walked [slowly and carefully|step by step], and did not look down.",
        "{h} was a little afraid, but {h.he} took a deep breath and went across.",
    )
    t.say('"That was not so hard," {h.he} said on the other side.', "On the other side {h.he} felt very proud.")
