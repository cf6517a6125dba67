"""The look of figures: colours, and text that is cut where it is too long."""

from reports.figures.fonts import Face

INK, MUTED, ALARM, PAPER, EMPTY = "#1d1d1b", "#75746e", "#a8321e", "#ffffff", "#f4f3ef"


def cut(text: str, face: Face, width: float) -> str:
    """`text`, or as much of its start as fits with an ellipsis."""
    text = text[: 1 + max(0, int(width))]  # letters are wider than a pixel, and a hostile name may be very long
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
