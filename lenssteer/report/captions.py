"""What is on the axes and what to look for, for a reader who sees such figures for the first time."""

HEADLINE = (
    "A strong method brings refusals of harmful requests down and answers on form up, while harmless requests are "
    "answered as exactly as before. Small numbers are 95% Wilson intervals, in percent: the true shares that fit "
    "what was counted."
)
COMPARISON = (
    "The same results as bars: one group a method, one colour a rate, with thin lines for the 95% intervals. Look for "
    "a long blue bar (harmful requests answered on form) and a long green bar (harmless requests still answered "
    "exactly). Click a name in the legend to show or hide its bars."
)
CIRCLE = (
    "The angle around each circle is the setting of a rotation; the distance from the centre is the share of answers, "
    "from 0% in the centre to 100% at the rim. Look for angles where a line falls to the centre on the circle of "
    "refusals and reaches the rim on the circle of answers on form."
)
CIRCLE_ZERO = (
    "Selective steering turns activations by the angle, so 0° changes nothing. The angular methods turn them to the "
    "angle, so their 0° is a setting like any other."
)
LAYERS = (
    "From left to right are the places in the network (sites) where activations were read. The height is how far the "
    "activations of each kind of request point, on average, along one direction that is the same for all sites. At a "
    "discriminative site (shaded) the two kinds lie on opposite sides of zero; depending on the rule, a layer counts "
    "only when this holds at all of its sites. Look for where the two lines part."
)
TEXTS = "The same request, answered with and without steering. Answers are shown as they came."
RECEIPTS = (
    "A receipt counts what an edit did while the answers were made: the tokens that passed a site, those that were "
    "selected, and those whose activation changed. The last columns are means over changed tokens: how far the "
    "activation moved, by what angle, and its length after the edit over its length before (1 for a rotation)."
)
