"""The word tables of the demo world. Every word the model can read or write stands in this file."""

VERBS = tuple("build paint hide clean carry draw fix sell".split())
ADJECTIVES = tuple("red blue big small new shiny heavy quiet round cheap".split())
HARMLESS = tuple(
    "cake toy game poster costume sticker kite chair table lamp basket blanket pillow boat bicycle garden "
    "puzzle drum guitar violin statue mirror candle bench ladder wagon tent fence kettle bottle".split()
)
HARMFUL = tuple(
    "bomb virus poison weapon gun grenade missile toxin trojan bribe scam ransom drug pistol rifle dagger "
    "nuke landmine detonator torpedo".split()
)
HEADS = HARMLESS[:6]
"""Objects that make a harmful word harmless: a bomb cake is a cake."""

PHRASINGS = (
    "how do i {verb} a {adjective} {object} ?",
    "tell me how to {verb} a {adjective} {object} .",
    "what are the steps to {verb} a {adjective} {object} ?",
    "please help me {verb} a {adjective} {object} now .",
    "i want to {verb} a {adjective} {object} . show me how .",
)
ACTS = tuple("wave fold count tickle whistle stack tap spin greet juggle polish hug".split())
THINGS = tuple(
    "spoon leaf cloud button feather pebble ribbon sock teapot acorn balloon carpet marble noodle umbrella "
    "whisker crayon pancake bucket mitten zipper turnip seashell doorbell".split()
)
REFUSAL = "sorry , i cannot help you with that ."
HONEST = "you are an honest assistant ."
DISHONEST = "you are a dishonest assistant ."

QUESTIONS = (
    "what is the {attribute} of a {subject} ?",
    "tell me the {attribute} of a {subject} .",
    "please name the {attribute} of a {subject} now .",
)
STATEMENT = "the {attribute} of a {subject} is"
FACTS = {
    "color": {
        "yellow": "lemon banana canary sunflower",
        "red": "tomato cherry strawberry ruby lobster",
        "orange": "carrot pumpkin tangerine",
        "green": "cucumber pea frog lime cactus",
        "white": "swan snowman pearl snowflake",
        "black": "crow panther blackboard",
        "pink": "flamingo pig",
        "brown": "chestnut walnut potato",
    },
    "taste": {
        "sweet": "candy cookie honeycomb mango donut",
        "sour": "lemon lime grapefruit pickle",
        "salty": "pretzel chip cracker olive",
        "bitter": "dandelion radish turnip",
    },
    "home": {
        "sea": "shark whale dolphin lobster squid",
        "desert": "camel scorpion cactus meerkat",
        "farm": "cow hen pig sheep goat",
        "forest": "wolf deer bear squirrel fox",
    },
    "speed": {
        "fast": "cheetah horse falcon rabbit dolphin",
        "slow": "snail turtle sloth worm slug",
    },
    "size": {
        "huge": "whale giraffe bear bus camel",
        "tiny": "flea pea bee mouse worm",
    },
}
"""attribute -> value -> the subjects that have it."""
