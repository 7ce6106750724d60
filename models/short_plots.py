"""The short plots of the demo stories, about 120 words each."""

from __future__ import annotations

from collections.abc import Callable

from teller import Teller, meet_friend, moral, morning, opening
from words import FOODS, make_thing


def close(t: Teller) -> None:
    """End a short story in one sentence."""
    t.say(
        "{h} went home [with a smile|happily].",
        "It was a day that {h} never forgot.",
        "And {h} was happy for the rest of the day.",
        "That night {h} slept very well.",
        "{h} could not wait to tell {h.his} {r.kind} all about it.",
    )


def stuck_in_tree(t: Teller) -> None:
    """The wind takes something up into a tree; a friend gets it down."""
    opening(t, at_once=False)
    t.use(t=make_thing(t.rng, ["kite", "balloon", "hat", "scarf", "ribbon", "cap"]))
    t.paragraph()
    t.say("One day {h} went {p.to} with {h.his} {t}.", "One morning {h} took {h.his} {t} and went {p.to}.")
    t.say(
        "Suddenly the wind blew and carried the {t} up into a tall tree.",
        "But the wind pulled the {t} away, and it got stuck in a high tree.",
    )
    t.say(
        "{h} jumped, but the branch was too high.",
        '"Oh no, my {t.bare}!" cried {h}. {h.He} could not reach it.',
    )
    meet_friend(t)
    t.say(
        '"Do not cry," said {f}. "I can climb very well."',
        '"I have an idea," said {f}. "You stand on my back."',
    )
    t.say(
        "A moment later, {h} had {h.his} {t} back.",
        "Together they got the {t} down, and it was not torn at all.",
    )
    t.say(
        '"Thank you, {f}," said {h}. "Do you want to play with me?"',
        '"You are so kind," said {h}. "Let us play together."',
    )
    t.say("They played with the {t} until the evening.", "{f} said yes, and they played {p.at} all day long.")
    close(t)


def spilled(t: Teller) -> None:
    """Something falls on the ground; a friend shares."""
    opening(t, at_once=False)
    t.use(c=t.rng.choice(FOODS))
    t.paragraph()
    t.say("One day {h.his} {r.kind} gave {h} {c.a}.", "One day {h} got {c.a} from {h.his} {r.kind}.")
    t.say(
        "{h} was so happy that {h.he} ran and jumped {p.at}.",
        "{h} took it {p.to} and did not look at the ground.",
    )
    t.say(
        "{h.He} fell over a stone, and the {c.one} fell into the mud.",
        "Then {h.he} slipped, and the {c.one} rolled into the water.",
    )
    t.say("{h} sat down and cried.", '"My {c.one} is gone!" cried {h}.')
    t.say("{f.intro} saw what had happened.", "{f.intro} was sitting nearby and heard {h.him}.")
    t.say(
        '"I have {c.a} too," said {f}. "We can share it."',
        "{f} broke {f.his} own {c.one} in two and gave one half to {h}.",
    )
    t.say("So they sat {p.at} and each of them ate one half.", "{h} dried {h.his} tears, and they ate together.")
    t.say(
        '"Half of {c.a} with a friend is better than a whole one alone," said {h}.',
        '"Tomorrow I will bring you a whole {c.one}," said {h}, and {h.he} did.',
    )
    close(t)


def sick_friend(t: Teller) -> None:
    """A visit makes a sick friend laugh again."""
    opening(t)
    t.use(c=t.rng.choice(FOODS))
    t.paragraph()
    morning(t)
    t.say(
        "{h} waited for {h.his} friend {f}, but {f} did not come.",
        "{h} wanted to play {game} with {h.his} friend {f}, but nobody was {p.at}.",
    )
    t.say(
        '"{f} is ill and has to stay in bed," said {h.his} {r.kind}.',
        "Then {h} heard that {f} was ill and had to stay in bed.",
    )
    t.say(
        "So {h} put some {c.many} in a basket and went to see {f.him}.",
        "{h} took {h.his} {t} and some {c.many} and went to {f}'s house.",
    )
    t.say("{f} was pale and sad.", "{f} lay in bed and looked very sad.")
    t.say(
        "{h} told {f.him} a funny story about {e.intro}, and {f} had to laugh.",
        "{h} sang a silly song and danced around the bed until {f} laughed.",
    )
    t.say('"Now I feel much better," said {f}.', '"You are the best medicine," said {f}.')
    t.say(
        "The next day {f} was well again, and they played {game}.",
        "Three days later they were playing {p.at} again.",
    )
    moral(t, "laughing helps more than medicine", "a visit from a friend makes everything better")
    close(t)


def too_much(t: Teller) -> None:
    """The hero eats or does too much and learns to stop."""
    opening(t, at_once=False)
    t.use(c=t.rng.choice(FOODS), n=t.rng.choice(("six", "seven", "eight", "nine", "ten")))
    t.paragraph()
    t.say(
        "One day there were {n} {c.many} on the kitchen table.",
        "{h.His} {r.kind} had put {n} {c.many} on the table.",
    )
    t.say(
        '"You may take one," said {h.his} {r.kind}, "but the others are for tomorrow."',
        '"Only one for you," said {h.his} {r.kind}. "We will have guests."',
    )
    t.say(
        "{h} ate one, and it was so good that {h.he} ate another one.",
        "But when nobody was looking, {h} took one more, and then one more.",
    )
    t.say("Soon all {n} {c.many} were gone!", "In the end there was not one of the {n} {c.many} left.")
    t.say("Then {h.his} stomach began to hurt.", '"Ouch," said {h}. "My stomach hurts."')
    t.say(
        '"Did you eat all the {c.many}?" asked {h.his} {r.kind}. "Yes," said {h}. "I am sorry."',
        "{h} went to {h.his} {r.kind} and told the truth.",
    )
    t.say(
        "{h.His} {r.kind} made some tea and put {h.him} to bed.",
        '"Then you have learned something today," said {h.his} {r.kind}.',
    )
    t.say(
        "The next day {h} helped to bring {n} new {c.many} from the market.",
        "When {h} was well again, {h.he} helped to make new {c.many} for the guests.",
    )
    moral(
        t,
        "it is good to know when to stop",
        "more is not always better",
        "what belongs to all must be shared",
    )


def night_sky(t: Teller) -> None:
    """A question about the sky, answered by an old one."""
    opening(t, at_once=False)
    t.use(body=t.rng.choice(("the moon", "the stars", "the evening star")))
    t.paragraph()
    t.say(
        "One night {h} looked up at the sky and saw {body}.",
        "Every night {h} looked at {body} from {h.his} window.",
    )
    t.say('"I want to touch {body}," said {h}.', '"How far is it to {body}?" {h.he} wondered.')
    t.say(
        "{h} climbed up the hill, but the sky was just as far away.",
        "So {h.he} climbed up a tree, but it was not high enough.",
    )
    t.say(
        'Then {e.intro} came by. "What are you looking for?" asked {e}.',
        "{e.intro} saw {h.him} and asked what {h.he} was doing.",
    )
    t.say('"I want to go to {body}," said {h}, "but I cannot reach it."', '"I want to touch {body}," said {h}.')
    t.say(
        "{e.Cap} took {h.him} {p.to}, where there was a bowl of clear water.",
        "{e.Cap} smiled and filled a bowl with water.",
    )
    t.say(
        '"Look into it," said {e}. And there, in the water, {h} saw {body}.',
        "{h} looked into the bowl and saw {body}, shining in the water.",
    )
    t.say("{h} touched the water and laughed.", '"Now I have touched {body}!" cried {h}.')
    moral(t, "beautiful things can be nearer than they seem", "it is good to ask somebody who is old and wise")
    close(t)


def surprise(t: Teller) -> None:
    """The hero thinks that everybody forgot the birthday; there is a party."""
    opening(t, at_once=False)
    t.use(c=t.rng.choice(FOODS))
    t.paragraph()
    t.say(
        "It was {h}'s birthday, but nobody said anything about it.",
        "On the morning of {h.his} birthday, {h} woke up early, but the house was empty.",
    )
    t.say(
        '{h} went to see {h.his} friend {f}, but {f} said, "I have no time today."',
        '"Do you know what day it is?" {h} asked {h.his} friend {f}. "No," said {f}, and {f.he} hurried away.',
    )
    t.say(
        "{h} met {o.intro}, but {o.he} did not remember it either.",
        "Then {h} met {o.intro}, who only said good morning and ran away.",
    )
    t.say(
        '"Everybody has forgotten me," thought {h}, and {h.he} sat down {p.at}.',
        "{h} was very sad and sat all alone {p.at}.",
    )
    t.say("In the evening {h} went home and opened the door.", "When it grew dark, {h.he} went slowly home.")
    t.say('"Surprise!" shouted {f} and {o}.', '"Happy birthday, {h}!" everybody called.')
    t.say(
        "There were {c.many} and candles, and {f} gave {h.him} {t.a}.",
        "On the table there was a big plate of {c.many}, and next to it lay {t.a} from {f}.",
    )
    t.say(
        '"We did not forget you," said {f}. "We only wanted to surprise you."',
        '"It was hard to say nothing," said {f}, and {h} laughed.',
    )
    t.say("They danced and sang until late at night.", "It was the best birthday that {h} had ever had.")


SHORT_PLOTS: tuple[Callable[[Teller], None], ...] = (
    stuck_in_tree,
    spilled,
    sick_friend,
    too_much,
    night_sky,
    surprise,
)
