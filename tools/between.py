"""Text between two marker comments of a manual page: what is generated, and checked by a test."""

BEGIN, END = '.\\" generated: {name}\n', '.\\" end of {name}\n'


def find(page: str, name: str) -> str:
    """The text between the markers; ValueError where they are not there."""
    start = page.index(BEGIN.format(name=name)) + len(BEGIN.format(name=name))
    return page[start : page.index(END.format(name=name), start)]


def replace(page: str, name: str, text: str) -> str:
    """The page with another text between the markers."""
    return page.replace(
        BEGIN.format(name=name) + find(page, name) + END.format(name=name),
        BEGIN.format(name=name) + text + END.format(name=name),
    )
