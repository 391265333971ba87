"""Well-known names of columns are stored in the folded form in which they are compared."""

from llmkit.text.records import column_names


def test_known_names_are_folded_and_each_list_has_each_name_once() -> None:
    for name in ("TEXT_NAMES", "LABELLED_TEXT_NAMES", "LABEL_NAMES", "ID_NAMES", "OTHER_NAMES", "INSTRUCTION_NAMES"):
        names = getattr(column_names, name)
        assert len(set(names)) == len(names), name
        assert {*names} <= column_names.KNOWN_NAMES
        assert [each.casefold().strip() for each in names] == list(names)
