"""What the camera saw, alone for the page and with its label for the window."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from vitedge.classifier import Ranking
from vitedge.images.preprocess import ImageLike, open_image
from vitedge.terminal.printable import printable

# Small images are enlarged so that the label can be read; large ones cost time to send.
WIDTH = 640
BAR_HEIGHT = 44


def sized(image: ImageLike) -> Image.Image:
    """The picture, ``WIDTH`` pixels wide."""
    picture = open_image(image).convert("RGB")
    height = max(1, round(picture.height * WIDTH / picture.width))
    return picture.resize((WIDTH, height), Image.Resampling.BILINEAR)


def labelled(image: ImageLike, ranking: Ranking) -> Image.Image:
    """The picture, ``WIDTH`` pixels wide, with its best class in a bar below it."""
    picture = sized(image)
    height = picture.height
    canvas = Image.new("RGB", (WIDTH, height + BAR_HEIGHT), "#12171c")
    canvas.paste(picture)
    label, probability = printable(ranking[0][0]), ranking[0][1]
    draw = ImageDraw.Draw(canvas)
    middle = height + BAR_HEIGHT // 2
    number = f"{probability:.0%}"
    draw.text((WIDTH - 14, middle), number, "#8fd3ff", _font(), anchor="rm")
    room = WIDTH - 28 - draw.textlength(number + "  ", _font())
    draw.text((14, middle), _fitting(draw, label, room), "white", _font(), anchor="lm")
    return canvas


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(22)  # Pillow's own: no font need be installed


def _fitting(draw: ImageDraw.ImageDraw, text: str, width: float) -> str:
    """The text, cut to a width in pixels."""
    if draw.textlength(text, _font()) <= width:
        return text
    while text and draw.textlength(text + "...", _font()) > width:
        text = text[:-1]
    return text.rstrip(", ") + "..."
