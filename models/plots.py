"""The long plots of the demo stories, 150 to 400 words each."""

from __future__ import annotations

from collections.abc import Callable

from teller import Teller, bedtime, detour, meet_friend, moral, morning, opening, sky
from words import COLOURS, FOODS, FOUND_NOTHING, FRAGILE, TOYS, TRADES, Elder, Place, Thing, make_thing


def lost_thing(t: Teller) -> None:
    """A loved thing is lost, looked for in the wrong places, and found where it was lost."""
    opening(t)
    t.use(n1=t.rng.choice(FOUND_NOTHING[:6]), n2=t.rng.choice(FOUND_NOTHING[6:]))
    t.say(
        "{h} had {t.a}, and {h.he} loved it very much.",
        "Of all {h.his} things, {h} loved {h.his} {t} the most.",
        "{h.His} {r.kind} had given {h.him} {t.a}[ for {h.his} birthday|], and {h} took it everywhere.",
    )
    t.paragraph()
    morning(t)
    t.say(
        "{h} took the {t} and went {p.to}.",
        "{h.He} put the {t} in {h.his} bag and went {p.to} to play.",
        "{h} wanted to play {p.at}, and of course the {t} came along.",
    )
    t.say(
        "{h.He} played there [all morning|for a long time|until noon].",
        "{p.at} {h.he} ran and jumped and had a lot of fun.",
    )
    sky(t)
    t.say(
        "But when {h.he} wanted to go home, the {t} was gone!",
        "Then {h.he} looked for the {t}, but it was not there any more.",
        "On the way home {h.he} looked in {h.his} bag. The {t} was gone!",
    )
    t.say(
        '"Oh no!" cried {h}. "Where is my {t.bare}?"',
        '"I have lost my {t}!" {h.he} said, and {h.he} began to cry.',
    )
    t.paragraph()
    t.say(
        "{h} looked {q.at}, but there was only {n1}.",
        "First {h.he} looked {q.at}. There {h.he} found {n1}, but no {t.bare}.",
    )
    t.say(
        "Then {h.he} looked {s.at}, but {h.he} found only {n2}.",
        "Then {h.he} went {s.to}. There was {n2}, but no {t.bare}.",
    )
    lost_thing_found(t)


def lost_thing_found(t: Teller) -> None:
    """A friend asks the right question, and the thing is found."""
    detour(t)
    meet_friend(t)
    t.say('"Why are you [so sad|crying], {h}?" asked {f}.', '"What is the matter?" {f} asked.')
    t.say('"I cannot find my {t}," said {h}.', '"My {t} is gone, and I have looked everywhere," said {h}.')
    t.say(
        '"When did you have it last?" asked {f}. {h} thought for a moment. "When I was playing {p.at}," {h.he} said.',
        '"Where did you play this morning?" asked {f}. "I played {p.at}," said {h}.',
    )
    t.say(
        '"Then let us look there again," said {f}.',
        '"Then we will go back there together," said {f}[ kindly|].',
    )
    t.paragraph()
    t.say("Together they went back {p.to}.", "So the two of them walked back {p.to}.")
    t.say(
        "They looked [everywhere|high and low|for a long time].",
        "{f} looked on the left side and {h} looked on the right side.",
    )
    t.say(
        "And there, {spot}, {f} saw something [strange|small|that did not belong there]. It was the {t}!",
        '"I see it!" {f} called. The {t} was {spot}.',
        "At last {h} looked {spot}, and there was the {t}!",
    )
    t.maybe(
        0.5,
        "It must have fallen out of {h.his} bag.",
        "The wind must have carried it there.",
        "It was a little dirty, but it was not broken.",
    )
    t.say(
        '"Thank you, {f}!" said {h}. "You are a [true|good|real] friend."',
        "{h} hugged {f} and thanked {f.him} again and again.",
    )
    moral(
        t,
        "a friend can help you to find what you have lost",
        "it is good to look after your things",
        "it helps to stop and think",
        "two can find more than one",
    )
    bedtime(t, "the {t} that was lost and found {spot}")


def sharing(t: Teller) -> None:
    """The hero gives away food and later gets help from those who got it."""
    opening(t)
    t.use(c=t.rng.choice(FOODS), n=t.rng.choice(("three", "four", "five", "six")))
    t.paragraph()
    morning(t)
    t.say(
        "{h.His} {r.kind} gave {h.him} {n} {c.many} in a basket.",
        "{h.His} {r.kind} had brought {n} {c.many} for {h.him}.",
        "{h} had {n} fresh {c.many} in {h.his} bag.",
    )
    t.say('"I will eat them all {p.at}," thought {h}.', "{h.He} wanted to eat them {p.at}.")
    sky(t)
    t.paragraph()
    t.say("On the way {h.he} met {f.intro}.", "By the road, {f.intro} was sitting all alone.")
    t.say("{f} looked [sad|hungry|tired].", "{f} was very hungry.")
    t.say(
        '"I have had nothing to eat today," said {f}.',
        '"Could I have one of your {c.many}, please?" asked {f}.',
    )
    t.say(
        "{h} looked at the {c.many}. {h.He} was hungry too, but {h.he} gave {f} [one of them|two of them].",
        '"Of course," said {h}. "Take one, and take one more for later."',
        "{h} did not think for long. {h.He} sat down and shared the {c.many} with {f}.",
    )
    t.say('"Thank you," said {f}. "I will never forget this."', "{f} ate and smiled. {f.He} felt much better.")
    detour(t)
    t.paragraph()
    t.say("A little later, {h} met {o.intro}.", "Soon {h} saw {o.intro} {s.at}.")
    t.say('"Those {c.many} smell so good," said {o}.', "{o} looked at the {c.many} with big eyes.")
    t.say('"You may have one too," said {h}.', "{h} gave {o.him} {c.a} as well.")
    t.say("Now there was only one {c.one} left.", "In the end {h} had only one {c.one} for {h.himself}.")
    t.maybe(0.6, "But it tasted better than any {c.one} before.", "{h} was not sad about it at all.")
    t.paragraph()
    t.say(
        "When {h} wanted to go home, {h.he} slipped and fell into a deep hole.",
        "On the way home {h} lost {h.his} way and did not know where to go.",
        "On the way home {h} hurt {h.his} foot and could not walk.",
    )
    t.say('"Help!" {h.he} called. "Please help me!"', "{h.He} called for help as loudly as {h.he} could.")
    t.say("{f} and {o} heard {h.his} voice and came running.", "{f} heard it first, and {f.he} ran to get {o}.")
    last = t.paragraphs[-1][0]
    if "hole" in last:
        t.say(
            "They let down a long rope and pulled {h} out.",
            "They found a strong branch and pulled {h} out of the hole.",
        )
    elif "foot" in last:
        t.say("They carried {h} all the way home.", "They put {h} on a little cart and took {h.him} home.")
    else:
        t.say(
            "They knew the way and took {h} home.",
            "Together they walked with {h} until {h.he} saw {h.his} house.",
        )
    t.say(
        '"You shared with us, so we help you," said {f}.',
        '"You were kind to us," said {o}. "Now it is our turn."',
    )
    moral(t, "kindness always comes back", "what you share is never lost", "those who share are never alone")
    bedtime(t, "the {c.many}, and {f} and {o} who came to help")


STUCK = (
    ("stuck in a thorn bush", "a pair of scissors", "cut the branches one by one"),
    ("caught in an old net", "a sharp knife", "cut the net open"),
    ("trapped under a heavy branch", "a long pole", "lifted the branch up"),
    ("stuck in the deep mud", "a strong rope", "pulled with all {h.his} strength"),
    ("sitting on a high branch, too afraid to come down", "a tall ladder", "climbed up step by step"),
    ("stuck in a hole in the fence", "a small saw", "made the hole bigger"),
    ("sitting at the bottom of a dry well", "a basket on a rope", "reached all the way down"),
)


def rescue(t: Teller) -> None:
    """A small creature is stuck; the right tool is borrowed; the creature pays it back."""
    opening(t)
    baby, female = (
        t.rng.choice(("kitten", "lamb", "puppy", "duckling", "young squirrel", "small bird", "young hare")),
        t.rng.random() < 0.5,
    )
    trouble, tool, act = t.rng.choice(STUCK)
    t.use(
        b=Elder(baby, female),
        trouble=trouble,
        tool=tool,
        act=t.fill(act),
        itstool="the " + tool.split(" ", 1)[1],
    )
    t.paragraph()
    morning(t)
    t.say("{h} was walking {p.to}.", "{h} went {p.to} to {hobby}.", "{h} went out for a walk and came {p.to}.")
    sky(t)
    t.say(
        'Suddenly {h.he} heard a [small|thin|sad] voice. "Help me, please!"',
        "Suddenly {h.he} heard somebody crying.",
    )
    t.say("It was {b.intro}. {b.He} was {trouble}.", "{p.at} {h.he} saw {b.intro}. {b.He} was {trouble}.")
    t.say(
        '"Do not be afraid," said {h}. "I will help you."',
        '"Oh, you poor little thing," said {h}. "I will get you out."',
    )
    t.say(
        "{h} tried [and tried|once, twice and three times], but it did not work.",
        "{h.He} tried with all {h.his} strength, but {h.he} could not do it alone.",
    )
    t.say('"I need {tool}," {h.he} said.', '"If only I had {tool}!" {h.he} thought.')
    detour(t)
    t.paragraph()
    t.say(
        "{h} ran to [see|find] {e.intro}, who lived near {q}.",
        "{h} ran as fast as {h.he} could and came to the house of {e.intro}.",
    )
    t.say(
        '"Please, may I borrow {tool}?" {h.he} asked.',
        '"Do you have {tool}?" asked {h}. "Somebody is in trouble!"',
    )
    t.say(
        '"Of course," said {e}. "But be careful, and bring it back."',
        '"Take it," said {e}, "and hurry!"',
        "{e.Cap} nodded and gave {h.him} {itstool}.",
    )
    t.paragraph()
    t.say("{h} ran back {p.to}.", "Soon {h} was back {p.at}.")
    t.say("With {itstool} {h.he} {act}.", "{h.He} took {itstool} and {act}.")
    t.say("A moment later {b} was free!", "It took a long time, but at last {b} was free.")
    t.say(
        '"Thank you, thank you!" said {b}. "What is your name?" "My name is {h}," said {h}.',
        '"You saved me," said {b}. "I will not forget it."',
        "{b.Cap} jumped around {h} and was very happy.",
    )
    t.say("Then {h} took {itstool} back to {e}.", "{h} did not forget to bring {itstool} back to {e}.")
    if t.rng.random() < 0.6:
        t.paragraph()
        t.say("A few days later, {h} lost {h.his} {t} {s.at}.", "The next day, {h}'s {t} was lost {s.at}.")
        t.say(
            "{b.Cap} came and helped {h.him} to look for it. Soon {b.he} found it {spot}.",
            "But {b} had good eyes. {b.He} found it {spot} and brought it to {h}.",
        )
        t.say('"Now I could help you," said {b}.', '"You helped me, and now I helped you," said {b}.')
    moral(
        t,
        "nobody is too small to be a friend",
        "the right tool makes hard work easy",
        "it is good to ask for help",
        "a good deed is never forgotten",
    )
    bedtime(t, "{b} that had been {trouble}")


FEARS = (
    (
        "the dark",
        "At night {h.he} could not sleep without a light.",
        "The dark is only the day with its eyes closed",
    ),
    ("deep water", "{h.He} never went into the lake.", "Water carries those who lie still and breathe"),
    (
        "thunder",
        "When there was a storm, {h.he} hid under the bed.",
        "Thunder is only a loud noise far away in the clouds",
    ),
    (
        "high places",
        "{h.He} never climbed up anything, not even a chair.",
        "Look at the next step and not at the ground",
    ),
    ("the big dog next door", "{h.He} always ran past its house.", "The dog barks because it is lonely"),
    (
        "singing in front of others",
        "{h.He} only sang when nobody was near.",
        "They come to hear you and not to laugh at you",
    ),
    (
        "the deep forest",
        "{h.He} never went in among the trees.",
        "The trees are old friends who stand very still",
    ),
)


FEAR_SCENES = {
    "the dark": (
        "In the night {f} lost {f.his} way, and somebody had to look for {f.him} in the dark.",
        "{h} took a small lamp and went out alone until {h.he} found {f} {spot}.",
    ),
    "deep water": (
        "{f}'s little boat had floated out on the lake.",
        "{h} lay still on the water, breathed slowly, and swam out to bring the boat back.",
    ),
    "thunder": (
        "A storm came, and {f} began to cry when the thunder rolled.",
        "{h} put an arm around {f} and sang a song until the storm was over.",
    ),
    "high places": (
        "{f} had climbed a tall tree and could not get down.",
        "{h} climbed up step by step and did not look down until {h.he} reached {f}.",
    ),
    "the big dog next door": (
        "{f}'s ball had rolled into the garden of the big dog.",
        "{h} went in slowly and spoke to the dog, and it wagged its tail and brought the ball.",
    ),
    "singing in front of others": (
        "{f} was going to sing at the village party, but {f.he} had lost {f.his} voice.",
        "{h} stood up in front of everybody and sang the song for {f}.",
    ),
    "the deep forest": (
        "{f} had lost {f.his} hat somewhere in the forest.",
        "{h} walked in among the trees, greeted them like old friends, and came back with the hat.",
    ),
}


def fear(t: Teller) -> None:
    """The hero is afraid of something, gets advice and becomes brave for a friend's sake."""
    opening(t)
    what, habit, advice = t.rng.choice(FEARS)
    t.use(what=what, habit=t.fill(habit), advice=advice)
    t.say(
        "But {h} was afraid of {what}. {habit}",
        "There was only one thing that {h} did not like. {h.He} was afraid of {what}. {habit}",
    )
    t.say(
        "{h} did not tell anybody about it.",
        "The others sometimes laughed about it, and that made {h} sad.",
        '"I wish I were brave," {h.he} often said.',
    )
    t.paragraph()
    morning(t)
    t.say(
        "{h} went {p.to} and met {e.intro}.",
        "{p.at}, {h} met {e.intro}.",
        "{h} went to see {e.intro}, who lived near {p}.",
    )
    t.say('"Why do you look so [sad|worried]?" asked {e}.', '"You are very quiet today," said {e}.')
    t.say(
        '"I am afraid of {what}," {h} said [softly|in a small voice].',
        '"Everybody is brave," said {h}, "but I am afraid of {what}."',
    )
    t.say("{e.Cap} did not laugh.", "{e.Cap} thought for a while.", "{e.Cap} smiled.")
    t.say(
        '"I will tell you a secret," said {e}. "{advice}."',
        '"{advice}," said {e}. "Think of that when you are afraid."',
    )
    t.say(
        '"And to be brave does not mean that you have no fear," {e.he} said. "It means that you go on."',
        '"I was afraid of {what} too when I was young," {e.he} said.',
        "{h} thought about these words all day.",
    )
    detour(t)
    fear_overcome(t)


def fear_overcome(t: Teller) -> None:
    """A friend needs help, and the hero goes."""
    t.paragraph()
    sky(t)
    t.say(
        "A few days later, something happened to {h}'s friend {f}.",
        "The next week, {h}'s friend {f} needed help.",
        "{h} had a friend, {f.intro}.",
    )
    scene = FEAR_SCENES[str(t.cast["what"])]
    t.say(scene[0])
    t.say("{h}'s heart beat fast.", "{h}'s knees were shaking.", "{h} wanted to run away.")
    t.say(
        'But then {h.he} remembered what {e} had said. "{advice}," {h.he} whispered.',
        "But {h.he} thought of {e} and took a deep breath.",
    )
    t.say(scene[1])
    t.paragraph()
    t.say('"You were so brave!" said {f}.', '"I did not know that you were so brave," said {f}.')
    t.say(
        '"I was afraid," said {h}, "but I did it."',
        '"I was still a little afraid," said {h}, "but you needed me."',
    )
    t.say(
        "After that, {h} was not afraid of {what} any more.",
        "From that day on, {h} was not so afraid of {what} any more.",
    )
    moral(
        t,
        "being brave means going on when you are afraid",
        "fear becomes small when you think of a friend",
        "everybody can be brave",
    )
    bedtime(t, "the words of {e} and how they had helped")


def broken(t: Teller) -> None:
    """Something is broken, the truth is told, and it is put together again."""
    opening(t)
    t.use(t=make_thing(t.rng, FRAGILE), x=t.rng.choice(("the cat", "the wind", "a bird")), c=t.rng.choice(FOODS))
    t.say(
        "In the house there was {t.a}. It belonged to {h.his} {r.kind}, and it was very dear to {r.him}.",
        "{h.His} {r.kind} had {t.a}. It stood on a high shelf, and nobody was allowed to touch it.",
    )
    t.paragraph()
    morning(t)
    t.say(
        "{h} was alone in the [kitchen|room] and played with a ball.",
        "{h} wanted to play ball with {h.his} friend {f} in the house.",
    )
    t.say("The ball flew too high and hit the {t}.", "{h} threw the ball, and it hit the {t}.")
    t.say(
        "The {t} fell to the floor and broke into [many|three|a hundred] pieces.",
        "Crash! The {t} fell down and broke.",
    )
    t.say('"Oh no!" {h.he} whispered. "What have I done?"', "{h} turned pale. {h.His} heart was beating fast.")
    t.paragraph()
    t.say(
        "{h} hid the pieces [under the bed|behind the curtain|in a box|under the carpet].",
        "Quickly {h.he} put the pieces in a bag and hid it [under the bed|behind the door].",
    )
    t.say(
        '"I will say that {x} did it," {h.he} thought.',
        '"Nobody has seen me," {h.he} thought. "I can say that it was {x}."',
    )
    t.say(
        "But {h} could not eat and could not play. {h.He} felt [bad|heavy|sad] inside.",
        "All day long {h} was very quiet, and even {c.a} did not taste good.",
    )
    sky(t)
    t.maybe(0.6, '"What is wrong?" asked {h.his} {r.kind}. "Nothing," said {h}, but it was not true.')
    detour(t, 0.2)
    t.paragraph()
    t.say("{h} went {p.to} and met {e.intro}.", "{p.at}, {h} told {e.intro} what had happened.")
    t.say(
        '"A lie is like a stone in your shoe," said {e}. "It hurts with every step."',
        '"The truth is hard for a moment," said {e}, "but a lie is hard for a long time."',
    )
    t.say('"You are right," said {h}. "I will tell the truth."', "{h} nodded. Now {h.he} knew what to do.")
    t.paragraph()
    t.say(
        "{h} went home and stood in front of {h.his} {r.kind}.",
        "In the afternoon {h} took the pieces and went to {h.his} {r.kind}.",
    )
    t.say(
        '"I broke the {t}," {h.he} said. "I am very sorry."',
        '"I have to tell you something," {h.he} said. "It was me. I broke the {t} with my ball."',
    )
    t.say("{h.His} {r.kind} was quiet for a moment.", "{h.His} {r.kind} looked at the pieces and then at {h}.")
    t.say(
        '"I am sad about the {t.bare}," {r.he} said, "but I am glad that you told me the truth."',
        '"Thank you for telling me," {r.he} said. "That was very brave."',
    )
    t.say(
        "Then they sat down together and glued the pieces, one by one.",
        "They took some glue and put the {t} together again.",
    )
    t.say(
        "The {t} was not as beautiful as before, but they both loved it even more.",
        "You could still see the cracks, but the {t} stood on its shelf again.",
    )
    moral(
        t,
        "it is better to tell the truth",
        "the truth makes the heart light",
        "everybody makes mistakes, but a lie makes them bigger",
    )
    bedtime(t, "the broken {t} and the words of {e}")


def race(t: Teller) -> None:
    """A boastful runner and a patient one; the patient one wins, or both stop to help."""
    opening(t)
    t.use(
        c=t.rng.choice(FOODS),
        prize=make_thing(t.rng, ["cup", "ribbon", "medal", "bell", "hat", "crown", "flag"]),
    )
    t.say("Not far away lived {f.intro}.", "{h} had a neighbour, {f.intro}.")
    t.say(
        '{f} could run very fast. "I am the fastest of all," {f.he} always said.',
        '"Nobody can run as fast as I can," {f} told everybody.',
    )
    t.paragraph()
    morning(t)
    t.say(
        "There was going to be a race from {p} to {q}.",
        "Everybody came to see the big race. It went from {p} to {q}.",
    )
    t.say("The winner would get {prize.a}.", "The prize was {prize.a}.")
    t.say(
        '{f} laughed when {f.he} saw {h}. "You are much too slow," {f.he} said.',
        '"Do you want to race too?" {f} asked {h}, and {f.he} laughed.',
    )
    t.say('"I will do my best," said {h}.', '"We will see," said {h} [quietly|with a smile].')
    t.say('"Ready, steady, go!" called {e.intro}.', "{e.intro} rang a bell, and the race began.")
    t.paragraph()
    t.say(
        "{f} ran like the wind, and soon nobody could see {f.him} any more.",
        "At once {f} was far ahead of {h}.",
    )
    t.say(
        "{h} ran slowly and steadily, one step after the other.",
        "{h} did not hurry too much. {h.He} saved {h.his} strength.",
    )
    sky(t)
    if t.rng.random() < 0.5:
        race_asleep(t)
    else:
        race_hurt(t)


def race_asleep(t: Teller) -> None:
    """The fast one sleeps, and the patient one wins."""
    t.say(
        'After half of the way {f} looked back. "{h} is so far behind," {f.he} said. "I have time for a nap."',
        "Halfway, {f} came to {s} and saw some {c.many}. {f.He} stopped to eat, and {f.he} ate too many.",
    )
    t.say(
        "{f.He} lay down {s.at} and fell asleep.",
        "Soon {f} was tired. {f.He} closed {f.his} eyes {s.at}, only for a moment.",
    )
    t.say(
        "{h} ran past {f} [without a sound|on quiet feet] and did not stop.",
        "After a long while {h} came by. {h.He} saw {f} asleep and ran on.",
    )
    t.paragraph()
    t.say("When {f} woke up, it was too late.", "{f} woke up when {f.he} heard the people cheering.")
    t.say(
        "{f.He} ran as fast as {f.he} could, but {h} was already there.",
        "{h} reached {q} first, and everybody cheered.",
    )
    t.say("{e.Cap} gave {h} the {prize}.", "{h} got the {prize} and was very proud.")
    t.say(
        '"You were slow, but you did not stop," said {f}. "I am sorry that I laughed at you."',
        '{f} looked at the ground. "I was proud and silly," {f.he} said. "You are a good runner, {h}."',
    )
    t.say(
        '"Let us run together tomorrow," said {h}, and {f} smiled again.',
        '{h} was not angry. "Let us be friends," {h.he} said.',
    )
    moral(
        t,
        "those who go slowly and do not stop can win",
        "it is not good to laugh at others",
        "patience is better than pride",
    )
    bedtime(t, "the race and the {prize}")


def race_hurt(t: Teller) -> None:
    """The fast one falls, and the patient one stops to help."""
    t.say(
        "But {s.at}, {f} fell over a root and hurt {f.his} leg.",
        "But {s.at} there was a big stone. {f} did not see it and fell down.",
    )
    t.say(
        "After a while {h} came by. {h.He} could have run on and won the race.",
        'Soon {h} came along the path. "My leg hurts," {f} cried.',
    )
    t.say(
        'But {h} stopped. "I will help you," {h.he} said.',
        'But {h} sat down beside {f}. "The race can wait," {h.he} said.',
    )
    t.say(
        "{h} put an arm around {f}, and slowly they walked on together.",
        "{f} leaned on {h}, and step by step they went on.",
    )
    t.paragraph()
    t.say("They reached {q} last of all.", "When they came to {q}, the race was over.")
    t.say("But the people cheered louder than before.", "But everybody stood up and clapped for them.")
    t.say(
        '"{h} has the biggest heart," said {e}, and gave {h.him} the {prize}.',
        "{e.Cap} gave the {prize} to {h}, because {h.he} had helped.",
    )
    t.say('"I will never laugh at you again," said {f}.', '"You are the real winner," said {f}.')
    moral(
        t,
        "helping is better than winning",
        "a big heart is worth more than fast legs",
        "a friend is worth more than a prize",
    )
    bedtime(t, "the race and how {f} fell {s.at}")


MATERIALS = (
    ("scarf", "knit", "knitted", "wool"),
    ("boat", "carve", "carved", "wood"),
    ("kite", "make", "made", "paper"),
    ("picture", "paint", "painted", "paint"),
    ("necklace", "make", "made", "shells"),
    ("blanket", "sew", "sewed", "cloth"),
    ("basket", "weave", "wove", "straw"),
    ("whistle", "carve", "carved", "wood"),
    ("hat", "sew", "sewed", "felt"),
    ("candle", "make", "made", "wax"),
    ("bracelet", "make", "made", "beads"),
    ("pillow", "sew", "sewed", "feathers"),
)


def gift(t: Teller) -> None:
    """It is a friend's birthday and there is no money: the hero makes the gift."""
    opening(t)
    noun, make, made, material = t.rng.choice(MATERIALS)
    t.use(t=Thing(noun, t.rng.choice(COLOURS)), make=make, made=made, material=material, c=t.rng.choice(FOODS))
    t.say("{h.His} best friend was {f.intro}.", "{h} had a very good friend, {f.intro}.")
    t.paragraph()
    morning(t)
    t.say(
        '"Tomorrow is {f}\'s birthday," said {h.his} {r.kind}.',
        "{h} remembered that it would be {f}'s birthday the next day.",
    )
    t.say(
        "{h} wanted to give {f} something special, but {h.he} had no money.",
        '"I want to give {f.him} a present," said {h}, "but I have no money."',
    )
    t.say(
        "{h} went to the market and looked at all the beautiful things, but they cost too much.",
        "{h} looked in every corner, but {h.he} found nothing that was good enough.",
    )
    t.paragraph()
    t.say("Then {h} met {e.intro} {p.at}.", "{h} went {p.to} and asked {e.intro} for advice.")
    t.say(
        '"The best presents do not cost money," said {e}. "They are made with love."',
        '"Why do you not {make} something?" asked {e}. "{f} will like it more than anything from a shop."',
    )
    t.say('"I could {make} {t.a}!" said {h}.', '"That is a good idea," said {h}. "I will {make} {t.a}."')
    t.say('"I have some {material} for you," said {e}.', "{e.Cap} gave {h.him} some {material}.")
    detour(t)
    t.paragraph()
    t.say("{h} ran home and began to work.", "At home {h} sat down at the table and started at once.")
    sky(t)
    t.say(
        "The first try was not good, and {h} had to start again.",
        "It was not easy. Twice {h} made a mistake and had to start again.",
    )
    t.say(
        "But {h.he} did not give up, and late in the evening the {t} was ready.",
        "{h.He} worked until {h.his} eyes were tired, and then the {t} was ready.",
    )
    t.paragraph()
    t.say(
        "The next day there was a party at {f}'s house.",
        "The next day, all of {f}'s friends came to the party.",
    )
    t.say(
        "There were {c.many} and games, and everybody brought a present.",
        "They ate {c.many}, sang songs and played {game}.",
    )
    t.say("{o.intro} gave {f} a big box from the shop.", "{f} got many big presents from the others.")
    t.say("{h} was a little ashamed of {h.his} small present.", '"My present is so small," thought {h}.')
    t.say(
        '{f} opened it and saw the {t}. "Did you {make} it yourself?" {f.he} asked.',
        'When {f} saw the {t}, {f.his} eyes began to shine. "You {made} this for me?" {f.he} asked.',
    )
    t.say('"Yes," said {h}. "I {made} it for you."', "{h} nodded [shyly|and blushed].")
    t.say(
        '"It is the best present of all," said {f}, and {f.he} hugged {h}.',
        '"I will keep it for ever," said {f}. "Thank you, {h}!"',
    )
    moral(
        t,
        "a gift made with love is the best gift",
        "it is not the price of a present that counts",
        "love cannot be bought",
    )
    bedtime(t, "the {t} and {f}'s happy face")


def trade(t: Teller) -> None:
    """A chain of trades: every owner and every thing is kept in order."""
    opening(t)
    nouns = t.rng.sample(TRADES, 4)
    things = [make_thing(t.rng, [n]) for n in nouns]
    t.use(a=things[0], b=things[1], c=things[2], d2=things[3])
    t.say(
        "{h} had {a.a}, but {h.he} did not use it any more.",
        "One day {h} found {a.a} in the house that nobody needed.",
        "{h} had {a.a}, but what {h.he} really wanted was {d2.a}.",
    )
    wanted = t.paragraphs[-1][-1].endswith(t.fill("{d2.a}."))
    t.paragraph()
    morning(t)
    t.say("{h} took the {a} and went {p.to}.", "{h} went {p.to} with the {a}.")
    t.say("There {h.he} met {f.intro}, who had {b.a}.", "There {h.he} saw {f.intro}. {f.He} was carrying {b.a}.")
    t.say(
        '"What a nice {a.bare}!" said {f}. "I need one so much. Will you trade it for my {b}?"',
        '"I have looked for {a.a} for so long," said {f}. "I will give you my {b} for it."',
    )
    t.say('"Yes, gladly," said {h}.', '"That is a good trade," said {h}.')
    t.say("So {h} gave {f} the {a} and got the {b}.", "{f} took the {a}, and {h} took the {b}.")
    sky(t)
    detour(t)
    t.paragraph()
    t.say("{h} walked on with the {b} and came {q.to}.", "With the {b}, {h} went on {q.to}.")
    t.say("There sat {o.intro}, who was very sad.", "There {h.he} met {o.intro}. {o.He} was crying.")
    t.say(
        '"My {b.bare} is broken, and I need a new one," said {o}. "I have only this {c}."',
        '"I need {b.a}, but I have only {c.a}," said {o}.',
    )
    t.say(
        '"Then take mine," said {h}, "and I will take your {c.bare}."',
        '"Do not be sad," said {h}. "You can have my {b} for your {c}."',
    )
    t.say(
        "{o} was very happy. Now {o.he} had the {b} and {h} had the {c}.",
        "So {o} got the {b}, and {h} got the {c}.",
    )
    t.paragraph()
    t.say("At last {h} came {s.to} and met {e.intro}.", "In the afternoon {h} came to the house of {e.intro}.")
    t.say(
        '"That is just the {c.bare} I have been looking for," said {e}.',
        '"What a beautiful {c.bare}!" said {e}. "I had one like that when I was young."',
    )
    t.say(
        '{h} saw that {e} liked the {c} very much. "I give it to you," {h.he} said. "It is a present."',
        '"You may have it," said {h}. "I do not want anything for it."',
    )
    t.say(
        '"You are very kind," said {e}. "Then you shall have a present too." And {e.he} gave {h} {d2.a}.',
        '{e.Cap} smiled, went to an old box and took out {d2.a}. "This is for you," {e.he} said.',
    )
    if wanted:
        t.say(
            "It was just what {h} had always wanted!",
            "{h} could not believe it. {h.He} had wanted {d2.a} for so long!",
        )
    else:
        t.say(
            "{h} was so happy that {h.he} danced all the way home.",
            "{h} thanked {e} and went home happily with the {d2}.",
        )
    t.say(
        "In the morning {h.he} had {a.a}, and in the evening {h.he} had {d2.a}.",
        "First the {a}, then the {b}, then the {c}, and now the {d2}!",
    )
    moral(
        t,
        "what is useless to one is a treasure to another",
        "those who give with a good heart receive more",
        "everybody can be happy after a fair trade",
    )
    bedtime(t, "{f} with the {a}, {o} with the {b} and {e} with the {c}")


DISHES = (
    ("vegetable soup", ("some carrots", "an onion", "a potato", "a little salt", "some beans")),
    ("apple cake", ("some flour", "three eggs", "a bag of sugar", "two apples", "a piece of butter")),
    (
        "honey bread",
        ("some flour", "a jar of honey", "a jug of milk", "a handful of nuts", "a pinch of salt"),
    ),
    ("berry pie", ("a basket of berries", "some flour", "a piece of butter", "two eggs", "a cup of cream")),
    ("pancakes", ("some flour", "four eggs", "a jug of milk", "a jar of jam", "a piece of butter")),
    (
        "mushroom stew",
        ("some mushrooms", "an onion", "a cup of cream", "a handful of herbs", "a little pepper"),
    ),
)


def cooking(t: Teller) -> None:
    """Three things are missing for a dish; each is got from somebody, and all eat together."""
    opening(t)
    dish, needs = t.rng.choice(DISHES)
    x, y, z = t.rng.sample(needs, 3)
    t.use(dish=dish, x=x, y=y, z=z)
    t.paragraph()
    morning(t)
    t.say(
        "{h} wanted to make {dish} for {h.his} {r.kind}, who was ill.",
        "{h} was hungry and wanted to make {dish}.",
        '"Today I will make {dish}," said {h}.',
    )
    t.say(
        "But when {h.he} looked in the kitchen, three things were missing: {x}, {y} and {z}.",
        '"I still need {x}, {y} and {z}," {h.he} said.',
    )
    t.say("So {h} took a basket and went out.", "{h} put on {h.his} [coat|hat|shoes] and took a basket.")
    t.paragraph()
    t.say("First {h.he} went {p.to} and met {f.intro}.", "{p.at} {h.he} met {f.intro}.")
    t.say('"Do you have {x} for me?" asked {h}.', '"Good morning, {f}. I need {x}," said {h}.')
    t.say(
        '"Yes," said {f}, "but first you must help me to carry this wood."',
        '"I have," said {f}. "Will you help me to sweep the floor first?"',
        '"Of course," said {f}. "You helped me last week."',
    )
    if "first" in t.paragraphs[-1][-1]:
        t.say("{h} helped, and {f} put {x} in the basket.", "They worked together, and then {h} got {x}.")
    else:
        t.say("{f} went into the house and came back with {x}.", "And {f} put {x} in the basket.")
    sky(t)
    t.paragraph()
    t.say("Then {h} went on {q.to}. There lived {o.intro}.", "Next, {h} came {q.to} and saw {o.intro}.")
    t.say('"Could you give me {y}?" {h.he} asked.', '"I am making {dish}, and I need {y}," {h.he} said.')
    t.say(
        '"I will give you {y} if I can have a plate of {dish}," said {o}.',
        '"Gladly," said {o}, "but may I come and eat with you?"',
    )
    t.say(
        '"You are welcome," said {h}. Now only {z} had to be found.',
        '"Of course you can," said {h}, and {h.he} got {y}.',
    )
    detour(t)
    t.paragraph()
    t.say(
        "At last {h} went to see {e.intro} and asked for {z}.",
        'In the end {h} came to the house of {e.intro}. "Please, do you have {z}?" {h.he} asked.',
    )
    t.say(
        "{e.Cap} looked in the kitchen and found {z}.",
        '"You are lucky," said {e}. "I have just what you need."',
    )
    t.say(
        "Now {h} had everything: {x}, {y} and {z}.",
        "Now the basket was full. {h} carried {x}, {y} and {z} home.",
    )
    t.paragraph()
    t.say("At home {h} lit the fire and began to cook.", "{h} ran home and began to cook.")
    t.say("Soon the whole house smelled of {dish}.", "The smell of {dish} came out of the window.")
    t.say(
        "{f}, {o} and {e} came and sat down at the table.",
        "There was a knock at the door. {f}, {o} and {e} had come to eat.",
    )
    t.say(
        '"This is the best {dish} that I have ever eaten," said {f}.',
        "They ate and laughed until nothing was left.",
    )
    moral(
        t,
        "food tastes best when it is shared",
        "with the help of others everything is possible",
        "many small gifts make a big meal",
    )
    bedtime(t, "the {dish} and all the friends at the table")


SKILLS = (
    ("swim", "swam", "across the pond"),
    ("whistle", "whistled", "a whole song"),
    ("ride a bicycle", "rode", "all the way down the street"),
    ("skate", "skated", "in a big circle"),
    ("play the drum", "played", "at the village party"),
    ("juggle", "juggled", "with three balls"),
    ("climb a rope", "climbed", "up to the very top"),
    ("jump over the fence", "jumped", "high over the fence"),
    ("read", "read", "a whole page aloud"),
    ("dance", "danced", "in front of everybody"),
    ("row a boat", "rowed", "around the little island"),
)


SKILL_PLACES = {
    "swim": Place("pond", "by"),
    "row a boat": Place("lake", "on"),
    "skate": Place("skating rink", "on"),
    "ride a bicycle": Place("playground", "on"),
    "jump over the fence": Place("meadow", "in"),
}


def skill(t: Teller) -> None:
    """The hero learns to do something by trying again and again."""
    opening(t)
    what, did, end = t.rng.choice(SKILLS)
    t.use(p=SKILL_PLACES.get(what, t.cast["p"]))
    t.use(skill=what, did=did, end=end, n=t.rng.choice(("three", "five", "ten", "twenty")))
    t.say(
        "There was one thing that {h} wanted to learn. {h.He} wanted to {skill}.",
        "More than anything, {h} wanted to {skill}.",
    )
    t.say(
        "{h.His} friend {f} could {skill} very well.",
        "{h.His} friend {f} and all the others could {skill} already, only {h} could not.",
    )
    t.paragraph()
    morning(t)
    t.say(
        "{h} went {p.to} and tried to {skill} for the first time.",
        '"Today I will learn to {skill}," said {h}, and {h.he} went {p.to}.',
    )
    t.say(
        "It did not go well.",
        "But it was much harder than {h.he} had thought.",
        "{h.He} tried {n} times, but it did not work.",
    )
    t.say(
        '{o.intro} saw it and laughed. "You will never learn it," {o.he} said.',
        '{o.intro} came by. "Give up," said {o}. "It is too hard for you."',
    )
    t.say(
        "{h} went home and cried.",
        '{h} felt very sad. "I cannot do it," {h.he} said.',
        "{h} sat down and did not want to try any more.",
    )
    sky(t)
    t.paragraph()
    t.say("Then {e.intro} came by.", "{e.intro} had seen everything and sat down beside {h.him}.")
    t.say(
        '"Do you know how many times I fell before I could {skill}?" asked {e}.',
        '"Nobody can {skill} on the first day," said {e}.',
    )
    t.say(
        '"Begin with a small step," {e.he} said. "Try a little every day."',
        '"Do not think of the end," {e.he} said. "Think only of the next small step."',
    )
    t.say('"I will try again," said {h}.', "{h} dried {h.his} tears and nodded.")
    detour(t)
    t.paragraph()
    t.say(
        "The next day {h} tried again, and it went a little better.",
        "On the first day, {h} could do it for a moment. On the second day, it was a little longer.",
    )
    t.say("{h} practised every morning and every evening.", "Every day {h.he} went {p.to} and practised.")
    t.say(
        "Sometimes {h.he} fell, but {h.he} always got up again.",
        "Sometimes it went wrong, but {h.he} did not give up.",
    )
    t.maybe(0.6, "{f} helped {h.him} and showed {h.him} a trick.", '"You are getting better," said {f}.')
    t.paragraph()
    t.say("After {n} days it happened: {h} {did} {end}!", "And one day {h} {did} {end}!")
    t.say('"I can do it!" {h.he} shouted. "I can {skill}!"', "Everybody clapped, and {h} was very proud.")
    t.say(
        '"I was wrong," said {o}. "Can you show me how to do it?" '
        '"Of course," said {h}. "You must begin with a small step."',
        'Even {o} clapped. "I am sorry for what I said," {o.he} said. '
        '{h} smiled at {o}. "Come, I will teach you too," {h.he} said.',
    )
    moral(
        t,
        "you can learn everything if you do not give up",
        "big things begin with small steps",
        "it is not bad to fall if you get up again",
    )
    bedtime(t, "how {h.he} had learned to {skill}")


BUILDINGS = (
    ("tree house", "some boards", "a hammer"),
    ("raft", "some logs", "a rope"),
    ("little bridge", "some planks", "a saw"),
    ("snowman", "a carrot for the nose", "a spade"),
    ("sandcastle", "some shells", "a bucket"),
    ("birdhouse", "a small board", "a saw"),
    ("cart", "four wheels", "a hammer"),
    ("swing", "a wooden seat", "a rope"),
    ("hut", "some branches", "a ladder"),
)


def building(t: Teller) -> None:
    """Two friends build something, quarrel, and finish it together."""
    buildings = [
        b
        for b in BUILDINGS
        if (b[0] == "snowman") <= (t.weather.adjective == "snowy") and (b[0] != "sandcastle" or t.weather.fair)
    ]
    opening(t)
    what, material, tool = t.rng.choice(buildings)
    t.use(b=what, material=material, tool=tool, itstool="the " + tool.split(" ", 1)[1], c=t.rng.choice(FOODS))
    t.say("{h.His} best friend was {f.intro}.", "{h} often played with {f.intro}.")
    t.paragraph()
    morning(t)
    t.say(
        '"Let us build a {b}!" said {h}.',
        '"What shall we do today?" asked {f}. "We could build a {b}," said {h}.',
    )
    t.say(
        "They went {p.to}. {h} brought {material}, and {f} brought {tool}.",
        "{h} found {material}, {f} got {tool}, and they met {p.at}.",
    )
    t.say(
        "They began to work, and they sang a song.",
        "First everything went well.",
        "They worked hard all morning.",
    )
    sky(t)
    t.paragraph()
    t.say(
        'But then {f} said, "The {b} must be bigger." "No," said {h}, "it must be smaller."',
        'But soon they began to quarrel. "You do it all wrong," said {f}. "No, you do it wrong," said {h}.',
    )
    t.say(
        '"Then I will build my own!" cried {f}, and {f.he} took {itstool} and went away.',
        "{f} was so angry that {f.he} took {itstool} and left.",
    )
    t.say(
        "{h} was angry too. {h.He} tried to go on alone.",
        '"I do not need you," said {h}, and {h.he} worked alone.',
    )
    t.say(
        "But without {itstool}, {h} could not do it. Soon everything fell down.",
        "But {h} had no tool, and the {b} fell down again and again.",
    )
    t.say(
        "{f} could not build anything either, because {f.he} did not have {material}.",
        "{f} sat {q.at} with {itstool}, but {f.he} had nothing to build with.",
    )
    detour(t, 0.2)
    building_together(t)


def building_together(t: Teller) -> None:
    """An old one makes them see it; they finish the work together."""
    t.paragraph()
    t.say("{e.intro} had watched them.", "Then {e.intro} came by.")
    t.say(
        '"One has {itstool} and one has the rest," said {e}. "Alone you have nothing, '
        'but together you have everything."',
        '"Two friends who quarrel build nothing," said {e}. "Two friends who listen can build a castle."',
    )
    t.say(
        "{h} thought about it and went to find {f}.",
        "{h} was ashamed. {h.He} went {q.to} and looked for {f}.",
    )
    t.say(
        '"I am sorry," said {h}. "I did not listen to you." "I am sorry too," said {f}.',
        '"Let us not quarrel any more," said {h}. {f} smiled and gave {h.him} {itstool}.',
    )
    t.paragraph()
    t.say(
        "Now they worked together again. First they listened to {f}, and then they listened to {h}.",
        "They went back {p.to} and started again, and this time they listened to each other.",
    )
    t.say("In the afternoon the {b} was ready.", "Before the day was over, the {b} was finished.")
    t.say(
        "It was not too big and not too small. It was just right.",
        "It was the most beautiful {b} that they had ever seen.",
    )
    t.say("They sat down beside it and shared some {c.many}.", "To celebrate, they ate {c.many} together.")
    moral(
        t,
        "it is better to work together",
        "friends must listen to each other",
        "saying sorry is the best way to end a quarrel",
    )
    bedtime(t, "the {b} that they had built {p.at}")


SOUNDS = (
    ("knocking", "a branch that knocked against the window", "cut the branch"),
    ("squeaking", "the old garden gate in the wind", "put some oil on it"),
    ("scratching", "a hungry kitten at the back door", "gave it some milk"),
    ("humming", "a big beetle inside the lamp", "let it fly out"),
    ("rustling", "a hedgehog family in the dry leaves", "gave them some apples"),
    ("dripping", "water that fell into an old bucket", "emptied the bucket"),
    ("hooting", "a baby owl that had fallen from its nest", "put it back into its nest"),
    ("clattering", "a loose shutter", "tied the shutter with a string"),
)


def night_sound(t: Teller) -> None:
    """A strange sound in the night turns out to be harmless."""
    opening(t, at_once=False)
    sound, source, act = t.rng.choice(SOUNDS)
    t.use(sound=sound, source=source, act=act)
    t.say("One night, {h} could not sleep.", "One night, {h} woke up in the middle of the night.")
    t.say(
        "There was a strange sound, a soft {sound}.",
        "{h.He} heard a {sound} that {h.he} had never heard before.",
    )
    t.say('"What is that?" {h.he} whispered.', "{h} pulled the blanket over {h.his} head.")
    t.say(
        '"It must be a ghost," {h.he} thought.',
        '"Perhaps it is a monster," {h.he} thought.',
        '"Perhaps it is a thief," {h.he} thought.',
    )
    monster = next(w for w in ("ghost", "monster", "thief") if w in t.paragraphs[-1][-1])
    t.use(monster=monster)
    t.say(
        "The {sound} went on all night, and {h} did not sleep at all.",
        "In the morning the {sound} was gone, but {h} was very tired.",
    )
    t.paragraph()
    morning(t)
    t.say(
        "{h} told {h.his} friend {f} about the sound.",
        "{h} met {f.intro} {p.at} and told {f.him} everything.",
    )
    t.say('"A {monster}? I do not believe it," said {f}.', '"I am not afraid of a {monster}," said {f}.')
    t.say('"Then stay with me tonight," said {h}.', '"Come and listen with me tonight," said {h}.')
    t.say(
        '{f} thought about it. "All right," {f.he} said. "We will find out what it is."',
        '"I will," said {f}, "and I will bring my lamp."',
    )
    sky(t)
    detour(t)
    t.paragraph()
    t.say(
        "In the evening {f} came with a lamp, and they waited.",
        "When it was dark, the two of them sat on the bed and waited with a lamp.",
    )
    t.say(
        "For a long time everything was quiet. Then it began: the {sound} was back!",
        "Then they heard it, first softly and then louder. It was the {sound}!",
    )
    t.say('"That is it!" whispered {h}.', "{h} took a step back.")
    t.say(
        '"Come," said {f}. "We will go together."',
        '"Let us look," whispered {f}. {f.His} voice was shaking a little too.',
    )
    t.say("They tiptoed through the house, one step after the other.", "Slowly they went down the stairs.")
    t.say(
        "{f} held up the lamp. And what did they see? It was only {source}!",
        "{h} counted to three and opened the door. There was no {monster}. It was only {source}!",
    )
    t.say(
        "They looked at each other and began to laugh.",
        '"And I thought it was a {monster}!" said {h}, and they laughed.',
    )
    t.say("Then they {act}, and the {sound} was over.", "They {act}, and after that the night was quiet.")
    moral(
        t,
        "most things are not so bad when you look at them",
        "it is easier to be brave together",
        "it is better to look than to be afraid",
    )
    t.use(deed=t.fill("{source}"))
    t.say(
        "{h} and {f} [fell asleep|slept well] and did not hear anything until the morning.",
        "After that, {h} was never afraid of strange sounds again.",
    )


def lost_child(t: Teller) -> None:
    """A little one has lost its mother; three are asked; the description leads home."""
    opening(t)
    baby, home = t.rng.choice(
        (
            ("duckling", "the pond with the water lilies"),
            ("bear cub", "the cave behind the waterfall"),
            ("lamb", "the meadow with the white fence"),
            ("fawn", "the clearing with the tall ferns"),
            ("young owl", "the old tree with the round hole"),
            ("young beaver", "the dam in the river"),
            ("chick", "the farm with the red barn"),
            ("young mole", "the garden with the seven hills"),
            ("kitten", "the house with the yellow door"),
        )
    )
    t.use(
        b=Elder("little " + baby.replace("young ", ""), t.rng.random() < 0.5),
        nest=home,
        hint=home.split(" with ")[-1].split(" behind ")[-1].split(" in ")[-1],
        c=t.rng.choice(FOODS),
    )
    t.paragraph()
    morning(t)
    t.say("{h} went {p.to} and heard somebody crying.", "{p.at}, {h} heard a small voice. Somebody was crying.")
    t.say("It was {b.intro}, all alone.", "There sat {b.intro}. {b.He} was all alone.")
    t.say('"What is the matter?" asked {h}.', '"Why are you crying, little one?" asked {h}.')
    t.say(
        '"I want to go to my mother," said {b}, "but I do not know the way."',
        '"I have lost my mother," said {b}. "I ran too far away, and now I am lost."',
    )
    t.say(
        '"Do not cry," said {h}. "What does your home look like?"',
        '"I will take you home," said {h}. "Tell me what you remember."',
    )
    t.say(
        '"I remember {hint}," said {b}. "That is all I know."',
        '"There is {hint}," said {b}[ and dried {b.his} eyes|].',
    )
    t.maybe(0.5, "{h} gave {b.him} {c.a}, and {b} felt a little better.")
    sky(t)
    t.paragraph()
    t.say(
        'First they asked {f.intro}. "Do you know where we can find {hint}?"',
        'They walked {q.to} and met {f.intro}. "Do you know where we can find {hint}?" asked {h}.',
    )
    t.say(
        '"No," said {f}, "but I will come with you and help you."',
        '"I have never seen it," said {f}, "but three can see more than two." So {f} came along.',
    )
    detour(t)
    lost_child_home(t)


def lost_child_home(t: Teller) -> None:
    """The third who is asked knows the way."""
    t.paragraph()
    t.say(
        "Then they asked {o.intro}, but {o.he} did not know it either.",
        "{s.at} they met {o.intro}. But {o.he} shook {o.his} head.",
    )
    t.say(
        '"Ask {e.intro}," said {o}. "{e.He} knows everything."',
        '"I do not know it," said {o}, "but {e.intro} may know it."',
    )
    t.say("So they went to {e}.", "They walked and walked until they found {e}.")
    t.say(
        '"Oh yes," said {e}. "You must be looking for {nest}. Go straight on until you '
        'come {u.to}, and then turn left."',
        '"That is {nest}," said {e}. "Go past {u} and you will see it."',
    )
    t.say('"Thank you!" they all said.', "They thanked {e} and hurried on.")
    t.paragraph()
    t.say("They came {u.to}, and there it was: {nest}!", "They went past {u}, and then they saw {nest}.")
    t.say('"Mother!" cried {b}.', '"That is my home!" cried {b}, and {b.he} ran as fast as {b.he} could.')
    t.say(
        "The mother hugged {b.him} and cried with joy.",
        "The mother had been looking everywhere, and now she was very happy.",
    )
    t.say(
        '"How can I thank you?" she asked {h} and {f}. "It was nothing," said {h}.',
        '"Thank you, {h}, and thank you, {f}," she said. "You are welcome here at any time."',
    )
    moral(
        t,
        "it is good to help those who are lost",
        "if you ask, you will find the way",
        "there is no place like home",
    )
    bedtime(t, "{b} and {nest}")


def new_friend(t: Teller) -> None:
    """A newcomer is alone; the others say unkind things; the hero finds out better."""
    opening(t, at_once=False)
    t.use(c=t.rng.choice(FOODS), rumour=t.rng.choice(("proud", "strange", "unfriendly", "silly")))
    t.paragraph()
    t.say("One day, a new family moved into the house near {p}.", "One day, somebody new came to live near {p}.")
    t.say("It was {f.intro}.", "There was {f.intro}, whom nobody knew.")
    morning(t)
    t.say(
        "{f} stood {p.at} and watched the others play {game}.",
        "The others were playing {game}, but {f} sat alone {p.at}.",
    )
    t.say(
        '"{f} is {rumour}," said {h}\'s friend {o}. "{f.He} never says a word."',
        '"Do not talk to {f.him}," {h}\'s friend {o} said to {h}. "{f.He} is {rumour}."',
    )
    t.say(
        "{h} looked at {f}. {f.He} did not look {rumour}. {f.He} looked lonely.",
        '"Perhaps {f.he} is only shy," said {h}.',
    )
    sky(t)
    t.paragraph()
    t.say(
        'So {h} went over to {f}. "Hello," {h.he} said. "My name is {h}."',
        "The next day {h} took two {c.many} and sat down beside {f}.",
    )
    t.say(
        '{f} looked up in surprise. "Hello," {f.he} said in a very small voice.',
        "First {f} said nothing. Then {f.he} smiled a little.",
    )
    t.say(
        '"Do you like {c.many}?" asked {h}. "I like them very much," said {f}.',
        "{h} gave {f} {c.a}, and {f} said thank you.",
    )
    t.say(
        '"What do you like to do?" asked {h}. "I love to {hobby}," said {f}.',
        '"I love to {hobby}," said {h}. "So do I!" cried {f}, and {f.his} eyes began to shine.',
    )
    t.say(
        '"Why do you never play with us?" asked {h}. "Nobody asked me," said {f}.',
        '"I did not know how to make friends," said {f}. "In my old home I knew everybody."',
    )
    detour(t, 0.25)
    t.paragraph()
    t.say(
        '{h} took {f} to the others. "This is {f}," {h.he} said. "Let {f.him} play too."',
        '"Come with me," said {h}, and they went to the others together.',
    )
    t.say("{o} was not sure at first.", "At first {o} did not want to.", "{o} looked at the ground.")
    t.say(
        "But soon they all played {game} together, and {f} was very good at it.",
        "But {f} knew a new game, and it was so much fun that they played until the evening.",
    )
    t.say(
        '"I was wrong," said {o} to {f}. "You are not {rumour} at all."',
        '"I am sorry," {o} said to {f}. "I said that you were {rumour}, and it was not true."',
    )
    t.say('"That is all right," said {f}. "Now we know each other."', "{f} laughed and was not angry.")
    moral(
        t,
        "you must get to know somebody before you judge",
        "a kind word can open a door",
        "the best friends are sometimes the quiet ones",
    )
    bedtime(t, "{f} and how nice {f.he} was")


PLANTS = (
    ("sunflower", "as tall as the house", "its golden head turned to the sun"),
    ("pumpkin", "as big as a wheel", "it was round and orange"),
    ("apple tree", "taller than the fence", "it was full of red apples"),
    ("bean plant", "up to the window", "it was full of long green beans"),
    ("rose bush", "over the garden wall", "it had a hundred red roses"),
    ("cherry tree", "up to the roof", "it was full of dark cherries"),
)


def garden(t: Teller) -> None:
    """A seed needs patience."""
    opening(t, at_once=False)
    plant, tall, end = t.rng.choice(PLANTS)
    t.use(plant=plant, tall=tall, end=end, n=t.rng.choice(("Three", "Five", "Seven", "Ten")))
    t.paragraph()
    t.say(
        "One day in spring, {e.intro} gave {h} a small seed.",
        "One spring morning, {h} met {e.intro} {p.at}, who gave {h.him} a small seed.",
    )
    t.say(
        '"What is it?" asked {h}. "It will be a big {plant}," said {e}, "if you take good care of it."',
        '"Put it in the ground and wait," said {e}. "It will be a beautiful {plant}."',
    )
    t.say(
        "{h} ran home, dug a hole in the garden and put the seed in it.",
        "At home {h} looked for a sunny place in the garden and planted the seed.",
    )
    t.say("Then {h.he} gave it some water.", "{h.He} covered it with earth and watered it.")
    t.say(
        '"Now grow!" said {h}, and {h.he} sat down to watch.',
        "{h} sat down beside it and waited for the {plant}.",
    )
    t.say("But nothing happened.", "{h.He} waited until the evening, but {h.he} saw only earth.")
    t.paragraph()
    t.say(
        "The next day {h} looked again. There was still nothing.",
        "{n} days went by, and still there was nothing to see.",
    )
    t.say(
        '"The seed is bad," said {h}. "I will dig it up and throw it away."',
        "{h} was angry. {h.He} took a spade and wanted to dig the seed up.",
    )
    t.say("But {h.his} friend {f} stopped {h.him}.", 'But {h.his} friend {f} said, "Wait!"')
    t.say(
        '"A seed sleeps before it wakes up," said {f}. "You must have patience."',
        '"You cannot see it, but it is working under the ground," said {f}.',
    )
    t.say('"All right," said {h}. "I will wait a little longer."', "{h} put the spade away.")
    t.say(
        "Every morning {h} gave the seed some water, and every evening {h.he} said good night to it.",
        "{h} watered it every day, and {f} helped {h.him} to pull out the weeds.",
    )
    detour(t, 0.3)
    t.paragraph()
    t.say(
        "Then, one morning, there was a tiny green leaf!",
        "One morning {h} saw something small and green. It was a leaf!",
    )
    t.say(
        '"It is growing!" {h.he} shouted, and {h.he} ran to tell {f}.',
        "{h} was so happy that {h.he} danced around it.",
    )
    t.say("The plant grew and grew.", "Week after week it grew a little more.")
    t.say(
        "One night a storm came, and {h} tied the plant to a stick so that it would not break.",
        "Once it was very hot and dry, and {h} carried water to it three times a day.",
        "Once a hungry snail came, but {h} carried it {q.to}, where it could eat other leaves.",
    )
    t.say(
        "In the summer the {plant} was {tall}, and {end}.",
        "At the end of the summer the {plant} was {tall}, and {end}.",
    )
    t.paragraph()
    t.say("{h} invited {f} and {e} to see it.", '{e.Cap} came to see it. "You have done well," {e.he} said.')
    t.say(
        '"You had patience," said {e}. "That is the secret of every garden."',
        '"I almost dug it up," said {h}, "but {f} stopped me."',
    )
    t.say("{h} gave {f} a new seed as a present.", "They sat beside the {plant} and were happy.")
    moral(t, "good things need time", "patience makes small things big", "you must wait for what you love")
    t.maybe(
        0.6,
        "And the next spring, {h} planted a new seed.",
        "And every spring {h} remembered the day when the first green leaf came out.",
    )


def errand(t: Teller) -> None:
    """Something has to be carried to a relative, past places named by the way, and a promise is kept."""
    opening(t)
    t.use(c=t.rng.choice(FOODS), k=t.rng.choice(("grandmother", "aunt", "godmother")), g=make_thing(t.rng, TOYS))
    t.paragraph()
    morning(t)
    t.say(
        '"Please take these {c.many} to your {k}," said {h}\'s mother.',
        '{h}\'s mother gave {h.him} a basket of {c.many}. "Take them to your {k}," she said.',
    )
    t.say(
        '"Go past {p} and then turn [left|right] at {q}," she said.',
        '"First you come {p.to}, and then {q.to}," she said. "From there you can see the house."',
    )
    t.say(
        '"And promise me that you will not stop on the way," she said.',
        '"But do not eat any of them," she said with a smile.',
        '"Be home before it is dark," she said.',
    )
    promise = next(w for w in ("stop", "eat", "dark") if w in t.paragraphs[-1][-1])
    t.say('"I promise," said {h}, and {h.he} took the basket.', "{h} promised it and went off with the basket.")
    sky(t)
    t.paragraph()
    t.say("Soon {h} came {p.to}. There {h.he} met {f.intro}.", "{p.at}, {f.intro} was waiting.")
    errand_temptation(t, promise)
    t.say("So they went on together.", "{f} thought about it and came along.")
    detour(t)
    errand_obstacle(t)
    t.paragraph()
    t.say(
        "At last they came to the house and knocked at the door.",
        "Then they saw the house, with smoke coming out of the chimney.",
    )
    t.say('"{h}! What a nice surprise," said {h.his} {k}.', "{h.His} {k} opened the door and hugged {h.him}.")
    t.say(
        '"And {c.many}, my favourite!" she said. "Come in, both of you."',
        "She put the {c.many} on the table and gave one to {h} and one to {f}.",
    )
    t.say(
        "{h} told her about the way and about the promise.",
        "They sat by the fire and told her about the way.",
    )
    t.say(
        '"Because you kept your promise, I have something for you," she said, and she gave {h} {g.a}.',
        'Before they left, she gave {h} {g.a}. "This is for somebody who keeps a promise," she said.',
    )
    t.say(
        "Then the two friends walked home before it was dark.",
        "They thanked her and were home before the stars came out.",
    )
    moral(
        t,
        "a promise must be kept",
        "a long way is short with a friend",
        "those who keep a promise are trusted",
    )
    bedtime(t, "the {g} and the way to {h.his} {k}")


def errand_temptation(t: Teller, promise: str) -> None:
    """A friend asks the hero to break the promise not to stop, not to eat, or to be home before dark."""
    if promise == "stop":
        t.say(
            '"Come and play {game} with me," said {f}.',
            '"Stay a little and play {game} with us," called {f}.',
        )
        t.say(
            '"I would love to," said {h}, "but I promised not to stop. Walk with me!"',
            '"I cannot stop now," said {h}, "but you can come with me."',
        )
    elif promise == "eat":
        t.say(
            '"Those {c.many} smell good. Let us eat some," said {f}.',
            '"Nobody will see it if we eat one," said {f}.',
        )
        t.say(
            '"No," said {h}, "they are for my {k}, and I promised. But you can come with me."',
            '"I promised not to," said {h}. "But come along, perhaps my {k} will give us one."',
        )
    else:
        t.say(
            '"Come and play {game} with me," said {f}. "It will not be dark for a long time."',
            '"Let us go {s.to}," said {f}. "There is so much time."',
        )
        t.say(
            '"I promised to be home before dark," said {h}, "but you can walk with me."',
            '"First I must go to my {k}," said {h}. "Come with me."',
        )


def errand_obstacle(t: Teller) -> None:
    """Something is in the way, and they get past it together."""
    t.paragraph()
    t.say(
        "When they came {q.to}, the path was blocked by a fallen tree.",
        "{q.at} there was a deep ditch full of water, and they could not go on.",
        "{q.at} a big goose stood in the way and would not let them go by.",
    )
    block = t.paragraphs[-1][-1]
    if "fallen tree" in block:
        t.say(
            "They pushed with all their strength, but the tree did not move. Then {f} found a "
            "small gap, and they crawled through.",
            '"I will climb over it, and you give me the basket," said {f}. And that is what they did.',
        )
    elif "ditch" in block:
        t.say(
            "They found a strong board and put it over the ditch. {h} carried the basket across, step by step.",
            "{f} jumped first. Then {h} handed over the basket and jumped too.",
        )
    else:
        t.say(
            "{f} was afraid, but {h} spoke kindly to the goose. In the end it stepped aside.",
            "{h} bowed and said good morning. The goose was so surprised that it stepped aside.",
        )
    t.say("Not one of the {c.many} was lost.", "All the {c.many} were still in the basket.")


def cry_wolf(t: Teller) -> None:
    """The hero tricks the others twice; the third time it is true."""
    opening(t)
    danger, true = t.rng.choice(
        (
            ("The house is on fire", "smoke coming out of the window"),
            ("The river is coming over the bank", "water running over the grass"),
            ("A bull is loose", "a big bull running across the field"),
            ("The bridge is falling", "a crack in the middle of the bridge"),
        )
    )
    t.use(danger=danger, true=true)
    t.say(
        "{h} liked to play tricks on others.",
        "But sometimes {h} was bored, and then {h.he} played tricks on the others.",
    )
    t.paragraph()
    morning(t)
    t.say(
        '{h} wanted to have some fun. "{danger}!" {h.he} shouted. "Help!"',
        'All at once {h} shouted, "Help, help! {danger}!"',
    )
    t.say(
        "{f} and {o} left their work {p.at} and came running.",
        "{f}, who was working {p.at}, and {o}, who was resting {q.at}, ran as fast as they could.",
    )
    t.say("But nothing had happened. {h} only laughed.", '"It was only a joke," said {h}, and {h.he} laughed.')
    t.say('"That is not funny," said {f}.', "{f} and {o} went back and were angry.")
    sky(t)
    t.paragraph()
    t.say(
        '[The next day|A few days later], {h} did it again. "{danger}!" {h.he} shouted.',
        'After lunch {h} shouted once more, "{danger}!"',
    )
    t.say(
        "Again {f} and {o} came running, and again it was not true.",
        "{f} and {o} came as fast as before, but {h} was sitting there and laughing.",
    )
    t.say(
        '"One day nobody will come," said {o}.',
        '"If you go on like this, nobody will believe you," said {o}.',
    )
    t.say("{h} did not listen.", '"You are no fun," said {h}.')
    detour(t, 0.25)
    cry_wolf_true(t)


def cry_wolf_true(t: Teller) -> None:
    """This time it is true, and only one believes it."""
    t.paragraph()
    t.say("Then one afternoon {h} saw {true}.", "But the day after that, {h} really saw {true}.")
    t.say(
        '"{danger}!" {h.he} shouted. "This time it is true!"',
        '"Help! {danger}!" {h.he} cried with all {h.his} strength.',
    )
    t.say(
        'But nobody came. "It is only a joke again," said {f}.',
        '{f} heard it and shook {f.his} head. "I will not go there again," {f.he} said.',
    )
    t.say(
        '{h} ran to {e.intro} and cried, "Please believe me!"',
        "Only {e.intro} looked up and saw that {h} was crying.",
    )
    t.say(
        '"I see in your eyes that it is true," said {e}, and {e.he} rang the big bell.',
        "{e.Cap} looked into {h.his} eyes and understood. {e.He} rang the bell, and everybody came.",
    )
    t.say("Together they worked until the danger was over.", "They all helped, and nobody was hurt.")
    t.paragraph()
    t.say(
        '"I am so sorry," said {h}. "I will never play such a trick again."',
        "{h} stood in front of {f} and {o} and said that {h.he} was sorry.",
    )
    t.say(
        '"We were afraid for you," said {f}. "Now we are friends again."',
        '{f} gave {h.him} a hug. "We believe you now," {f.he} said.',
    )
    t.say("And {h} kept {h.his} word.", "From that day on, {h} always told the truth.")
    moral(
        t,
        "nobody believes those who lie, even when they tell the truth",
        "a joke is only good when everybody can laugh",
        "trust is easy to lose and hard to win",
    )
    bedtime(t, "the big bell and the kind eyes of {e}")


def shelter(t: Teller) -> None:
    """In a storm one after another asks for shelter; there is always room for one more."""
    opening(t, alone=True, at_once=False)
    t.use(
        c=t.rng.choice(FOODS),
        storm=t.rng.choice(
            ("storm", "snowstorm") if t.weather.adjective in ("snowy", "cold") else ("storm", "thunderstorm")
        ),
    )
    t.say(
        "{h.His} house was very small. There was one bed, one table and one chair.",
        "It was a tiny house with one little room.",
    )
    t.paragraph()
    t.say("One evening a great {storm} came.", "One night there was a terrible {storm}.")
    t.say("{h} sat by the fire and was glad to be inside.", "{h} closed the windows and lit a candle.")
    t.say("Then somebody knocked at the door.", "Knock, knock! Somebody was at the door.")
    t.say(
        'It was {f.intro}. "Please let me in," said {f}. "I am so cold."',
        'There stood {f.intro}. "May I come in?" asked {f}. "I am wet and cold."',
    )
    t.say(
        '"The house is small, but there is room for two," said {h}.',
        '"Come in quickly," said {h}. "You can sit on the chair."',
    )
    t.say("{h} gave {f.him} a warm blanket and {c.a}.", "{f} sat down by the fire and soon felt better.")
    t.paragraph()
    t.say(
        "After a while there was another knock. It was {o.intro}.",
        "They had just sat down when {o.intro} knocked at the window.",
    )
    t.say('"The wind has blown my roof away," said {o}.', '"I have lost my way in the {storm}," said {o}.')
    t.say('"There is no more room," said {f}.', '"But the house is full," whispered {f}.')
    t.say(
        '"Where there is room for two, there is room for three," said {h}. "Come in!"',
        '"If we move closer, there is room for one more," said {h}.',
    )
    t.say("So they moved closer, and {o} sat down between them.", "{o} thanked {h} and sat down on the floor.")
    t.paragraph()
    t.say("Late at night there was a third knock, very softly.", "Then they heard a third knock.")
    t.say("It was {e.intro}, who was very tired.", "In front of the door stood {e.intro}, shaking with cold.")
    t.say(
        '"Come in," said {f} and {o} at the same time.',
        'This time it was {f} who opened the door. "There is room for one more," {f.he} said.',
    )
    t.say(
        "Now the little house was full, but it was warm.",
        "They sat very close together, and nobody was cold any more.",
    )
    t.say(
        "{h} shared the last {c.many}, and {e} told stories from long ago.",
        "They ate {c.many} and sang songs, and they forgot the {storm}.",
    )
    t.paragraph()
    t.say("In the morning the {storm} was over.", "When the sun came up, the sky was clear again.")
    t.say("But the {storm} had broken {h}'s fence.", "Then {h} saw that a tree had fallen on {h.his} roof.")
    thing = "fence" if "fence" in t.paragraphs[-1][-1] else "roof"
    t.use(part=thing)
    t.say(
        '"Do not worry," said {f}. "You helped us, and now we will help you."',
        '"We will mend it together," said {o}.',
    )
    t.say(
        "All four of them worked, and by noon the {part} was as good as new.",
        "{f} brought wood, {o} brought nails, {e} brought a hammer, and soon the {part} was mended.",
    )
    moral(
        t,
        "there is always room for a friend",
        "a small house with friends is better than a big house without",
        "kindness keeps you warm",
    )
    t.maybe(
        0.7,
        "From then on, {f}, {o} and {e} often came to visit {h}.",
        "And every time there was a {storm}, they all met in {h}'s little house.",
    )


PLOTS: tuple[Callable[[Teller], None], ...] = (
    lost_thing,
    sharing,
    rescue,
    fear,
    broken,
    race,
    gift,
    trade,
    cooking,
    skill,
    building,
    night_sound,
    lost_child,
    new_friend,
    garden,
    errand,
    cry_wolf,
    shelter,
)
