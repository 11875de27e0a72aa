"""The picture on the Pi's own screen, with Tk, which Raspberry Pi OS brings (python3-tk)."""

from __future__ import annotations

import tkinter

from PIL import Image, ImageTk


class Window:
    """A window that shows one picture after the other; closing it, or Escape, ends the app."""

    def __init__(self) -> None:
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError as error:
            raise OSError(f"there is no screen for --window ({error})") from error
        self._root.title("vitedge")
        self._root.configure(background="#12171c")
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        self._root.bind("<Escape>", lambda _: self._close())
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack(expand=True)

    def show(self, picture: Image.Image) -> bool:
        """Shows a picture; False when the window was closed."""
        if self._open:
            # Tk shows the image only as long as somebody holds it.
            self._shown = ImageTk.PhotoImage(picture, master=self._root)
            self._label.configure(image=self._shown)
            self._root.update()
        return self._open

    def _close(self) -> None:
        self._open = False
        self._root.destroy()
