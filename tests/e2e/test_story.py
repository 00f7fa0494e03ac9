"""The story of an error in spool(7) is what happens: break, tell, group, alert, retry, history, replay."""

from __future__ import annotations

import sys

from tests.docs.mdoc import MAN, ROOT


def test_the_story_of_an_error_is_what_happens() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import between
        import story
    finally:
        sys.path.remove(str(ROOT / "tools"))
    shown = between.find((MAN / story.PAGE.name).read_text(), story.NAME)
    assert story.play() == shown, "run tools/story.py"
