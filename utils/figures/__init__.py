"""Pictures for the notebooks: `plots`, `neurons`, and `views` of tables too large to draw. (`circuits.interactive` has those that move.)"""

from collections.abc import Callable

# A notebook's column is 848 pixels wide in a window of 1280. A picture has twice the dots, for screens (or a zoom) that show them.
WIDTH = 8.5  # inches, of PIXELS each
PIXELS, DENSITY = 100, 2

# Called whenever a figure is about to be drawn: here the course adds how its notebooks show one (circuits/pictures.py).
before_drawing: list[Callable[[], None]] = []
