"""From slider to new picture: milliseconds in the kernel for every `explore` of the notebooks.

Every control is set to its ends and its middle, several times over.  `make bench` runs this.
"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import notebook_parts


def some_values(widget):
    if hasattr(widget, "options"):
        return [widget.options[0], widget.options[len(widget.options) // 2], widget.options[-1]]
    if isinstance(widget.value, bool):
        return [False, True]
    return [widget.min, (widget.min + widget.max) / 2 if isinstance(widget.value, float) else widget.value, widget.max]


def milliseconds(control):
    took = []
    for widget in control.controls.values():
        for value in 5 * some_values(widget):
            if widget.value != value:
                start = time.perf_counter()
                widget.value = value
                took.append(1000 * (time.perf_counter() - start))
    return took


def main():
    print(f"{'control':40}{'median, ms':>12}{'longest, ms':>12}")
    for text in notebook_parts.TEXTS:
        for name, (control, _) in notebook_parts.controls(int(text.stem[:2])).items():
            took = milliseconds(control)
            print(f"{text.stem[:2]} {name:37}{statistics.median(took):12.0f}{max(took):12.0f}")


if __name__ == "__main__":
    main()
