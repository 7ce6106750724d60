"""The words of the demo stories: characters, things, places, weather, with their articles and pronouns."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase, by its first letter ("an old owl")."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def capital(phrase: str) -> str:
    """The phrase with its first letter in upper case, the rest untouched."""
    return phrase[0].upper() + phrase[1:]


@dataclass(frozen=True)
class Character:
    """Somebody in a story. Templates use its attributes: `{h} put on {h.his} hat`."""

    name: str
    kind: str
    female: bool
    trait: str
    animal: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def Cap(self) -> str:
        return capital(self.name)

    @property
    def intro(self) -> str:
        return f"{with_article(self.trait + ' ' + self.kind)} named {self.name}"

    @property
    def Intro(self) -> str:
        return capital(self.intro)

    @property
    def a(self) -> str:
        return with_article(f"{self.trait} {self.kind}")

    @property
    def he(self) -> str:
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        return "her" if self.female else "his"

    @property
    def himself(self) -> str:
        return "herself" if self.female else "himself"

    @property
    def He(self) -> str:
        return capital(self.he)

    @property
    def His(self) -> str:
        return capital(self.his)


@dataclass(frozen=True)
class Elder:
    """A grown-up or an old animal, called by what it is: first `{e.intro}`, then `{e}`."""

    kind: str
    female: bool
    unique: bool = False  # "the baker" is known to all; an old owl has to be introduced

    def __str__(self) -> str:
        return f"the {self.kind}"

    @property
    def Cap(self) -> str:
        return f"The {self.kind}"

    @property
    def intro(self) -> str:
        return str(self) if self.unique else with_article(self.kind)

    @property
    def he(self) -> str:
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        return "her" if self.female else "his"

    @property
    def He(self) -> str:
        return capital(self.he)


@dataclass(frozen=True)
class Thing:
    """One object: `{t}` is "red kite", `{t.a}` "a red kite", `{t.bare}` "kite"."""

    bare: str
    adjective: str

    def __str__(self) -> str:
        return f"{self.adjective} {self.bare}"

    @property
    def a(self) -> str:
        return with_article(str(self))

    @property
    def the(self) -> str:
        return f"the {self}"


@dataclass(frozen=True)
class Place:
    """A place with its preposition: `{p.at}` is "by the river", `{p.to}` "to the river"."""

    noun: str
    preposition: str

    def __str__(self) -> str:
        return f"the {self.noun}"

    @property
    def at(self) -> str:
        return f"{self.preposition} the {self.noun}"

    @property
    def to(self) -> str:
        return f"to the {self.noun}"


@dataclass(frozen=True)
class Food:
    """Something to eat that can be counted: `{c.one}`, `{c.many}`, `{c.a}`."""

    one: str
    many: str

    @property
    def a(self) -> str:
        return with_article(self.one)


@dataclass(frozen=True)
class Weather:
    """The weather of a story's day, kept from its morning to its evening."""

    adjective: str
    morning: tuple[str, ...]
    later: tuple[str, ...]
    evening: tuple[str, ...]
    fair: bool


GIRLS = (
    "Lily Anna Mia Emma Rosa Clara Nora Ella Ruby Daisy Maya Zoe Lucy Alice Grace Ivy Molly Hazel "
    "Jane Kate Nina Tara Wendy Amy Beth Cora Dora Edith Fiona Greta Hannah Iris"
).split()
BOYS = (
    "Tom Ben Sam Max Leo Jack Tim Noah Finn Oscar Hugo Peter Adam Luke Eric Paul Mark Theo Will Fred "
    "Ned Kai Omar Ravi Ivan Jonas Karl Liam Milo Niko Otto Pablo"
).split()
ANIMAL_NAMES = (
    "Pip Bramble Clover Dot Ember Fern Ginger Hop Juniper Kit Maple Nutmeg Olive Pepper Quill Rusty "
    "Snowy Thistle Willow Acorn Biscuit Button Cricket Dusty Fudge Hazelnut Jolly Muffin Pebble "
    "Poppy"
).split()
ANIMALS = (
    "rabbit fox bear mouse squirrel hedgehog badger otter duck goose lamb kitten "
    "puppy beaver mole hare deer pony "
    "goat raccoon turtle frog sparrow robin hen piglet donkey panda penguin koala"
).split()
TRAITS = (
    "little small young kind clever cheerful curious brave gentle quiet happy "
    "friendly shy lively bright careful "
    "merry polite busy playful"
).split()
ELDERS = (
    [Elder(f"old {k}", f) for k in ("owl", "tortoise", "toad", "horse", "crow", "goose") for f in (True, False)]
    + [Elder(k, f, True) for k in ("baker", "miller", "gardener", "shopkeeper", "teacher") for f in (True, False)]
    + [Elder(k, False, True) for k in ("old fisherman", "farmer", "postman", "woodcutter", "blacksmith")]
    + [Elder(k, True, True) for k in ("old shepherdess", "weaver", "seamstress", "beekeeper", "librarian")]
)
RELATIVES = (
    ("mother", True),
    ("father", False),
    ("grandmother", True),
    ("grandfather", False),
    ("aunt", True),
    ("uncle", False),
)
COLOURS = "red blue green yellow white purple orange golden silver brown pink black".split()
LOOKS = "shiny tiny pretty old new soft wooden bright painted striped".split()
TOYS = (
    "kite ball drum whistle boat top doll train hat scarf button marble flute "
    "ribbon lantern bucket basket cup "
    "bell spade mitten necklace ring book bag teddy puppet car key coin box spoon umbrella blanket cap"
).split()
TRADES = (
    "kite ball drum whistle lantern basket cup bell spade book puppet box umbrella blanket flute teapot rope "
    "hammer ladder pillow clock mirror jug candle comb broom chair"
).split()
FRAGILE = "cup vase plate bowl jug lamp mirror teapot clock jar flowerpot dish".split()
FOODS = [
    Food(*pair.split("/"))
    for pair in (
        "apple/apples pear/pears plum/plums cookie/cookies bun/buns carrot/carrots cake/cakes muffin/muffins "
        "peach/peaches pie/pies pancake/pancakes sandwich/sandwiches biscuit/biscuits "
        "tart/tarts cherry/cherries "
        "nut/nuts strawberry/strawberries orange/oranges waffle/waffles pastry/pastries"
    ).split()
]
PLACES = [
    Place(noun, prep)
    for prep, nouns in (
        (
            "by",
            "river|pond|lake|well|stream|old mill|garden gate|old bridge|stone wall|waterfall|church|harbour",
        ),
        ("in", "forest|meadow|garden|barn|orchard|park|valley|village square|market|wheat field|school yard"),
        ("on", "hill|beach|playground|farm|village green|sandy path|little island"),
        ("under", "oak tree|apple tree|willow tree|wooden bridge|pine tree|chestnut tree"),
        ("near", "cave|windmill|lighthouse|train station|rose bushes|blackberry bushes|haystack"),
    )
    for noun in nouns.split("|")
]
SPOTS = (
    "under a bush|behind a big rock|inside a hollow log|under a pile of "
    "leaves|behind the fence|in the tall grass|"
    "between two stones|next to a tree stump|under a wooden bench|at the bottom of a ditch|beside the path|"
    "under an old cart|behind a barrel"
).split("|")
HOMES = (
    "in a small house near the forest|in a cosy cottage by the sea|in a little village|on a quiet farm|"
    "at the edge of a big forest|in a house with a red door|in a tall house on a hill|near a wide river|"
    "in a green valley|at the end of a long road|in a small town|in a warm house by the lake|"
    "in a cottage with a blue roof|beside an old windmill|at the foot of a mountain"
).split("|")
HOBBIES = (
    "sing/singing|paint/painting|read stories/reading stories|climb trees/climbing trees|dance/dancing|"
    "play outside/playing outside|draw pictures/drawing pictures|explore/exploring|tell jokes/telling jokes|"
    "look at the stars/looking at the stars|collect stones/collecting stones|bake bread/baking bread|"
    "run in the grass/running in the grass|watch the clouds/watching the clouds|make music/making music|"
    "ask questions/asking questions|help others/helping others|pick flowers/picking flowers"
).split("|")
FOUND_NOTHING = (
    "an old boot|a broken stick|a sleepy snail|a rusty nail|a grey feather|an empty shell|a round stone|"
    "a dry leaf|a spider in its web|a piece of string|a busy ant|a torn sack"
).split("|")
GAMES = (
    "hide and seek|catch|tag|a guessing game|a game with a ball|a game of marbles|a jumping game|"
    "pirates|kings and queens|a game of cards"
).split("|")
WEATHERS = [
    Weather(
        "sunny",
        (
            "The sun was shining and the birds were singing.",
            "The sky was blue and there was not a cloud in it.",
            "The sun was warm and the grass smelled sweet.",
        ),
        (
            "The sun was high in the sky.",
            "The warm sun shone on everything.",
            "A butterfly flew by in the sunlight.",
        ),
        (
            "The sun went down and the sky turned pink.",
            "The sun set slowly behind the hills.",
            "The last sunlight touched the roofs.",
        ),
        True,
    ),
    Weather(
        "windy",
        (
            "The wind was blowing and the trees were dancing.",
            "A strong wind pushed the clouds across the sky.",
            "The wind whistled around the house.",
        ),
        (
            "The wind blew the leaves into the air.",
            "The wind was still blowing hard.",
            "A gust of wind rushed by.",
        ),
        (
            "In the evening the wind became quiet at last.",
            "The wind grew soft, and the stars came out.",
            "By evening there was only a little breeze.",
        ),
        True,
    ),
    Weather(
        "rainy",
        (
            "Rain was falling on the roof.",
            "Grey clouds covered the sky and it was raining.",
            "Raindrops ran down the window.",
        ),
        ("There were puddles everywhere.", "The rain went on and on.", "Water dripped from every leaf."),
        (
            "In the evening the rain stopped and a rainbow appeared.",
            "At last the clouds moved away and the moon came out.",
            "The rain was still tapping softly on the roof that night.",
        ),
        False,
    ),
    Weather(
        "snowy",
        (
            "White snow covered the ground.",
            "Snowflakes were falling from the sky.",
            "Everything outside was white and still.",
        ),
        ("The snow was deep and cold.", "Snowflakes danced in the air.", "The snow sparkled like sugar."),
        (
            "That night the snow shone in the moonlight.",
            "The snow kept falling softly in the dark.",
            "When it grew dark, the snow looked blue under the stars.",
        ),
        False,
    ),
    Weather(
        "foggy",
        (
            "A thick fog lay over the land.",
            "The fog was so thick that the trees looked like ghosts.",
            "Everything was grey and quiet in the fog.",
        ),
        (
            "It was hard to see the path in the fog.",
            "Slowly the fog became thinner.",
            "The fog made every sound soft.",
        ),
        (
            "By evening the fog was gone and the stars were bright.",
            "In the evening the fog came back and hid the village.",
            "At sunset the fog turned gold.",
        ),
        False,
    ),
    Weather(
        "warm",
        (
            "The air was warm and smelled of flowers.",
            "Bees were humming among the flowers.",
            "It was one of the first warm days of the year.",
        ),
        (
            "The bees went from flower to flower.",
            "It was so warm that everybody was a little sleepy.",
            "A soft breeze moved the leaves.",
        ),
        (
            "The warm day ended with a golden sunset.",
            "In the evening the crickets began to sing.",
            "The moon rose over the quiet fields.",
        ),
        True,
    ),
    Weather(
        "cold",
        (
            "There was frost on the window.",
            "The air was cold and clear.",
            "The puddles were covered with thin ice.",
        ),
        (
            "The cold air made every breath look like smoke.",
            "It was cold, but the sky was clear.",
            "The frost made the grass crunch.",
        ),
        (
            "The evening was cold, but the house was warm.",
            "Soon the stars shone in the cold sky.",
            "Smoke rose from the chimneys in the cold evening air.",
        ),
        False,
    ),
]


def make_thing(rng: Random, nouns: list[str]) -> Thing:
    """A thing with a colour or a look that it keeps through the story."""
    return Thing(rng.choice(nouns), rng.choice(COLOURS if rng.random() < 0.6 else LOOKS))


def make_character(rng: Random, taken: tuple[Character, ...] = ()) -> Character:
    """A child or an animal whose name and species nobody in `taken` has."""
    names = {c.name for c in taken}
    kinds = {c.kind for c in taken}
    while True:
        female = rng.random() < 0.5
        trait = rng.choice(TRAITS)
        if rng.random() < 0.5:
            made = Character(rng.choice(GIRLS if female else BOYS), "girl" if female else "boy", female, trait)
            if made.name not in names:
                return made
        else:
            made = Character(rng.choice(ANIMAL_NAMES), rng.choice(ANIMALS), female, trait, True)
            if made.name not in names and made.kind not in kinds:
                return made
