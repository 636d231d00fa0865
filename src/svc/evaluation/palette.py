"""Colours and markers of plots with several lines."""

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
    "#8a8a00",
)
"""Okabe and Ito's palette, which people with any colour vision tell apart; its yellow, too light on
white, is darkened and comes last."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
